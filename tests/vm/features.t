#!/usr/bin/env python3
"""What CPUs have that came after Bochs 2.7's newest: CET, PKRS and UINV at entries and exits, user wait, the mask of
IA32_SPEC_CTRL, tertiary controls, more about EPT violations. On a CPU model of Bochs 3.1, bare and on Nestor.

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
LINE = re.compile(r"^(?:not ok .*|# guests.*)$", re.M)
EMULATOR, MODEL = "3.1", "arrow_lake"
SCENARIOS = ("switched-all-settings", "switched-shadow-stack-pointer", "switched-lists", "switched-failed-entries",
             "switched-checks", "switched-steady-after-failed-entry", "exit-user-wait", "spec-ctrl-virtual",
             "entry-tertiary-reserved", "shadow-operand-key", "ve-handled-by-l2")
# Bochs 3.1 lets L2 through to a page that IA32_PKRS, as an entry loaded it, closes.
FAULTS_OF_BOCHS = {"shadow-operand-key"}


def main():
    tap = Tap()
    try:
        emulators.choose(EMULATOR)
    except errors.RunnerError as error:
        tap.ok(True, f"the features of newer CPUs # SKIP {error}")
        return tap.done()
    common = ["--emulator", EMULATOR, "--cpu", MODEL, "--memory", "256", "--timeout", "300",
              "--l1", IMAGE, "--l1-args", " ".join(SCENARIOS)]
    runs = {"bare": Run("--bare", *common), "Nestor": Run("--nestor-elf", CHECKED, *common)}
    for kind, run in runs.items():
        run.wait()
        results = RESULT.findall(run.out)
        excused = FAULTS_OF_BOCHS if kind == "bare" else set()
        tap.equal(sorted(name for _, name, _ in results), sorted(SCENARIOS), f"{kind}: all of them ran",
                  run.err[-1500:])
        tap.equal([name for failed, name, _ in results if failed and name not in excused], [],
                  f"{kind}: the features do what the SDM says", *LINE.findall(run.out))
        tap.equal([name for _, name, skipped in results if skipped], [], f"{kind}: none was skipped")
    return tap.done()


sys.exit(main())
