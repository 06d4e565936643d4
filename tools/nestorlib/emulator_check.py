"""Checks that an emulator multiplies and divides rightly: a boot sector with cases does it, and reports.

Debian's build of Bochs 3.1 gets a 64-bit IDIV wrong, which ends Linux early. A version does not tell; a run does."""
import os
import random
import re
import struct
import tempfile

from nestorlib import process
from nestorlib.errors import RunnerError
from nestorlib.paths import TOOLS

SOURCE = os.path.join(TOOLS, "emulators", "check.asm")
FLOPPY_SIZE = 1440 * 1024
ROOM = 17 * 512         # for the cases, on the rest of the first track
TIMEOUT = 60
TRIES = 5               # of two that start at the same moment one may find no port for its display

MASK = (1 << 64) - 1
KINDS = ("IDIV", "DIV", "IMUL", "MUL")
REPORT = re.compile(r"arithmetic: (\d+) (right|wrong)")

CONFIG = """\
config_interface: textconfig
display_library: rfb, options="timeout=0"
cpu: ips=20000000, reset_on_triple_fault=0
memory: guest=32, host=32
romimage: file="{share}/BIOS-bochs-latest", options=fastboot
vgaromimage: file="{share}/VGABIOS-lgpl-latest"
floppya: 1_44={floppy}, status=inserted
boot: floppy
port_e9_hack: enabled=1
clock: sync=none
sound: driver=dummy
speaker: enabled=0
panic: action=fatal
log: {log}
"""


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def divide(kind, high, low, divisor):
    """Quotient and remainder as RAX and RDX, or None where the CPU has #DE."""
    if not divisor:
        return None
    dividend = high << 64 | low
    if kind == "DIV":
        quotient, remainder = divmod(dividend, divisor)
        return (quotient, remainder) if quotient <= MASK else None
    dividend -= (high >> 63) << 128
    divisor = signed(divisor)
    quotient = abs(dividend) // abs(divisor)
    if (dividend < 0) != (divisor < 0):
        quotient = -quotient
    if not -(1 << 63) <= quotient < 1 << 63:
        return None
    return quotient & MASK, (dividend - quotient * divisor) & MASK


def result(kind, high, low, operand):
    if kind.endswith("DIV"):
        return divide(kind, high, low, operand)
    product = signed(low) * signed(operand) if kind == "IMUL" else low * operand
    return product & MASK, product >> 64 & MASK


def some_value(chance):
    """Of any length and either sign."""
    value = chance.getrandbits(chance.randint(1, 64))
    return value if chance.random() < 0.5 else -value & MASK


def cases():
    """(kind, low, high, operand): what Linux died of first, then as many by chance as there is room for."""
    chance = random.Random(1)
    yield 0, 1193307, 0, 500
    for count in range(ROOM // 48 - 2):
        kind = count % len(KINDS)
        while True:
            low, operand = some_value(chance), some_value(chance)
            high = chance.choice((0, MASK if low >> 63 else 0, some_value(chance), some_value(chance) >> 32))
            if result(KINDS[kind], high, low, operand):
                break
        yield kind, low, high, operand


def make_floppy(rundir):
    sector = os.path.join(rundir, "check.bin")
    process.run_quietly(["nasm", "-f", "bin", "-Werror", "-o", sector, SOURCE])
    with open(sector, "rb") as file:
        image = file.read()
    listed = list(cases())
    image += struct.pack("<Q", len(listed))
    for kind, low, high, operand in listed:
        image += struct.pack("<6Q", kind, low, high, operand, *result(KINDS[kind], high, low, operand))
    floppy = os.path.join(rundir, "check.img")
    with open(floppy, "wb") as file:
        file.write(image.ljust(FLOPPY_SIZE, b"\0"))
    return floppy


def describe(number):
    kind, low, high, operand = list(cases())[number]
    if KINDS[kind].endswith("MUL"):
        return f"multiplies wrongly: {KINDS[kind]} of {low:#x} and {operand:#x}"
    return f"divides wrongly: {KINDS[kind]} of {high << 64 | low:#x} by {operand:#x}"


def run(emulator):
    """The fault of the emulator in words, or ""."""
    with tempfile.TemporaryDirectory(prefix="emulator-check.") as rundir:
        floppy = make_floppy(rundir)
        config, script = os.path.join(rundir, "bochsrc"), os.path.join(rundir, "debugger.rc")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(share=emulator.share, floppy=floppy, log=os.path.join(rundir, "log")))
        with open(script, "w", encoding="ascii") as file:
            file.write("c\nq\n")
        command = [emulator.program, "-q", "-f", config, "-rc", script]
        for _ in range(TRIES):
            said = process.output_of(command, TIMEOUT)
            if "could not bind any port" not in said:
                break
    report = REPORT.search(said)
    if not report:
        raise RunnerError(f"{emulator.program} does not run the check of its arithmetic; it said:\n{said[-1000:]}")
    return "" if report.group(2) == "right" else describe(int(report.group(1)))
