#!/usr/bin/env python3
"""nestor.efi from the firmware's shell, under which a program of ours (lib_look.c) tells what each processor and the
memory map are: each refusal changes nothing, and after the start only the carve-out is new. Bochs 3.1 and OVMF.

Usage: tests/vm/efi-shell.t [start|lacking|locked|cet|shadow|la57] ...
"""
import os
import re
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_efi import make_program  # noqa: E402  (the path must be set first)
from lib_tap import ROOT, Run, Tap  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import emulator_mend, emulators, errors  # noqa: E402

NESTOR = os.path.join(ROOT, "build", "nestor.efi")
SHELL = "/usr/share/efi-shell-x64/shellx64.efi"     # where it is there; else the firmware must have its own
NO_SHELL = "No bootable option or device was found"
IPS = 10000000     # few: the shell waits five seconds
IS_L1 = "nestor: this system goes on as L1 of Nestor"
REFUSED = "nestor: not started: "
MIB = 1 << 20
FREE, RESERVED = 7, 0   # UEFI 2.10 7.2, memory types
# UEFI 2.10 appendix D, as the shell's variable lasterror has them
SUCCESS, UNSUPPORTED, OUT_OF_RESOURCES, ALREADY_STARTED = 0, 3, 9, 20
VARIABLE_NEW, VARIABLE_READ = 1 << 63 | 14, 0
WITHOUT_VMX, WITH_CET, WITH_LA57 = "p4_prescott_celeron_336", "arrow_lake", "sapphire_rapids"
LOCKED, VMX_OUTSIDE_SMX = 1, 4      # IA32_FEATURE_CONTROL
CR4_CET, CR4_LA57 = 1 << 23, 1 << 12


def options(cpus):
    known = emulators.nestor_options(emulators.choose("3.1"))
    return f"console=com2 on-exit=bochs debug-exit=0xf4 inspect=0xea4 {known}" + (" startup=trap" if cpus > 1 else "")


def start(work, name, lines, cpus=1, *more):
    """The firmware starts look.efi, which says that it did not start, and then the shell with these lines; or a shell
    that runs look.efi first."""
    look = os.path.join(work, "look.efi")
    first = SHELL if os.path.exists(SHELL) else look
    lines = ["look.efi", *lines] if first == SHELL else lines
    folder = os.path.join(work, name)
    os.mkdir(folder)
    for file, text in (("startup.nsh", "\r\n".join(["echo -off", "fs0:", "cd EFI\\BOOT", *lines, "reset -s", ""])),
                       ("nestor.txt", options(cpus) + "\n")):
        with open(os.path.join(folder, file), "w", encoding="utf-8") as output:
            output.write(text)
    return Run("--emulator", "3.1", "--firmware", "uefi", "--cpus", str(cpus), "--ips", str(IPS), "--timeout", "550",
               "--verbose", "--until", NO_SHELL, "--l1", "none", "--efi", first, "--file", f"look.efi={look}",
               "--file", f"nestor.efi={NESTOR}", "--file", f"startup.nsh={folder}/startup.nsh",
               "--file", f"nestor.txt={folder}/nestor.txt", *more)


def said(name):
    return f"echo status {name} %lasterror%"


class Look:
    """One output of look.efi."""

    def __init__(self, text):
        self.names = dict(re.findall(r"^cpuid: (\w\w) (\S+)", text, re.M))
        self.state = re.findall(r"^state: .*\w", text, re.M)
        self.map = [tuple(int(word, 16) for word in row) for row in re.findall(r"^map: (\w+) (\w+) (\w+)", text, re.M)]
        self.variable = [int(word, 16) for word in re.findall(r"^variable: read (\w+) (\w+) set (\w+)", text, re.M)[0]]


def looks(text):
    return [Look(part) for part in re.findall(r"^look: begin(.*?)^look: end", text, re.M | re.S)]


def check_status(tap, run, name, status, line):
    found = re.search(rf"^(.*)\nstatus {name} (0x\w+)", run.out.replace("\r", ""), re.M)
    tap.ok(found and line in found.group(1), f"{name}: the firmware's console says: {line}", run.out[-3000:])
    tap.equal(found and int(found.group(2), 16), status, f"{name}: the EFI status")


def check_same(tap, name, bare, other):
    tap.ok(len(bare.state) > 10 and len(bare.map) > 5, f"{name}: processors and memory map were read", bare.state,
           bare.map)
    tap.equal(other.state, bare.state, f"{name}: each processor's state is as before")
    tap.equal(other.map, bare.map, f"{name}: so is the memory map")


def start_start(work):
    return start(work, "start", ["nestor.efi log=loud", said("options"), "nestor.efi memory=60000", said("memory"),
                                 "nestor.efi fault=vmx-locked", said("locked"),
                                 "nestor.efi fault=refuse-processor", said("undone"), "look.efi",
                                 "nestor.efi", said("start"), "look.efi", "nestor.efi", said("again")], 2)


def without(pieces, low, high):
    """The free pieces but for that range."""
    left = [part for kind, start, end in pieces
            for part in ([(kind, start, low), (kind, high, end)] if start <= low < end else [(kind, start, end)])]
    return [part for part in left if part[1] < part[2]]


def check_map(tap, run, bare, under):
    """The carve-out is reserved, and nothing else differs."""
    start_text, size = re.search(r"carve-out at (\w+), (\d+) MiB", run.err).groups()
    low = int(start_text, 16)
    high = low + int(size) * MIB
    kept, was_kept = ({row for row in look.map if row[0] != FREE} for look in (under, bare))
    tap.equal(kept - was_kept, {(RESERVED, low, high)}, "start: in the map the carve-out is reserved, and no more")
    tap.equal(was_kept - kept, set(), "start: nor less")
    free, was_free = ([row for row in look.map if row[0] == FREE] for look in (under, bare))
    tap.equal(free, without(was_free, low, high), "start: free is what was free without it")


def check_start(tap, run):
    found = looks(run.out.replace("\r", ""))
    if not tap.equal(len(found), 3, "start: look.efi ran each time", run.out[-3000:], run.err[-2000:]):
        return
    bare, refused, under = found
    check_status(tap, run, "options", UNSUPPORTED, REFUSED + "a bad option value")
    check_status(tap, run, "memory", OUT_OF_RESOURCES, REFUSED + "too little memory")
    check_status(tap, run, "locked", UNSUPPORTED, REFUSED + "the firmware locked VMX off")
    check_status(tap, run, "undone", UNSUPPORTED, REFUSED + "the processor with APIC ID 1 refuses")
    check_same(tap, "refused", bare, refused)
    check_status(tap, run, "start", SUCCESS, IS_L1)
    tap.ok(all(name != "NestorNestor" for name in bare.names.values()), "start: before it CPUID knows no Nestor")
    tap.equal(under.names, {"00": "NestorNestor", "01": "NestorNestor"}, "start: then it does, on both processors")
    tap.equal(under.state, bare.state, "start: each processor's state is as before")
    check_map(tap, run, bare, under)
    tap.equal([look.variable for look in found], [[VARIABLE_NEW, 0, 0], [VARIABLE_READ, 1, 0], [VARIABLE_READ, 2, 0]],
              "start: a variable is read and set, bare and under Nestor")
    check_status(tap, run, "again", ALREADY_STARTED, REFUSED + "this machine is already under Nestor")
    tap.equal(run.status, 0, "start: the shell turns the machine off", run.err[-2000:])
    tap.ok("exit status 0 " in run.err, "start: which Nestor sees", run.err[-2000:])


def start_lacking(work):
    return start(work, "lacking", ["nestor.efi", said("lacking"), "look.efi"], 1, "--bare", "--cpu", WITHOUT_VMX)


def start_with(word, cpu, cpus):
    return lambda work: start(work, word, [f"look.efi {word}", "nestor.efi fault=vmx-locked", said("refused"),
                                           "nestor.efi", said("started"), "look.efi"], cpus, "--cpu", cpu)


def check_with(word, bit):
    """A firmware that has that bit of CR4 on, on each processor."""
    def check(tap, run):
        found = looks(run.out.replace("\r", ""))
        if not tap.equal(len(found), 3, f"{word}: look.efi ran", run.out[-3000:], run.err[-2000:]):
            return
        check_status(tap, run, "refused", UNSUPPORTED, REFUSED + "the firmware locked VMX off")
        check_status(tap, run, "started", SUCCESS, IS_L1)
        cr4 = [int(value, 16) for value in re.findall(r"CR4 (\w+)", " ".join(found[1].state))]
        tap.ok(cr4 and all(value & bit for value in cr4), f"{word}: it is on", found[1].state)
        tap.equal(found[2].state, found[1].state, f"{word}: L1 goes on with it, its state as before")
        tap.equal(set(found[2].names.values()), {"NestorNestor"}, f"{word}: under Nestor")
        tap.equal(run.status, 0, f"{word}: to its end", run.err[-2000:])
    return check


def start_shadow(work):
    program = make_program(work, "shadow", "tests/vm/lib_shadow.c", "tests/vm/lib_shadow.asm")
    return start(work, "shadow", ["shadow.efi", "nestor.efi", said("again"), "look.efi"], 1, "--cpu", WITH_CET,
                 "--file", f"shadow.efi={program}")


def check_shadow(tap, run):
    """A firmware with a shadow stack in use: the words of lib_shadow.c."""
    tap.ok(IS_L1 in run.out, "shadow: nestor.efi starts", run.out[-3000:])
    told = [int(value, 16) for value in re.findall(r"^shadow: .* (\w{16})", run.out.replace("\r", ""), re.M)]
    tap.equal(told, [SUCCESS, 0, 1], "shadow: it returns, the shadow stack and IA32_S_CET are as before")
    check_status(tap, run, "again", ALREADY_STARTED, REFUSED + "this machine is already under Nestor")
    tap.equal(run.status, 0, "shadow: to its end", run.err[-2000:])


def check_lacking(name, why, feature_control):
    """Refused by the real CPU, without a word of ours."""
    def check(tap, run):
        found = looks(run.out.replace("\r", ""))
        if not tap.equal(len(found), 2, f"{name}: look.efi ran", run.out[-3000:], run.err[-2000:]):
            return
        check_status(tap, run, "lacking", UNSUPPORTED, REFUSED + why)
        check_same(tap, name, *found)
        control = re.findall(r"IA32_FEATURE_CONTROL (\w+)", " ".join(found[0].state))
        tap.equal([int(value, 16) for value in control], [feature_control], f"{name}: IA32_FEATURE_CONTROL")
        tap.equal(run.status, 0, f"{name}: the shell goes on to its end", run.err[-2000:])
    return check


def make_locked_machine(work):
    """Bochs as a firmware leaves it that locked VMX off: it sets IA32_FEATURE_CONTROL to 5 for a firmware that comes by
    fw_cfg, and this copy to 1."""
    original = emulators.choose("3.1").program
    folder, copy = os.path.dirname(os.path.realpath(original)), os.path.join(work, "locked-machine")
    os.mkdir(copy)
    for name in os.listdir(folder):
        if os.path.isdir(os.path.join(folder, name)):
            os.symlink(os.path.join(folder, name), os.path.join(copy, name))
        else:
            shutil.copy(os.path.join(folder, name), copy)
    with open(os.path.join(copy, "bochs-bin"), "r+b") as file:
        data = bytearray(file.read())
        at, size = emulator_mend.find_function(data, b"_ZN8BX_CPU_C19allowVmxForFirmwareEv")
        at = data.index(b"\x83\x8f", at, at + size) + 6       # or dword [rdi + disp32], imm8
        emulator_mend.patch(data, at, f"{LOCKED | VMX_OUTSIDE_SMX:02x}", f"{LOCKED:02x}")
        file.seek(0)
        file.write(data)
    return os.path.join(copy, "bochs")


def start_locked(work):
    return start(work, "locked", ["nestor.efi", said("lacking"), "look.efi"], 1, "--bare", "--emulator",
                 make_locked_machine(work))


KINDS = {"start": (start_start, check_start),
         "lacking": (start_lacking, check_lacking("lacking", "this CPU lacks VMX", 0)),
         "locked": (start_locked, check_lacking("locked", "the firmware locked VMX off", LOCKED)),
         "cet": (start_with("cet", WITH_CET, 1), check_with("cet", CR4_CET)),
         "shadow": (start_shadow, check_shadow),
         "la57": (start_with("la57", WITH_LA57, 1), check_with("la57", CR4_LA57))}


def main():
    kinds = sys.argv[1:] or list(KINDS)
    tap = Tap()
    try:
        emulators.choose("3.1")
    except errors.RunnerError as error:
        tap.ok(True, f"nestor.efi # SKIP {error}")
        return tap.done()
    with tempfile.TemporaryDirectory(prefix="efi-shell.") as work:
        make_program(work, "look", "tests/vm/lib_look.c", "tests/vm/lib_levels.asm", "efi/present.c")
        runs = {kind: KINDS[kind][0](work) for kind in kinds}
        for kind, run in runs.items():
            if NO_SHELL in run.wait().out:
                tap.ok(True, f"{kind} # SKIP this OVMF has no shell: install Debian's package efi-shell-x64")
                continue
            KINDS[kind][1](tap, run)
            tap.comment(f"{kind}: {run.err.splitlines()[-1]}")
    return tap.done()


sys.exit(main())
