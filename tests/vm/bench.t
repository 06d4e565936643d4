#!/usr/bin/env python3
"""No operation of nested VMX costs more than it did: guests/bench on Nestor, against tests/vm/bench-figures.

The figures repeat to the tick for one compiler. Where another one built Nestor the limit is wide, for what no compiler
explains. `make bench-record` records new figures. """
import os
import sys
import tempfile
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))

from nestorlib import bench, estimate, figures, fullbench, macro, page, report  # noqa: E402


def check_comparison(tap):
    """The comparison itself finds what it is there for."""
    recorded = {"same": 100.0, "grown": 1000.0, "shrunk": 1000.0, "gone": 5.0}
    measured = {"same": 102.9, "grown": 1031.0, "shrunk": 900.0, "new": 5.0}
    found = [line.split(":")[0] for line in figures.faults(recorded, measured)]
    tap.equal(found, ["grown", "gone", "new"], "a row that grew, one that is gone and one that is new are found")
    tap.equal([line.split(":")[0] for line in figures.gains(recorded, measured)], ["shrunk"],
              "a row that shrank is noted")


def check_report(tap):
    """The tables of `make bench`, from figures that are easy to reckon with."""
    counts = dict.fromkeys(estimate.COUNTED, 0) | {"entries": 2, "VMREAD": 10}
    results = {"ticks": {"bare": {"a": 4}, "Nestor": {"a": 500, "b": 3}, "KVM (off)": {"a": 5000, "b": 1}},
               "counts": {"a": counts, "b": dict.fromkeys(estimate.COUNTED, 0)}}
    tap.equal(report.ticks(results)[1:], [["a", "4.0", "500", "5,000", "10.0"], ["b", "-", "3.0", "1.0", "0.33"]],
              "the table has KVM's ratio, and a dash for what was not measured")
    tap.equal([row[0] for row in report.counts(results)[1:]], ["a"], "a row without work for Nestor has no counts")
    linux = {"macro": {"L0 none": {"x": 2e6, "y": 4e6}, "L0 KVM": {"y": 6e6}}}
    tap.equal(report.macro(linux)[1:], [["x", "2.0", "-", "-"], ["y", "4.0", "6.0", "1.500"]],
              "Linux as a whole has ratios to the run without L0")
    tap.equal(macro.WORK.findall("L2| macro: boot 7\nL2| L2| macro: gzip 8\n"), [("boot", "7"), ("gzip", "8")],
              "figures of a guest are found at any depth")
    text = "a\n<!-- nestor-bench --docs: x -->\nold\n<!-- end -->\nb\n"
    tap.equal(page.fill(text, {"x": ["new"]}), text.replace("old", "new"), "tables go into their places of the page")
    expected = 500 - 4 - 10 + 2 * estimate.CYCLES["entries"][0] + 10 * estimate.CYCLES["VMREAD"][0]
    tap.equal(estimate.cycles(500, counts), expected, "the estimate takes each VMX instruction for its own cycles")


def check_exits(tap):
    """The exits of L1 in a boot, as a summary of Nestor's has them."""
    summary = ("| exits by reason          L1      L2 |\n|  10 CPUID    50   4 |\n|  24 VMRESUME     900    0 |\n"
               "|  30 I/O instruction   0   7 |\n|  55 XSETBV   3   2 |\n| exits of L1   953 |\n| exits of L2   13 |\n")
    with mock.patch.object(bench, "run", lambda _: summary):
        found = macro.count_exits(20000000)
    tap.equal(report.exits({"exits": {"20 M": found}})[1:],
              [["CPUID", "50"], ["VMRESUME", "900"], ["others", "3"], ["all exits of L1", "953"],
               ["all exits of L2", "13"]], "exits of L1 have a row for each frequent reason, and their sum")
    with mock.patch.object(bench, "run", lambda _: summary.replace("953", "954")):
        try:
            macro.count_exits(20000000)
            tap.ok(False, "a sum that is not the rows' is refused")
        except bench.Failed:
            tap.ok(True, "a sum that is not the rows' is refused")


def check_parts(tap):
    """A measurement that failed goes on from there."""
    ran = []

    def job(name, fails):
        ran.append(name)
        if fails:
            raise bench.Failed("stands still")
        return {name: 1.5}

    def jobs(fails):
        return {"first": (job, "first", False), "second": (job, "second", fails)}

    with tempfile.TemporaryDirectory(prefix="bench-test.") as work, \
            mock.patch.object(fullbench, "PARTS", os.path.join(work, "parts.json")), \
            mock.patch.object(fullbench.Progress, "say", lambda *_: None):
        try:
            fullbench.run_jobs(jobs(True), 1, "these programs")
            tap.ok(False, "a job that fails twice ends the measurement")
        except bench.Failed:
            tap.equal(ran, ["first", "second", "second"], "a job that fails is tried once more, and then ends all")
        ran.clear()
        results = fullbench.run_jobs(jobs(False), 1, "these programs")
        tap.equal((ran, results), (["second"], {"first": {"first": 1.5}, "second": {"second": 1.5}}),
                  "the next one measures what is left")
        ran.clear()
        fullbench.run_jobs(jobs(False), 1, "these programs")
        tap.equal(ran, ["first", "second"], "after a whole one all is measured anew")


def check_counts(tap):
    """A build with COUNT_VMX=1 tells what it executes."""
    try:
        found = bench.count("vmcall")
    except bench.Failed as failure:
        tap.ok(False, "a Nestor that counts its VMX instructions runs the benchmark", failure)
        return
    entries = found["vmcall"]["entries"]
    tap.ok(entries == 2, "a round trip of L2 is two VM entries", f"counted: {found['vmcall']}")


def main():
    tap = Tap()
    check_comparison(tap)
    check_report(tap)
    check_exits(tap)
    check_parts(tap)
    check_counts(tap)
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
