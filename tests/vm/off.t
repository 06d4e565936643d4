#!/usr/bin/env python3
"""Ways in which L1 resets the machine: Nestor notices each, and its log is there after the reset. Seconds each."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

OFF = os.path.join(ROOT, "build", "guests", "off.elf")
REPORT = "exit status {} (L1 reset the machine)"


def run(args, nestor="", *more):
    return Run("--l1", OFF, "--l1-args", args, "--memory", "256", "--timeout", "200", "--nestor", nestor, *more).wait()


def check_ways(tap):
    """With on-exit=bochs the run ends at L1's write; without it Nestor would pass it on."""
    for way in ("cf9", "keyboard", "port92"):
        done = run(way)
        tap.ok(done.status == 125 and REPORT.format(125) in done.err, f"{way}: noticed", done.err[-2000:])
        tap.ok("Nestor's summary" in done.err, f"{way}: with a summary", done.err[-2000:])
    done = run("none")
    tap.equal(done.status, 7, "a write to another port is none", done.err[-2000:])


def check_previous(tap):
    done = run("again", "inspect=0xea4", "--resets", "1")
    tap.equal(done.status, 0, "after a reset Nestor and L1 run again", done.err[-2000:])
    first, _, second = done.out.partition("off: a reset by cf9 follows\n")
    tap.ok("memory still has the log of the run before" not in first, "the first run has none before it", first)
    tap.ok("memory still has the log of the run before" in second, "the second finds the first's", second)
    told = second.rpartition("main: L1 starts\n")
    own, before = second.split("nestor: main: L1 starts\n", 1)
    for line in ("nestor: Nestor ", "nestor: main: L1 starts", "Nestor's summary", "nestor: " + REPORT.format(0)):
        tap.ok(line in before, f"L1 reads in it: {line}", told)
    tap.ok("?" * 20 not in before, "without a gap")
    tap.ok("memory still has" not in before, "and it is the first's")
    tap.ok("Nestor 0" in own, "the second run's own log is another")


def main():
    tap = Tap()
    check_ways(tap)
    check_previous(tap)
    return tap.done()


sys.exit(main())
