#!/usr/bin/env python3
"""The newer forms of MSR access under the merged bitmap, on the CPU model of Bochs 3.1 that has them, bare and on
Nestor.

Each bitmap policy: what exits must be the same whatever Nestor runs L2 with, and what does not costs L2 nothing.
Skipped where that Bochs was not fetched (tools/fetch-emulators 3.1). Takes 10 s on an idle machine.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import Tap, run_scenarios  # noqa: E402  (the path must be set first)

TICKS = re.compile(r"^# ticks (\S+) (\d+)", re.M)
POLICIES = ("trace", "merge", "allow", "exit")


def main():
    tap = Tap()
    runs = run_scenarios(tap, "the newer forms of MSR access", "3.1", "wildcat_lake+msr_imm", ["msrform"],
                         {policy: f"bitmap={policy}" for policy in POLICIES})
    for kind, run in runs.items():
        tap.ok(run.status == 0 and len(run.names) == 9, f"{kind}: all of them ran",
               f"status {run.status}, {len(run.names)} scenarios", run.err[-1500:])
    if runs:
        check_ticks(tap, {kind: TICKS.findall(run.out) for kind, run in runs.items()})
    return tap.done()


def check_ticks(tap, ticks):
    """An access that nobody intercepts costs L2 the same as bare, to the tick; under allow and exit it exits."""
    tap.equal(len(ticks["bare"]), 7, "seven forms were timed", ticks["bare"])
    for kind in ("trace", "merge"):
        tap.equal(ticks[kind], ticks["bare"], f"{kind}: each form costs L2 what it costs bare")
    for kind in ("allow", "exit"):
        dearer = [form for (form, bare), (_, ours) in zip(ticks["bare"], ticks[kind]) if int(ours) > int(bare)]
        tap.equal(len(dearer), 7, f"{kind}: an access that exits is seen in the ticks", ticks[kind])
    tap.comment(f"ticks of 256 turns bare: {' '.join('='.join(pair) for pair in ticks['bare'])}")


sys.exit(main())
