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

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))

from nestorlib import emulators, errors  # noqa: E402

IMAGE = os.path.join(ROOT, "build", "guests", "scenarios.elf")
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
RESULT = re.compile(r"^(not )?ok \d+ - (\S+?)( # SKIP .*)?$", re.M)
TICKS = re.compile(r"^# ticks (\S+) (\d+)", re.M)
LINE = re.compile(r"^(?:not ok .*|# guests.*)$", re.M)
EMULATOR = "3.1"     # the only one with such a CPU model; lib_tap.py asks for 2.7 where nothing else is said


def main():
    tap = Tap()
    try:
        emulators.choose(EMULATOR)
    except errors.RunnerError as error:
        tap.ok(True, f"the newer forms of MSR access # SKIP {error}")
        return tap.done()
    common = ["--emulator", EMULATOR, "--cpu", "wildcat_lake+msr_imm", "--memory", "256", "--timeout", "200",
              "--l1", IMAGE, "--l1-args", "msrform"]
    runs = {"bare": Run("--bare", *common)}
    for policy in ("trace", "merge", "allow", "exit"):
        runs[policy] = Run("--nestor-elf", CHECKED, "--nestor", f"bitmap={policy}", *common)
    for kind, run in runs.items():
        run.wait()
        results = RESULT.findall(run.out)
        tap.ok(run.status == 0 and len(results) == 9, f"{kind}: the forms do what the SDM says",
               f"status {run.status}, {len(results)} scenarios", *LINE.findall(run.out), run.err[-1500:])
        tap.equal([name for _, name, skipped in results if skipped], [], f"{kind}: none was skipped")
    check_ticks(tap, {kind: TICKS.findall(run.out) for kind, run in runs.items()})
    return tap.done()


def check_ticks(tap, ticks):
    """What nobody intercepts costs L2 what it costs bare, to the tick; with the policies allow and exit it exits."""
    tap.equal(len(ticks["bare"]), 7, "seven forms were timed", ticks["bare"])
    for kind in ("trace", "merge"):
        tap.equal(ticks[kind], ticks["bare"], f"{kind}: each form costs L2 what it costs bare")
    for kind in ("allow", "exit"):
        dearer = [form for (form, bare), (_, ours) in zip(ticks["bare"], ticks[kind]) if int(ours) > int(bare)]
        tap.equal(len(dearer), 7, f"{kind}: an access that exits is seen in the ticks", ticks[kind])
    tap.comment(f"ticks of 256 turns bare: {' '.join('='.join(pair) for pair in ticks['bare'])}")


sys.exit(main())
