#!/usr/bin/env python3
"""A fault of the machine, the options or L1's image is said in one line, and the run ends with a status."""
import os
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

L1 = os.path.join(ROOT, "build", "guests", "scenarios.elf")
KERNEL = os.path.join(ROOT, "build", "linux", "vmlinuz")
# A fast scenario, for the runs that must go well all the same.
FAST = ["--l1-args", "insn-restrictions"]
REFUSED = 1


def multiboot1_without_code(path):
    """A header that says it is an ELF image, and no ELF image behind it."""
    magic, flags = 0x1BADB002, 0
    with open(path, "wb") as file:
        for word in (magic, flags, -(magic + flags) & 0xFFFFFFFF):
            file.write(word.to_bytes(4, "little"))
        file.write(bytes(4096))


def cases(folder):
    text, short, hollow = (os.path.join(folder, name) for name in ("text", "short", "hollow"))
    with open(text, "w") as file:
        file.write("no kernel\n")
    with open(KERNEL, "rb") as kernel, open(short, "wb") as file:
        file.write(kernel.read(100000))
    multiboot1_without_code(hollow)
    yield "no module and no disk", "no module: L1 is what the BIOS boots from hd0", ["--l1", "none"]
    yield "no such disk to boot", '"fd0" is not one of hd0|hd1|cd', ["--l1", "none", "--nestor", "boot=fd0"]
    yield "a module that is no kernel", "the first module is no kernel", ["--l1", text]
    yield "a truncated bzImage", "truncated bzImage", ["--l1", short]
    yield "a multiboot image without code", "L1: ", ["--l1", hollow]
    yield "too little memory", "too little memory", ["--l1", L1, "--memory", "32"]
    yield "a carve-out larger than RAM", "too little memory", ["--l1", L1, "--nestor", "memory=4000"]
    yield "a kernel that does not fit", "L1: ", ["--l1", KERNEL, "--memory", "72"]
    yield "a CPU without EPT", "this CPU lacks a feature that Nestor needs: EPT", ["--l1", L1, "--cpu",
                                                                                 "core2_penryn_t9600"]
    yield "a CPU without long mode", "this CPU lacks long mode", ["--l1", L1, "--cpu", "pentium_mmx"]
    yield "a CPU without VMX", "this CPU lacks VMX", ["--l1", L1, "--cpu", "p4_prescott_celeron_336"]
    yield "an unknown value of an option", '"loud" is not one of err|warn|info|dbg', ["--l1", L1, "--nestor",
                                                                                      "log=loud"]
    yield "a number out of range", "memory", ["--l1", L1, "--nestor", "memory=99999999"]


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory() as folder:
        for title, wanted, args in cases(folder):
            run = Run("--timeout", "60", "--memory", "128", *args).wait()
            tap.equal(run.status, REFUSED, f"{title}: status", run.err[-2000:])
            tap.ok(wanted in run.err, f"{title}: one clear line", f"wanted {wanted!r}", run.err[-2000:])
    run = Run("--timeout", "60", "--memory", "128", "--nestor", "colour=red", "--l1", L1, *FAST).wait()
    tap.equal(run.status, 0, "an unknown option does not stop the run", run.err[-2000:])
    tap.ok("colour" in run.err and "debug-exit" in run.err, "it is warned of, with a list of the known ones",
           run.err[-2000:])
    return tap.done()


sys.exit(main())
