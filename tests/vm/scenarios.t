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
# The build that looks at the result of every VMREAD and VMWRITE: `make nestor CHECKED=1`.
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
NESTOR = ["--nestor-elf", CHECKED, "--nestor", "stats=0xf8 msr-policy=0xea0"]
# Bochs 2.7 has an x2APIC that L1 is not told of; its virtualisation works.
X2APIC = [*NESTOR[:-1], NESTOR[-1] + " x2apic=1 apic-disable=1"]
RESULT = re.compile(r"^(not )?ok \d+ - (\S+?)(?: # SKIP (.*))?$")
STARTED = re.compile(r"^# run (\S+)$")
DIGEST = "# transcript "    # of a scenario that leaves open what it sees, but not that both see the same
PLAN = re.compile(r"^1\.\.(\d+)$")
ONLY_NESTOR = "on bare"     # why the image skips what needs Nestor
# Features that this CPU has and Nestor does not offer to L1: the image skips what needs it, and says so in these words.
NOT_OFFERED = {"skip: no x2APIC", "skip: no x2APIC virtualisation",
               "skip: no APIC-register virtualisation", "skip: no virtual-interrupt delivery"}


class Transcript:
    """The output of one run: results by name, the lines that go with each, and how it ended."""

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
        tap.ok(complete and self.run.status == (1 if failed else 0),
               f"{kind}: all scenarios ran and the status says so",
               f"{len(self.results)} of {self.planned} ran, status {self.run.status}", self.run.out[:500],
               self.run.err[-2000:])


def check_same(tap, bare, nestor):
    """A feature that only Nestor or only the CPU has may be skipped on one side; all else must be equal."""
    same, more, less = [], [], []
    for name, result in nestor.results.items():
        wanted = bare.results.get(name)
        if wanted == f"skip: {ONLY_NESTOR}":
            more.append(name)
            if result == wanted:
                tap.ok(False, f"{name}: Nestor's counters and memory are there")
        elif wanted == "ok" and result in NOT_OFFERED:
            less.append(name)
        elif result == wanted:
            same.append(name)
        else:
            tap.ok(False, f"{name}: bare and Nestor agree", f"bare: {wanted}", f"Nestor: {result}")
    for name in same:
        wanted, found = ([line for line in side.lines.get(name, ()) if line.startswith(DIGEST)]
                         for side in (bare, nestor))
        if wanted or found:
            tap.equal(found, wanted, f"{name}: what was seen is the bare CPU's transcript")
    tap.ok(len(same) + len(more) + len(less) == len(bare.results) == len(nestor.results),
           f"bare and Nestor agree: {len(same)} scenarios; {len(more)} need Nestor, "
            f"{len(less)} need what it does not offer")


def main():
    tap = Tap()
    names = " ".join(sys.argv[1:]) or "all"
    runs = {"nestor": Run(*NESTOR, *COMMON, names), "bare": Run("--bare", *COMMON, names)}
    transcripts = {kind: Transcript(run.wait()) for kind, run in runs.items()}
    for kind, transcript in transcripts.items():
        transcript.report(tap, kind)
    check_same(tap, transcripts["bare"], transcripts["nestor"])
    runs = {"nestor, no EPT": Run(*NESTOR, *COMMON, "ept=0 " + names),
            "bare, no EPT": Run("--bare", *COMMON, "ept=0 " + names)}
    if names == "all":
        runs["nestor, with x2APIC"] = Run(*X2APIC, *COMMON, "apicv")
    for kind, run in runs.items():
        Transcript(run.wait()).report(tap, kind)
    return tap.done()


sys.exit(main())
