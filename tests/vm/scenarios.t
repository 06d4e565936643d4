#!/usr/bin/env python3
"""The guest scenarios under Nestor, and the same image bare: the CPU is the oracle, so both must say the same.

One TAP line per scenario and run. Usage: tests/vm/scenarios.t [SCENARIO | THEME]...
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "scenarios.elf")
COMMON = ["--memory", "256", "--timeout", "240", "--l1", IMAGE, "--l1-args"]
NESTOR = ["--nestor", "stats=0xf8 loglevel=err"]
RESULT = re.compile(r"^(not )?ok \d+ - (\S+?)(?: # SKIP (.*))?$")
STARTED = re.compile(r"^# run (\S+)$")
PLAN = re.compile(r"^1\.\.(\d+)$")
ONLY_NESTOR = "on bare"     # why the image skips what needs Nestor


class Transcript:
    """What one run said: results by name, the lines that go with each, and how it ended."""

    def __init__(self, run):
        self.run = run
        self.results = {}       # name -> "ok", "not ok" or "skip: reason"
        self.lines = {}
        self.planned = None
        self.current = None
        for line in run.out.splitlines():
            self.take(line.rstrip())

    def take(self, line):
        plan, started, result = PLAN.match(line), STARTED.match(line), RESULT.match(line)
        if plan:
            self.planned = int(plan.group(1))
        elif started:
            self.current = started.group(1)
            self.lines[self.current] = []
        elif result:
            failed, name, skipped = result.groups()
            self.results[name] = f"skip: {skipped}" if skipped else "not ok" if failed else "ok"
            self.current = None
        elif self.current:
            self.lines[self.current].append(line)

    def report(self, tap, kind):
        for name, result in self.results.items():
            if result.startswith("skip"):
                tap.ok(True, f"{kind}: {name} # SKIP {result[6:]}")
            else:
                tap.ok(result == "ok", f"{kind}: {name}", *self.lines[name])
        if self.current:
            tap.ok(False, f"{kind}: {self.current} comes to an end", *self.lines[self.current], self.run.err[-2000:])
        complete = self.planned is not None and self.planned == len(self.results)
        failed = "not ok" in self.results.values()
        tap.ok(complete and self.run.status == (1 if failed else 0), f"{kind}: all scenarios ran and the status says so",
               f"{len(self.results)} of {self.planned} ran, status {self.run.status}", self.run.out[-500:],
               self.run.err[-2000:])


def check_same(tap, bare, nestor):
    """A scenario that needs Nestor may be skipped bare; all else must be equal, and nothing skipped for want of Nestor."""
    for name, result in nestor.results.items():
        wanted = bare.results.get(name)
        if wanted != f"skip: {ONLY_NESTOR}":
            if result != wanted:
                tap.ok(False, f"{name}: bare and Nestor agree", f"bare: {wanted}", f"Nestor: {result}")
        elif result == wanted:
            tap.ok(False, f"{name}: Nestor's counters and memory are there")
    same = sum(bare.results.get(name) == result for name, result in nestor.results.items())
    more = sum(bare.results.get(name) == f"skip: {ONLY_NESTOR}" for name in nestor.results)
    tap.ok(same + more == len(nestor.results) and nestor.results.keys() == bare.results.keys(),
           f"bare and Nestor agree: {same} scenarios, and {more} that only Nestor can run")


def main():
    tap = Tap()
    names = " ".join(sys.argv[1:]) or "all"
    runs = {"nestor": Run(*NESTOR, *COMMON, names), "bare": Run("--bare", *COMMON, names)}
    transcripts = {kind: Transcript(run.wait()) for kind, run in runs.items()}
    for kind, transcript in transcripts.items():
        transcript.report(tap, kind)
    check_same(tap, transcripts["bare"], transcripts["nestor"])
    runs = {"nestor, no EPT": Run(*NESTOR, *COMMON, "ept=0 " + names), "bare, no EPT": Run("--bare", *COMMON, "ept=0 " + names)}
    for kind, run in runs.items():
        Transcript(run.wait()).report(tap, kind)
    return tap.done()


sys.exit(main())
