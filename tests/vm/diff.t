#!/usr/bin/env python3
"""Random VMX operations bare and on Nestor: their transcripts must be equal. docs/DIFF.md

A part of what `make diff` and `make diff-models` run. Usage: tests/vm/diff.t [SEED]
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

DIFF = os.path.join(ROOT, "tools", "nestor-diff")
RUNS = (("corei7_skylake_x", 140000), ("corei7_haswell_4770", 20000), ("corei3_cnl", 20000),
        ("corei7_sandy_bridge_2600k", 20000))
SUMMARY = re.compile(r"(\d+) operations in (\d+) blocks, (\d+) differ")


def check_model(tap, cpu, operations, seed):
    run = Run("--cpu", cpu, "--ops", str(operations), "--seed", seed, program=DIFF).wait()
    found = SUMMARY.search(run.out)
    done, _, differing = map(int, found.groups()) if found else (0, 0, 0)
    tap.ok(run.status == 0 and not differing, f"{cpu}: bare and Nestor agree", run.out[-6000:], run.err[-2000:])
    tap.ok(done >= operations, f"{cpu}: at least {operations} operations ran", f"{done} ran")


def check_usage(tap):
    run = Run("--nestor-elf", os.devnull + "/none", "--ops", "1", program=DIFF).wait()
    tap.ok(run.status != 0, "a run that cannot be made is no success", run.out[-2000:])


def check_notices(tap):
    """L1 rewrites its bitmaps in every block; a Nestor that forgets to merge them anew must not pass."""
    run = Run("--nestor", "fault=skip-remerge", "--ops", "2000", "--show", "1", program=DIFF).wait()
    tap.ok(run.status == 1 and " differs:" in run.out, "a Nestor broken on purpose is noticed", run.out[-2000:])


def main():
    tap = Tap()
    seed = sys.argv[1] if len(sys.argv) > 1 else "1"
    for cpu, operations in RUNS:
        check_model(tap, cpu, operations, seed)
    check_notices(tap)
    check_usage(tap)
    return tap.done()


sys.exit(main())
