#!/usr/bin/env python3
"""The option measure=1: the table of what VMX instructions take has every row, before L1 starts, with figures that can
be, on a new processor model and on an old one."""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "mini.elf")
SOURCE = os.path.join(ROOT, "vmx", "measure.c")
NAME = re.compile(r'^    \{"([^"]+)", \w+,', re.M)
FIGURES = re.compile(r"^nestor\| measure: (.*?) +(\d+) +(\d+)$", re.M)
MISSING = re.compile(r"^nestor\| measure: (.*?) +not on this CPU$", re.M)
MODELS = ("corei7_skylake_x", "corei5_arrandale_m520")


def look(tap, model):
    """The table on this model, with what every model must have."""
    run = Run("--memory", "256", "--timeout", "240", "--cpu", model, "--nestor", "measure=1 summary=0", "--l1", IMAGE)
    run.wait()
    with open(SOURCE, encoding="utf-8") as file:
        names = NAME.findall(file.read())
    figures = {name: (int(least), int(median)) for name, least, median in FIGURES.findall(run.err)}
    missing = MISSING.findall(run.err)
    tap.ok(len(names) > 15, f"{len(names)} rows are known")
    tap.equal(sorted([*figures, *missing]), sorted(names), f"{model}: each row is there, none failed", run.err[-2000:])
    wrong = [row for row, (least, median) in figures.items() if not 0 < least <= median]
    tap.equal(wrong, [], f"{model}: 0 < minimum <= median", run.err[-2000:])
    tap.equal(missing, [], f"{model} has EPT and VPID, so all rows")
    tap.ok(0 < run.err.find("measure: end") < run.err.find("L1 starts"), f"{model}: printed before L1 starts")
    tap.equal(run.status, 0, f"{model}: L1 runs behind it as always", run.err[-1000:])


def main():
    tap = Tap()
    for model in MODELS:
        look(tap, model)
    return tap.done()


sys.exit(main())
