#!/usr/bin/env python3
"""What CPUs have that came after Bochs 2.7's newest: CET, PKRS and UINV at entries and exits, user wait, the mask of
IA32_SPEC_CTRL, tertiary controls, more about EPT violations, mode-based execute control, posted interrupts. On a CPU
model of Bochs 3.1, bare and on Nestor.

Skipped where that Bochs was not fetched (tools/fetch-emulators 3.1). Takes 10 s on an idle machine.
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import Tap, run_scenarios  # noqa: E402  (the path must be set first)

SCENARIOS = ("switched-all-settings", "switched-shadow-stack-pointer", "switched-lists", "switched-failed-entries",
             "switched-checks", "switched-steady-after-failed-entry", "exit-user-wait", "spec-ctrl-virtual",
             "entry-tertiary-reserved", "shadow-operand-key", "ve-handled-by-l2", "execute-by-mode",
             "execute-by-tables", "execute-alone", "execute-control-off-and-on", "execute-misconfigured",
             "execute-in-a-bitmap", "execute-control-check", "posted-delivered", "posted-kept-pending",
             "posted-other-interrupts", "posted-in-a-bitmap", "posted-checks")
# Bochs 3.1 lets L2 through to a page that IA32_PKRS, as an entry loaded it, closes.
FAULTS_OF_BOCHS = {"shadow-operand-key"}


def main():
    tap = Tap()
    runs = run_scenarios(tap, "the features of newer CPUs", "3.1", "arrow_lake", SCENARIOS, {"Nestor": ""},
                         FAULTS_OF_BOCHS)
    for kind, run in runs.items():
        tap.equal(sorted(run.names), sorted(SCENARIOS), f"{kind}: all of them ran", run.err[-1500:])
    return tap.done()


sys.exit(main())
