#!/usr/bin/env python3
"""The BIOS, asked by L1 in real mode, tells the same memory map as the boot loader: without Nestor's memory."""
import os
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


class Answers:
    """The output of one run of the image."""

    def __init__(self, run):
        lines = [line.split() for line in run.out.splitlines() if line and not line.startswith("nestor")]
        numbers = [(line[0], tuple(int(word, 16) for word in line[1:])) for line in lines]
        self.bios, self.loader = ([row for name, row in numbers if name == wanted] for wanted in ("bios", "loader"))
        rest = {name: row for name, row in numbers if name not in ("bios", "loader")}
        self.sizes, self.refused, self.chained = (rest.get(name, ()) for name in ("sizes", "refused", "chained"))

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


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix="bios-map.") as work:
        image = os.path.join(work, "image")
        subprocess.run(["nasm", "-f", "bin", "-o", image, SOURCE], check=True)
        arguments = ("--memory", "256", "--timeout", "60", "--l1", image)
        runs = {"bare": Run("--bare", *arguments), "nestor": Run(*arguments)}
        for name, run in runs.items():
            tap.equal(run.wait().status, 0, f"{name}: the image ran", run.out, run.err)
    answers = {name: Answers(run) for name, run in runs.items()}
    tap.ok(answers["bare"].bios, "the bare BIOS answers", runs["bare"].out)
    check_nestor(tap, answers["bare"], answers["nestor"])
    return tap.done()


sys.exit(main())
