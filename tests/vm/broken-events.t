#!/usr/bin/env python3
"""Nestor's handling of events, broken on purpose, is noticed: with each fault the scenario that is named fails."""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

L1 = os.path.join(ROOT, "build", "guests", "scenarios.elf")
# fault: (what it does, the scenario that fails)
FAULTS = {
    "drop-nmi-window": ("L1's own NMI window goes with Nestor's", "nmi-at-every-step"),
    "drop-repeat-trap": ("no single step between the iterations of REP INS", "l1-debug-step-io"),
}
# fault: (what it does, whether the CHECKED build is what notices, what the last lines must say)
ENDS = {
    "host-without-mce": ("a VM exit clears CR4.MCE", True, r"CR4\.MCE is clear in root operation"),
    "machine-check": ("#MC comes in root operation", False,
                      r"machine check: MCG_STATUS=\w+, \d+ of \d+ banks hold an error(?s:.*)#MC in Nestor at rip="),
}
CHECKED = ["--nestor-elf", os.path.join(ROOT, "build", "checked", "nestor.elf")]


def run_scenario(fault, name):
    run = Run("--timeout", "240", "--memory", "256", "--nestor", f"stats=0xf8 fault={fault}", "--l1", L1, "--l1-args",
              name)
    return run.wait()


def main():
    tap = Tap()
    for fault, (meaning, name) in FAULTS.items():
        for injected in ("none", fault):
            run = run_scenario(injected, name)
            failed = re.findall(r"^not ok \d+ - (\S+)", run.out, re.M)
            passed = re.findall(r"^ok \d+ - (\S+)", run.out, re.M)
            wanted = ([], [name]) if injected == "none" else ([name], [])
            tap.equal((failed, passed), wanted, f"{name} with fault={injected}" + (f": {meaning}" if failed else ""),
                      run.out[-2000:], run.err[-2000:])
    for fault, (meaning, checked, line) in ENDS.items():
        run = Run(*(CHECKED if checked else []), "--timeout", "240", "--memory", "256", "--nestor",
                  f"stats=0xf8 fault={fault}",
                  "--l1", L1, "--l1-args", "l1-registers-mce").wait()
        tap.ok(run.status == 125 and re.search(line, run.err), f"fault={fault}: {meaning}, and Nestor says so",
               run.status, run.out[-2000:], run.err[-2000:])
    return tap.done()


sys.exit(main())
