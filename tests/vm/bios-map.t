#!/usr/bin/env python3
"""The BIOS, asked by L1 in real mode, tells the same memory map as the boot loader: without Nestor's memory. On UEFI a
stand-in does that, as L1 is a multiboot 1 image. Bochs 3.1 is needed for that."""
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

SOURCE = os.path.join(ROOT, "tests", "vm", "lib_bios_map.asm")
RAM = 1
MIB = 1 << 20
PAGE = 4096
NOT_SUPPORTED = 0x86
ROW = re.compile("(bios|loader|sizes|refused|chained|root) ")


class Answers:
    """The output of one run of the image."""

    def __init__(self, run):
        lines = [line.split() for line in run.out.splitlines() if ROW.match(line)]
        numbers = [(line[0], tuple(int(word, 16) for word in line[1:])) for line in lines]
        self.bios, self.loader = ([row for name, row in numbers if name == wanted] for wanted in ("bios", "loader"))
        rest = {name: row for name, row in numbers if name not in ("bios", "loader")}
        self.sizes, self.refused, self.chained, self.root = (rest.get(name, ()) for name in (
            "sizes", "refused", "chained", "root"))

    def ram_from(self, base):
        return max((start + size - base for start, size, kind in self.bios if kind == RAM and start <= base), default=0)

    def expected_sizes(self):
        """The answers of the older functions for that map."""
        first, second = self.ram_from(MIB) // 1024, self.ram_from(16 * MIB) // 65536
        below = min(first, 15 * 1024)
        return (below, second, below, second, min(first, 0xFFFF), self.bios[0][1] // 1024)


def check_nestor(tap, bare, nestor):
    taken = [row for row in nestor.bios if row not in bare.bios and row[2] != RAM]
    tap.equal(nestor.bios, nestor.loader, "BIOS and boot loader agree")
    tap.ok(len(taken) == 2 and taken[1][1] >= 32 * MIB, "more is reserved than bare: a low page and Nestor's memory",
           nestor.bios)
    tap.equal(nestor.bios[0][1], bare.bios[0][1] - PAGE, "one page of conventional memory is taken")
    tap.equal(nestor.sizes, nestor.expected_sizes(), "the older functions agree with the map")
    tap.equal(nestor.refused[0], 1, "a request without its signature is refused")
    tap.equal(nestor.chained, bare.chained, "what is not about memory gets to the BIOS")


def check_uefi(tap, uefi):
    """The page of the answers is the lowest one that is reserved; ACPI's root pointer lies in it."""
    page = min((start for start, _, kind in uefi.bios if kind != RAM), default=0)
    tap.ok(len(uefi.bios) > 5 and 0 < page < 10 * 65536, "uefi: the map has a low page of Nestor's", uefi.bios)
    tap.equal(uefi.bios, uefi.loader, "uefi: stand-in and boot loader agree")
    tap.equal(uefi.sizes, uefi.expected_sizes(), "uefi: so do the older functions")
    tap.equal(uefi.refused[0], 1, "uefi: a request without its signature is refused")
    tap.equal((uefi.chained[0], uefi.chained[1] >> 8), (1, NOT_SUPPORTED), "uefi: all else is not supported")
    tap.ok(page <= uefi.root[0] < page + PAGE and uefi.root[1] == 0, "uefi: ACPI's root pointer is where a BIOS has it",
           uefi.root)


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix="bios-map.") as work:
        image = os.path.join(work, "image")
        subprocess.run(["nasm", "-f", "bin", "-o", image, SOURCE], check=True)
        arguments = ("--memory", "256", "--l1", image)
        runs = {"uefi": Run("--emulator", "3.1", "--firmware", "uefi", "--timeout", "300", *arguments),
                "bare": Run("--bare", "--timeout", "60", *arguments), "nestor": Run("--timeout", "60", *arguments)}
        for name, run in runs.items():
            tap.equal(run.wait().status, 0, f"{name}: the image ran", run.out, run.err)
    answers = {name: Answers(run) for name, run in runs.items()}
    tap.ok(answers["bare"].bios, "the bare BIOS answers", runs["bare"].out)
    check_nestor(tap, answers["bare"], answers["nestor"])
    check_uefi(tap, answers["uefi"])
    return tap.done()


sys.exit(main())
