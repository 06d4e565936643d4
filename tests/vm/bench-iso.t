#!/usr/bin/env python3
"""The image of `make bench-iso`: both entries of its menu print the table, on the serial port and on the screen; where
there is no VMX both say so. And the other way to cycles, QEMU/KVM, as far as a machine without VT-x goes.

Usage: tests/vm/bench-iso.t [bios|uefi|without|tables] ...       (without a word: bios and tables; uefi: on Bochs 3.1)
"""
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import lib_ovmf  # noqa: E402  (the path must be set first)
from lib_ovmf import Qmp  # noqa: E402
from lib_screen import read_text  # noqa: E402
from lib_tap import ROOT, Run, Tap  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import bench, cycles, errors, qemu  # noqa: E402
from nestorlib.process import die_with_parent  # noqa: E402

NESTOR, BARE, LONG, SMALL = range(4)    # entries of the menu
L0 = {NESTOR: "Nestor", BARE: "none", LONG: "Nestor straight-way=0", SMALL: "Nestor vmcs-shadowing=small"}
ROWS = "kvm-handled"
# Under Nestor what it measured comes first.
FIRST_PAGE = {NESTOR: (r"^entry and exit, after VMCLEAR +\d+ +\d+", r"^page 1 of 2\. Photograph each"),
              BARE: (r"^kvm-handled +[\d.]+ +[\d.]+", r"^page 1 of 1\. Photograph it")}
# The words of the runner for Nestor's command line.
OPTIONS = "on-exit=bochs debug-exit=0xf4 apic-disable=0 x2apic=0 virtual-vectoring=svi posted-interrupts=0"
VGA_TEXT, VGA_CELLS = 0xb8000, 80 * 25
PATIENCE_S = 1500       # a run takes half a minute on an idle machine


def make(folder, entry):
    """An image that starts that entry at once."""
    iso = os.path.join(folder, f"{entry}.iso")
    subprocess.run([os.path.join(ROOT, "tools", "mkusb"), "--bench", iso], check=True, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, DEFAULT=str(entry), ARGS=f"rows={ROWS} rounds=2", NESTOR_OPTIONS=OPTIONS))
    return iso


def start(folder, entry, firmware):
    arguments = ["--emulator", "3.1", "--picture", f"bench: end={folder}/{entry}.png"] if firmware == "uefi" else []
    return Run(*arguments, "--firmware", firmware, "--iso", make(folder, entry), "--l1", "none", "--timeout",
               str(PATIENCE_S), "--until", "bench: end")


def check_run(tap, run, name, entry):
    tap.equal(run.wait().status, 0, f"{name}: the benchmark comes to its end", run.out[-1500:], run.err[-1500:])
    try:
        (_, l0, rows), = cycles.read_parts(run.out)
    except (bench.Failed, ValueError) as failure:
        tap.ok(False, f"{name}: one whole table on the serial port", failure)
        return
    tap.equal(l0, L0[entry], f"{name}: it knows what is below it", run.out)
    tap.equal(list(rows), ["kvm-handled", "kvm-handled-first"], f"{name}: the rows")
    tap.ok(all(0 < least <= median for least, median in rows.values()), f"{name}: 0 < minimum <= median", run.out)
    tap.equal("measure: entry and exit" in run.err, entry == NESTOR, f"{name}: measure=1 under Nestor", run.err[-1500:])


def check_firmware(tap, folder, firmware):
    """Two at a time; the last two by BIOS alone: they have no more than the first."""
    check_entries(tap, folder, firmware, (NESTOR, BARE))
    if firmware == "bios":
        check_entries(tap, folder, firmware, (LONG, SMALL))


def check_entries(tap, folder, firmware, entries):
    runs = {entry: start(folder, entry, firmware) for entry in entries}
    for entry, run in runs.items():
        name = f"{firmware}, L0 {L0[entry]}"
        check_run(tap, run, name, entry)
        picture = f"{folder}/{entry}.png"
        lines = read_text(picture, "bench: ") if os.path.exists(picture) else []
        if firmware == "uefi":
            for pattern in (rf"^bench: on .*L0: {L0[entry]}", *FIRST_PAGE[entry]):
                tap.ok(any(re.search(pattern, line) for line in lines), f"{name}: the screen shows {pattern}", *lines)


def text_screen(monitor):
    """The characters on VGA's text screen, without ends of lines."""
    told = monitor.ask("human-monitor-command", **{"command-line": f"xp /{VGA_CELLS}hx {VGA_TEXT:#x}"})["return"]
    return "".join(chr(int(cell, 16) & 0xff) for cell in re.findall(r"0x([0-9a-f]{4})\b", told))


def command(folder, iso, firmware):
    """QEMU with its own CPU: COM1 is folder/com1, its monitor folder/qmp."""
    if firmware == "uefi":
        return lib_ovmf.command(folder, iso)
    return ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "512", "-nodefaults", "-no-reboot",
            "-display", "none", "-vga", "std", "-cdrom", iso, "-serial", f"file:{folder}/com1",
            "-qmp", f"unix:{folder}/qmp,server,nowait"]


def screen_of(monitor, folder, firmware, begins):
    if firmware == "bios":
        return text_screen(monitor)
    monitor.ask("screendump", filename=f"{folder}/screen.png", format="png")
    return "\n".join(read_text(f"{folder}/screen.png", begins))


def without_vmx(entry, firmware, begins, sign):
    """The serial port's and the screen's text, once the first has the sign."""
    with tempfile.TemporaryDirectory(prefix="bench-iso.") as folder, \
         subprocess.Popen(command(folder, make(folder, entry), firmware), stdin=subprocess.DEVNULL,
                          preexec_fn=die_with_parent) as machine:
        try:
            lib_ovmf.wait_for_end(folder, machine, sign)
            return lib_ovmf.console_of(folder), screen_of(Qmp(f"{folder}/qmp"), folder, firmware, begins)
        finally:
            machine.kill()


def check_without(tap, _folder):
    signs = {NESTOR: ("nestor: ", "this CPU lacks VMX"), BARE: ("bench: ", "this CPU shows no VMX")}
    for firmware in ("bios", "uefi"):
        for entry, (begins, sign) in signs.items():
            console, screen = without_vmx(entry, firmware, begins, sign)
            name = f"without VMX, {firmware}, L0 {L0[entry]}"
            tap.ok(sign in console, f"{name}: {sign}", console[-1500:])
            tap.ok(sign in screen, f"{name}: the screen says so, too", screen)
            tap.ok("firmware's set-up" in screen, f"{name}: and what to do", screen)


def check_tables(tap, _folder):
    """A log that is read, and the refusal without KVM."""
    text = ("bench: on A, signature 50654, L0: none\r\nbench: x 4.00 5.50\r\nbench: end 1\r\n"
            "nestor| measure: VMREAD  7  8\nbench: on A, signature 50654, L0: Nestor\nbench: x 1000.00 2000.00\n"
            "bench: y 1.00 1.00\nbench: end 2\n")
    parts = cycles.read_parts(text)
    tap.equal(cycles.cells(parts), [["cycles", "L0 none: minimum", "median", "L0 Nestor: minimum", "median"],
                                    ["x", "4.0", "5.5", "1,000", "2,000"], ["y", "-", "-", "1.0", "1.0"]],
              "a log of two runs makes one table")
    tap.ok("measure: VMREAD  7  8" in cycles.lines(parts, text), "with what Nestor measured")
    for broken in ("", text.replace("bench: y", "")):
        try:
            cycles.read_parts(broken)
            tap.ok(False, "a log that lacks rows is refused")
        except bench.Failed as failure:
            tap.ok(True, f"a log that lacks rows is refused: {str(failure).splitlines()[0]}")
    try:
        qemu.Qemu.check()
        tap.ok(True, "without KVM # SKIP this machine has nested VMX")
    except errors.RunnerError as error:
        done = subprocess.run([os.path.join(ROOT, "tools", "nestor-bench"), "--machine", "qemu"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        tap.equal(done.returncode, 1, "--machine qemu without nested VMX: status 1", done.stdout)
        tap.equal(done.stdout.strip(), f"nestor-bench: {error}", "and says what to do")


KINDS = {"bios": lambda tap, folder: check_firmware(tap, folder, "bios"), "without": check_without,
         "tables": check_tables, "uefi": lambda tap, folder: check_firmware(tap, folder, "uefi")}


def main():
    tap = Tap()
    for kind in sys.argv[1:] or ("bios", "tables"):
        with tempfile.TemporaryDirectory(prefix="bench-iso.") as folder:
            KINDS[kind](tap, folder)
    return tap.done()


sys.exit(main())
