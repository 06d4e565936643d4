#!/usr/bin/env python3
"""INVEPT and INVVPID of L1 reach the CPU: the scenarios of the theme invept on a Nestor that counts what it executes.

They hold with each bitmap policy, with and without tracing of EPT12's tables; and each fault put in is noticed by the
scenario that is named here. Usage: tests/vm/invept.t
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

L1 = os.path.join(ROOT, "build", "guests", "scenarios.elf")
# `make nestor COUNT_VMX=1`
COUNTING = os.path.join(ROOT, "build", "count", "nestor.elf")
ALL = ["invept"]
SOME = ["invept-then-store", "invept-reaches-l2s-tables", "invept-all-executed", "invept-owed-past-vmclear"]
RUNS = {"": ALL, "bitmap=merge": SOME, "bitmap=allow": SOME, "bitmap=exit": SOME, "ept12-tracing=0": ALL}
# A VMCS that moves, with one INVEPT at each arrival.
SMP = os.path.join(ROOT, "build", "guests", "smp.elf")
MIGRATIONS = ["", "bitmap=exit"]
ARRIVALS = re.compile(r"^# (\d+) INVEPTs on arrival: (\d+) executed", re.M)
# Option -> scenarios that must be among those that fail.
FAULTS = {"skip-invept": ["invept-all-executed", "invept-then-store"],
          "invept-at-once": ["invept-then-store"],
          "keep-vpid": ["invept-vpid-handed-over"],
          "keep-misconfigured": ["ept-misconfigured-by-turns"]}
RESULT = re.compile(r"^(not )?ok \d+ - (\S+)( # SKIP)?", re.M)


def run(options, words, *machine, image=L1):
    done = Run(*machine, "--timeout", "200", "--memory", "256", "--nestor-elf", COUNTING,
               "--nestor", f"stats=0xf8 {options}", "--l1", image, "--l1-args", " ".join(words)).wait()
    results = RESULT.findall(done.out)
    failed = [name for bad, name, _ in results if bad]
    passed = [name for bad, name, skipped in results if not bad and not skipped]
    return done, passed, failed


def main():
    tap = Tap()
    for options, words in RUNS.items():
        done, passed, failed = run(options, words)
        tap.ok(len(passed) >= (12 if words == ALL else len(words)) and not failed,
               f"all are executed and seen: {options or 'as it comes'}", *failed,
               done.out[-2000:], done.err[-1000:])
    for options in MIGRATIONS:
        done, passed, failed = run(options, ["migration=1"], "--cpus", "2", "--ips", "4000000", image=SMP)
        arrived = ARRIVALS.search(done.out)
        tap.ok(arrived and int(arrived.group(2)) >= int(arrived.group(1)) and not failed,
               f"a VMCS that moves between processors: {options or 'as it comes'}", done.out[-2000:], done.err[-1000:])
    for fault, names in FAULTS.items():
        done, _, failed = run(f"fault={fault}", names)
        for name in names:
            tap.ok(name in failed, f"fault={fault} makes {name} fail", done.out[-2000:], done.err[-1000:])
    return tap.done()


sys.exit(main())
