#!/usr/bin/env python3
"""Two million random steps around MSR bitmaps (guests/scenarios/bitmap_stress.c), on Nestor and bare: in each, whether an
access of L2 exits follows from the page as L1 sees it.

Usage: tests/full/bitmap-stress.t [STEPS]
"""
import os
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "vm"))

from lib_tap import Run, Tap  # noqa: E402  (the path must be set first)

L1 = os.path.join(ROOT, "build", "guests", "scenarios.elf")


def main():
    steps = sys.argv[1] if len(sys.argv) > 1 else "2000000"
    tap = Tap()
    runs = {where: Run(*options, "--memory", "256", "--timeout", "3000", "--l1", L1, "--l1-args", f"stress steps={steps}")
            for where, options in {"on Nestor": (), "bare": ("--bare",)}.items()}
    for where, run in runs.items():
        run.wait()
        tap.ok("ok 1 - stress-bitmap" in run.out and "not ok" not in run.out, f"{steps} steps {where}", run.out[-2000:],
               run.err[-3000:])
        tap.equal(run.status, 0, f"and status 0 {where}")
    return tap.done()


sys.exit(main())
