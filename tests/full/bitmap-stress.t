#!/usr/bin/env python3
"""Two million random steps around bitmaps (guests/scenarios/bitmap_stress.c), on Nestor and bare: in each, whether an
access of L2 exits follows from the page as L1 sees it, and all that was seen is the same on both. Then fewer with a
cache so small that bitmaps go and come all the time, and each merged page compared with L1's and L0's at each entry;
and on arrow_lake of Bochs 3.1, with all that it has on in each L2 (guests/lib/features.c), the same.

Usage: tests/full/bitmap-stress.t [STEPS]
"""
import os
import re
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "vm"))

from lib_tap import Run, Tap  # noqa: E402  (the path must be set first)

L1 = os.path.join(ROOT, "build", "guests", "scenarios.elf")
NESTOR = "stats=0xf8 msr-policy=0xea0"
TRANSCRIPT = re.compile(r"^# transcript .*$", re.M)
CHECKED_PART = 10   # of the steps in the runs that compare each merged page
NEW = ("--emulator", "3.1", "--cpu", "arrow_lake")


def run_all(tap, steps, runs, words=""):
    """Returns where -> what was seen there. All run at the same time."""
    started = {where: Run(*options, "--memory", "256", "--timeout", "3000", "--l1", L1, "--l1-args",
                          f"stress steps={steps} {words}".strip())
               for where, options in runs.items()}
    seen = {}
    for where, run in started.items():
        run.wait()
        tap.ok("ok 1 - stress-bitmap" in run.out and "not ok" not in run.out, f"{steps} steps {where}", run.out[-2000:],
               run.err[-3000:])
        tap.equal(run.status, 0, f"and status 0 {where}")
        found = TRANSCRIPT.search(run.out)
        seen[where] = found and found.group(0).strip()
    return seen


def compare(tap, steps, runs, words=""):
    seen = run_all(tap, steps, runs, words)
    tap.comment(str(seen["bare"])[2:])
    for where in runs:
        if where != "bare":
            tap.ok(seen[where] and seen[where] == seen["bare"], f"{where} all is as on the bare CPU", *seen.items())


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000000
    tap = Tap()
    compare(tap, steps, {"on Nestor": ("--nestor", NESTOR), "bare": ("--bare",)})
    compare(tap, max(steps // CHECKED_PART, 1),
            {"with 5 bitmaps": ("--nestor", NESTOR + " bitmap-cache=5"), "bare": ("--bare",)})
    compare(tap, max(steps // CHECKED_PART, 1),
            {"compared at each entry": ("--nestor", NESTOR + " bitmap-check=1"), "bare": ("--bare",)})
    compare(tap, max(steps // CHECKED_PART, 1),
            {"with all features": (*NEW, "--nestor", NESTOR + " posted-interrupts=1 bitmap-check=1"),
             "bare": (*NEW, "--bare")}, "features=1")
    return tap.done()


sys.exit(main())
