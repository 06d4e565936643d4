#!/usr/bin/env python3
"""No operation of nested VMX costs more than it did: guests/bench on Nestor, against tests/vm/bench-figures.

The figures repeat to the tick for one compiler. Where another one built Nestor the limit is wide, for what no compiler explains.
`make bench-record` records new figures.
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))

from nestorlib import bench, figures  # noqa: E402


def check_comparison(tap):
    """The comparison itself finds what it is there for."""
    recorded = {"same": 100.0, "grown": 1000.0, "shrunk": 1000.0, "gone": 5.0}
    measured = {"same": 102.9, "grown": 1031.0, "shrunk": 900.0, "new": 5.0}
    found = [line.split(":")[0] for line in figures.faults(recorded, measured)]
    tap.equal(found, ["grown", "gone", "new"], "a row that grew, one that is gone and one that is new are found")
    tap.equal([line.split(":")[0] for line in figures.gains(recorded, measured)], ["shrunk"], "a row that shrank is noted")


def main():
    tap = Tap()
    check_comparison(tap)
    compiler, cpu, recorded = figures.read()
    limit = figures.PERCENT
    if figures.compiler() != compiler:
        limit = figures.PERCENT_OTHER
        tap.comment(f"recorded with {compiler}, built with {figures.compiler()}: the limit is {limit} %")
    try:
        measured = bench.measure("", cpu)
    except bench.Failed as failure:
        tap.ok(False, "the benchmark runs on Nestor", failure)
        return tap.done()
    tap.ok(True, "the benchmark runs on Nestor")
    slower = figures.faults(recorded, {key: ticks * 1.3 for key, ticks in measured.items()}, limit)
    tap.ok(slower, "figures that are 30 % higher would fail")
    faults = figures.faults(recorded, measured, limit)
    tap.ok(not faults, f"no row grew by more than {limit} %", *faults, "if that is intended: make bench-record")
    for line in figures.gains(recorded, measured):
        tap.comment(f"gained: {line} (make bench-record keeps it)")
    return tap.done()


sys.exit(main())
