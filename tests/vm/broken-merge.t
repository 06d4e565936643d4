#!/usr/bin/env python3
"""Breaking the merge on purpose is noticed: with each fault the bitmap scenarios fail, without they pass."""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

L1 = os.path.join(ROOT, "build", "guests", "scenarios.elf")
FAULTS = {"drop-l0-bits": "L0's bits are left out of the merged page",
          "skip-remerge": "a stored bit is not merged again",
         "skip-ept02": "EPT02 keeps its write permissions",
         "forget-generation": "a change of Nestor's own policy goes unnoticed",
         "never-rejoin": "large pages stay split"}
# A scenario that must be among those that fail.
NAMED = {"drop-l0-bits": "bitmap-keeps-lower-bits", "skip-remerge": "bitmap-plain-store",
         "skip-ept02": "bitmap-stored-by-l2-with-ept", "forget-generation": "trace-policy-changes",
         "never-rejoin": "trace-freed-by-vmxoff"}


def failed_scenarios(fault):
    run = Run("--timeout", "240", "--memory", "256", "--nestor", f"stats=0xf8 msr-policy=0xea0 fault={fault}", "--l1",
              L1, "--l1-args",
              "bitmap trace").wait()
    return run, re.findall(r"^not ok \d+ - (\S+)", run.out, re.M), len(re.findall(r"^ok \d+", run.out, re.M))


def main():
    tap = Tap()
    run, failed, passed = failed_scenarios("none")
    tap.ok(not failed and passed > 5, "without a fault all bitmap scenarios pass", run.out[-2000:], run.err[-2000:])
    for fault, meaning in FAULTS.items():
        run, failed, _ = failed_scenarios(fault)
        tap.comment(f"{fault}: {len(failed)} scenarios fail: {' '.join(failed[:6])}")
        tap.ok(NAMED[fault] in failed, f"{fault} ({meaning}) makes {NAMED[fault]} fail", run.out[-2000:],
               run.err[-2000:])
    return tap.done()


sys.exit(main())
