#!/usr/bin/env python3
"""The demo tells its story under Nestor in under 15 seconds, and says bare which numbers it cannot have."""
import os
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "demo.elf")
COMMON = ["--memory", "256", "--timeout", "60", "--l1", IMAGE]
LIMIT_S = 15
# The loop's own ticks per RDMSR, with and without an exit, must be far apart: that is the point of the bitmap.
TIMES_FASTER = 20
ROW = re.compile(r"^    (\S.*?) {2,}(\d+|n/a)(?:  (ok|WRONG))?$")


def rows_of(run):
    return [match.groups() for match in map(ROW.match, run.out.replace("\r", "").splitlines()) if match]


def main():
    tap = Tap()
    start = time.monotonic()
    nestor = Run("--nestor", "stats=0xf8", *COMMON).wait()
    seconds = time.monotonic() - start
    rows = rows_of(nestor)
    tap.equal(nestor.status, 0, "the story holds under Nestor", nestor.out, nestor.err[-2000:])
    tap.ok(seconds < LIMIT_S, f"it takes less than {LIMIT_S} s", f"it took {seconds:.1f} s")
    tap.comment(f"{seconds:.1f} s")
    tap.ok(rows and all(value != "n/a" and verdict != "WRONG" for _, value, verdict in rows), "every number is there",
           nestor.out)
    ticks = [int(value) for label, value, _ in rows if label.startswith("TSC ticks")]
    tap.ok(ticks and min(ticks) * TIMES_FASTER < max(ticks), "an RDMSR that does not exit is much faster", ticks)

    bare = Run("--bare", *COMMON).wait()
    bare_rows = rows_of(bare)
    tap.equal(bare.status, 0, "what can be seen bare holds there", bare.out, bare.err[-2000:])
    tap.equal([label for label, _, _ in bare_rows], [label for label, _, _ in rows], "bare shows the same rows")
    tap.ok(any(value == "n/a" for _, value, _ in bare_rows), "and marks those that it cannot have")
    exits = [[row for row in kind if row[0].startswith("exits to L1")] for kind in (rows, bare_rows)]
    tap.equal(exits[0], exits[1], "L1 sees the same exits on both")
    return tap.done()


sys.exit(main())
