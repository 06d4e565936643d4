#!/usr/bin/env python3
"""nestor.efi: the firmware goes on as L1 and starts GRUB's other entry, a Linux with KVM, by itself.

GRUB, started by OVMF, chainloads nestor.efi and then boots a kernel that knows nothing of Nestor. Bochs 3.1 is needed.
Usage: tests/vm/efi.t [stack|smp|again|options|memory|refusal] ...
"""
import argparse
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_ovmf import console_until  # noqa: E402  (the path must be set first)
from lib_tap import ROOT, Run, Tap  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import emulators, linux  # noqa: E402

NESTOR = os.path.join(ROOT, "build", "nestor.efi")
IPS = 50000000
BACK = "GRUB: back"
BACK_AGAIN = "GRUB: back again"
REFUSED = "nestor: not started: "
IS_L1 = "nestor: this system goes on as L1 of Nestor"


def options(cpus):
    known = emulators.nestor_options(emulators.choose("3.1"))
    return f"console=com2 on-exit=bochs debug-exit=0xf4 inspect=0xea4 {known}" + (" startup=trap" if cpus > 1 else "")


def grub_config(words, stop=None, cpus=1, times=1, then_linux=True):
    lines = ["set timeout=0", "insmod all_video", "set gfxpayload=keep"]
    for say in (BACK, BACK_AGAIN)[:times]:
        lines += [f"chainloader /nestor.efi {words}", "boot", f'echo "{say}"']
    if then_linux:
        arguments = linux.l1_args("bochs", IPS, "1", stop, cpus)
        lines += [f"linux /vmlinuz {arguments}", "initrd /initrd", "boot"]
    return "\n".join([*lines, "outb 0xf4 3", "halt", ""])


def run(work, config, *more, cpus=1):
    path = os.path.join(work, "grub.cfg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(config)
    return Run("--emulator", "3.1", "--firmware", "uefi", "--cpus", str(cpus), "--ips", str(IPS), "--timeout", "850",
               "--grub-config", path, "--file", f"nestor.efi={NESTOR}", "--file", f"vmlinuz={linux.KERNEL}",
               "--file", f"initrd={linux.INITRD}", "--l1", "none", *more)


def check_linux(tap, work, cpus, stop, further):
    """The kernel's own lines say what L1 is; GRUB is between it and nestor.efi."""
    stack = run(work, grub_config(options(cpus), stop, cpus), cpus=cpus).wait()
    last = "\n".join(stack.out.splitlines()[-30:]) + stack.err[-2000:]
    tap.equal(stack.status, 0, f"{cpus}: L1 powers off with status 0", last)
    for pattern in (re.escape(IS_L1), BACK, r"L1: EFI of 64 bits", *further):
        tap.ok(re.search(pattern, stack.out), f"{cpus}: {pattern}", last)
    tap.ok(re.search(r"exit status 0 ", stack.err), f"{cpus}: Nestor saw the power-off", stack.err[-2000:])


def check_stack(tap, work):
    check_linux(tap, work, 1, None, [r"L2: hello from init"])


def check_smp(tap, work):
    check_linux(tap, work, 2, "kvm", [r"L1: processors online: 0-1", r"L1: processor 1 is back: 0-1"])


def check_refused(tap, name, out, why):
    tap.ok(re.search(re.escape(REFUSED) + ".*" + why, out), f"{name}: the firmware's console says {why}", out[-2000:])
    tap.ok(BACK in out, f"{name}: GRUB goes on", out[-2000:])


def check_again(tap, work):
    twice = run(work, grub_config(options(1), times=2, then_linux=False)).wait()
    tap.equal(twice.status, 3, "again: L1 goes on to the end", twice.out[-2000:], twice.err[-2000:])
    tap.ok(IS_L1 in twice.out, "again: the first time it starts")
    check_refused(tap, "again", twice.out, "already under Nestor")
    tap.ok(BACK_AGAIN in twice.out, "again: GRUB goes on", twice.out[-2000:])


def check_options(tap, work):
    wrong = run(work, grub_config(options(1) + " log=loud", then_linux=False)).wait()
    check_refused(tap, "options", wrong.out, "a bad option value")


def check_memory(tap, work):
    short = run(work, grub_config(options(1) + " memory=60000", then_linux=False)).wait()
    check_refused(tap, "memory", short.out, "too little memory")


def check_refusal(tap, work):
    """A CPU without VMX, on another emulator."""
    path = os.path.join(work, "grub.cfg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(grub_config("", then_linux=False))
    check_refused(tap, "refusal", console_until(path, {"nestor.efi": NESTOR}, BACK), "this CPU lacks VMX")


KINDS = {"stack": check_stack, "smp": check_smp, "again": check_again, "options": check_options, "memory": check_memory,
         "refusal": check_refusal}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []])
    tap = Tap()
    for kind in parser.parse_args().kinds or KINDS:
        with tempfile.TemporaryDirectory(prefix="efi.") as work:
            KINDS[kind](tap, work)
    return tap.done()


sys.exit(main())
