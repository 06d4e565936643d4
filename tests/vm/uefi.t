#!/usr/bin/env python3
"""Nestor on UEFI: OVMF and GRUB for EFI, with one and two processors; what is on the screen; an image at another
address.

The pictures are kept in build/uefi/. Bochs 3.1 is needed, which tools/setup fetches.
Usage: tests/vm/uefi.t [--all] [stack|smp|panic|reset|refusal|place|large|above|port|high|parked|many] ...
Without a word all except smp, the whole stack on two processors, parked, where they wait in MWAIT, and many, 14 of
them; --all (make test-uefi) has them, too.
"""
import argparse
import os
import re
import struct
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_efi import make_program  # noqa: E402  (the path must be set first)
from lib_ovmf import refuse  # noqa: E402
from lib_screen import read_text  # noqa: E402
from lib_tap import ROOT, STACK, Run, Tap  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import linux  # noqa: E402

KEPT = os.path.join(ROOT, "build", "uefi")
DEMO = os.path.join(ROOT, "build", "guests", "demo.elf")
OFF = os.path.join(ROOT, "build", "guests", "off.elf")
NESTOR = os.path.join(ROOT, "build", "nestor.elf")
UEFI = ("--emulator", "3.1", "--firmware", "uefi", "--timeout", "900")
IPS = {1: 50000000, 2: 20000000}     # with two, time does not pass by itself while both wait
PLACED = 0x3000000      # where the patched image must go, or above


def firmware():
    """With SMBIOS and a reset register of its own."""
    return make_program(KEPT, "firmware", "tests/vm/lib_firmware.c")


def picture(name):
    path = os.path.join(KEPT, name + ".png")
    if os.path.exists(path):
        os.unlink(path)
    return path


def check_screen(tap, path, *wanted):
    lines = read_text(path) if os.path.exists(path) else []
    for pattern in wanted:
        tap.ok(any(re.search(pattern, line) for line in lines), f"the screen shows {pattern}", path, *lines)


def start_stack(cpus):
    return Run("--cpus", str(cpus), *UEFI, "--ips", str(IPS[cpus]), "--verbose", "--before", firmware(), "--picture",
               f"main: L1 starts={picture(f'log-{cpus}')}", program=STACK)


def check_smbios(tap, run, cpus):
    """L1 has the firmware's own table, where it is."""
    place = re.search(r"firmware: SMBIOS at 0x0*([0-9a-f]+)", run.out)
    tap.ok(place and re.search(rf"L1: EFI tables:.* SMBIOS3=0x{place.group(1)} ", run.out),
           f"{cpus}: L1 finds SMBIOS where the firmware put it", *re.findall(".*SMBIOS.*", run.out))
    tap.ok(re.search("L1: SMBIOS: a board of a test$", run.out, re.M), f"{cpus}: and reads it")


def check_stack(tap, run, cpus):
    last = "\n".join(run.out.splitlines()[-40:])
    tap.equal(run.status, 0, f"{cpus}: the stack ends with status 0", run.err, last)
    for pattern in (r"L1 \| L1: EFI of 64 bits, screens: 0 EFI VGA", r"L1 \| L1: efivars: kept by the firmware",
                    fr"L2 \| .*L2: hello from init.*, processors: {cpus}", r"L0 \| .*exit status 0 "):
        tap.ok(re.search(pattern, run.out), f"{cpus}: {pattern}", last)
    for pattern in ("memattr", r"efi: .*(?:[Ff]ailed|[Ii]nvalid|error)", r"e820: .*overlap"):
        tap.ok(not re.search(pattern, run.out), f"{cpus}: L1's kernel does not say {pattern}",
               *re.findall(f".*{pattern}.*", run.out))
    check_smbios(tap, run, cpus)
    check_screen(tap, os.path.join(KEPT, f"log-{cpus}.png"), r"^nestor: Nestor \d", r"^nestor: main: L1 starts")


def start_panic(_cpus):
    """L1 shows its console on the screen, until Nestor fails on purpose."""
    return Run(*UEFI, "--ips", str(IPS[1]), "--l1", linux.KERNEL, "--module", linux.INITRD,
               "--l1-args", "console=tty0 " + linux.l1_args("bochs", IPS[1], stop="port"),
               "--nestor", "fault=panic on-exit=reset",
               "--picture", f"exit status={picture('panic')}", "--picture",
               f"a write to the debug-exit={picture('l1')}")


def check_panic(tap, run, _cpus):
    tap.equal(run.status, 125, "panic: status 125", run.err[-3000:])
    before = os.path.join(KEPT, "l1.png")
    tap.ok(os.path.exists(before) and not read_text(before), "panic: before it, the screen was L1's")
    check_screen(tap, os.path.join(KEPT, "panic.png"), r"^nestor: exit status 125 \(on purpose")


def start_reset(_cpus):
    return Run(*UEFI, "--before", firmware(), "--l1", OFF, "--l1-args", "fadt", "--memory", "256")


def check_reset(tap, run, _cpus):
    tap.equal(run.status, 125, "reset: the FADT's register ends the run", run.out, run.err[-3000:])
    tap.ok("exit status 125 (L1 reset the machine)" in run.err, "reset: noticed", run.err[-2000:])


def check_refusal(tap, *_):
    """A CPU without VMX, on another emulator: its own picture."""
    console = refuse(NESTOR, DEMO, picture("refusal"))
    tap.ok("this CPU lacks VMX" in console, "refusal: on the serial port", console[-2000:])
    check_screen(tap, os.path.join(KEPT, "refusal.png"), r"^nestor: exit status 1 \(this CPU lacks VMX")


def check_high(tap, *_):
    """A framebuffer above 4 GiB, where lib_high.c moves it."""
    with tempfile.TemporaryDirectory(prefix="uefi.") as work:
        console = refuse(NESTOR, DEMO, picture("high"), "log=dbg", make_program(work, "high", "tests/vm/lib_high.c"),
                         ("-m", "5120", "-vga", "none", "-device", "ramfb"))
    found = re.search(r"screen: \d+ by \d+ pixels at ([0-9a-f]+)", console)
    tap.ok(found and int(found.group(1), 16) >= 1 << 32, "high: the framebuffer is above 4 GiB", console[-2000:])
    check_screen(tap, os.path.join(KEPT, "high.png"), r"^nestor: Nestor \d",
                 r"^nestor: exit status 1 \(this CPU lacks VMX")


def image_placed_at(path, least):
    """A copy of the image that asks the loader for another place."""
    with open(NESTOR, "rb") as source:
        data = bytearray(source.read())
    at = data.index(struct.pack("<HHIIII", 10, 1, 24, 0x200000, 0xffffffff, 0x200000))
    struct.pack_into("<I", data, at + 8, least)
    with open(path, "wb") as target:
        target.write(data)


def start_place(_cpus):
    path = os.path.join(KEPT, "elsewhere.elf")
    image_placed_at(path, PLACED)
    return Run("--nestor-elf", path, "--cpus", "2", "--l1", DEMO, "--nestor", "stats=0xf8 log=dbg", "--timeout", "600")


def check_place(tap, run, _cpus):
    found = re.search(r"the loader put the image at ([0-9a-f]+)", run.err)
    tap.ok(found and int(found.group(1), 16) >= PLACED, "place: GRUB put the image elsewhere", run.err[-2000:])
    tap.equal(run.status, 0, "place: it runs there, on two processors", run.err[-2000:])


def start_large(_cpus):
    return Run("--emulator", "3.1", "--memory", "262144", "--host-memory", "1024", "--l1", DEMO, "--nestor",
               "stats=0xf8",
               "--timeout", "600")


def check_large(tap, run, _cpus):
    found = re.search(r"(\d+) MiB of RAM, Nestor's carve-out at [0-9a-f]+, (\d+) MiB", run.err)
    tap.ok(found and int(found.group(1)) > 260000 and int(found.group(2)) == 280,
           "large: 256 GiB, 280 MiB of them Nestor's",
           run.err[-2000:])
    tap.equal(run.status, 0, "large: L1 runs", run.err[-2000:])


def start_many(cpus):
    """With 256 GiB; of 15 processors Bochs says that it has too few timers."""
    return Run("--emulator", "3.1", "--cpus", str(cpus), "--memory", "262144", "--host-memory", "1024", "--l1", DEMO,
               "--nestor", "stats=0xf8", "--timeout", "800")


def check_many(tap, run, cpus):
    tap.ok(f"smp: {cpus} processors run" in run.err, f"many: {cpus} processors run", run.err[-2000:])
    found = re.search(r"Nestor's carve-out at [0-9a-f]+, (\d+) MiB", run.err)
    tap.equal(found and int(found.group(1)), 280 + 2 * (cpus - 1), "many: 2 MiB more for each further one")
    tap.equal(run.status, 0, "many: L1 runs", run.err[-2000:])


def start_parked(cpus, words="", *more):
    return Run(*UEFI, "--cpus", str(cpus), "--l1", OFF, "--l1-args", "none", "--nestor", words, *more)


def check_parked(tap, run, cpus):
    """OVMF leaves the second processor in MWAIT, as the emulator says at the end where Nestor lets it alone."""
    tap.ok("smp: 2 processors run" in run.err, "parked: the second processor wakes", run.err[-2000:])
    tap.equal(run.status, 7, "parked: L1 runs")
    with tempfile.TemporaryDirectory(prefix="uefi.") as work:
        alone = start_parked(cpus, "cpus=1", "--keep", work).wait()
        with open(os.path.join(work, "machine.log"), encoding="utf-8", errors="replace") as file:
            state = re.findall(r"\[CPU1 .*CPU is in .*", file.read())
    tap.ok("processors run" not in alone.err and state and "mwait" in state[-1],
           "parked: it was in MWAIT", *state, alone.err[-1000:])


def start_above(_cpus):
    """More for Nestor than there is below 4 GiB."""
    return Run("--emulator", "3.1", "--memory", "8192", "--host-memory", "1024", "--l1", DEMO,
               "--nestor", "stats=0xf8 memory=3400", "--timeout", "600")


def check_above(tap, run, _cpus):
    found = re.search(r"Nestor's carve-out at ([0-9a-f]+), 3400 MiB", run.err)
    tap.ok(found and int(found.group(1), 16) >= 1 << 32, "above: the carve-out lies above 4 GiB", run.err[-2000:])
    tap.equal(run.status, 0, "above: L1 runs", run.err[-2000:])


def start_port(_cpus):
    """A serial port by its address; the runner reads COM2 as Nestor's log."""
    return Run("--l1", DEMO, "--nestor", "stats=0xf8 console=com:0x2f8", "--timeout", "600")


def check_port(tap, run, _cpus):
    _, found, after = run.err.partition("main: L1 starts")
    tap.ok(found and "exit status 0" in after, "port: console=com:0x2f8 has the log, when L1 has started, too",
           run.err[-2000:])
    tap.equal(run.status, 0, "port: L1 runs", run.err[-2000:])


# Name: what starts it, what checks it, processors.
KINDS = {"stack": (start_stack, check_stack, 1), "panic": (start_panic, check_panic, 1),
         "smp": (start_stack, check_stack, 2), "reset": (start_reset, check_reset, 1),
         "place": (start_place, check_place, 2), "large": (start_large, check_large, 1),
         "above": (start_above, check_above, 1), "port": (start_port, check_port, 1),
         "many": (start_many, check_many, 14), "parked": (start_parked, check_parked, 2),
         "refusal": (None, check_refusal, 1), "high": (None, check_high, 1)}
LONG = ("smp", "parked", "many")
AT_A_TIME = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []])
    parser.add_argument("--all", action="store_true")
    opts = parser.parse_args()
    kinds = opts.kinds or [kind for kind in KINDS if opts.all or kind not in LONG]
    os.makedirs(KEPT, exist_ok=True)
    tap, runs = Tap(), {}
    for index, kind in enumerate(kinds):
        for name in kinds[index:index + AT_A_TIME]:
            begin, _, cpus = KINDS[name]
            if begin and name not in runs:
                runs[name] = begin(cpus)
        run = runs[kind].wait() if kind in runs else None
        KINDS[kind][1](tap, run, KINDS[kind][2])
    return tap.done()


sys.exit(main())
