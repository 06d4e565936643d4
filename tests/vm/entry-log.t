#!/usr/bin/env python3
"""Why L1's entries failed, in Nestor's log: each rule once, with the field's value, however many failed before it."""
import collections
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "scenarios.elf")
REFUSED = re.compile(r"nested: entry of vmcs12 at gpa1=[0-9a-f]+ refused: (.*?): rule \"([^\"]+)\", (.*)$", re.M)
CITED = re.compile(r'; SDM 3C 27\.[23][\d.]* "[^"]+"$')

# The mistakes of the scenarios, and the words of the log: outcome, rule, value.
FAILURES = [
    ("VMfail 7 (controls)", "CR3-target count", "CR3_TARGET_COUNT = 5"),
    ("VMfail 7 (controls)", "MSR-bitmap address", "MSR_BITMAP = 800"),
    ("VMfail 8 (host state)", "host CS selector zero", "HOST_CS_SELECTOR = 0"),
    ("VMfail 8 (host state)", "host RIP", "HOST_RIP = 8000000000000000"),
    ("exit 33 (guest state)", "guest RFLAGS: reserved bits", "GUEST_RFLAGS = 0"),
    ("exit 33 (guest state)", "activity state not supported", "GUEST_ACTIVITY_STATE = 4"),
    ("exit 34 (MSR loading)", "MSR that no such list may name", "entry 2, MSR c0000100 = 0"),
    ("exit 34 (MSR loading)", "RDMSR or WRMSR would fault", "entry 2, MSR c0000102 = 8000000000000000"),
]
MANY = 64     # a log that stops after so many lines would miss the last ones


def main():
    tap = Tap()
    run = Run("--memory", "256", "--timeout", "240", "--nestor", "log=info", "--l1", IMAGE, "--l1-args",
              "entry msrarea")
    run.wait()
    tap.equal(run.status, 0, "the scenarios of failing entries pass", run.out[-500:], run.err[-1000:])
    lines = REFUSED.findall(run.err)
    for outcome, rule, value in FAILURES:
        found = [line for line in lines if line[:2] == (outcome, rule)]
        tap.ok(len(found) == 1 and CITED.sub("", found[0][2]) == value, f"{outcome}: {rule}", f"wanted {value}", *found)
    twice = [rule for rule, times in collections.Counter(line[:2] for line in lines).items() if times > 1]
    tap.equal(twice, [], "no rule is named twice")
    tap.ok(len(lines) > MANY, f"{len(lines)} rules are named")
    uncited = [line for line in lines if "MSR loading" not in line[0] and not CITED.search(line[2])]
    tap.equal(uncited, [], "each says where in the SDM the rule is")
    return tap.done()


sys.exit(main())
