#!/usr/bin/env python3
"""Rows of nested/quiet.def that one processor's events and controls concern, each left out: the checked build stops, or
the scenario that is named fails. tests/host/test_never_forgets.c has the rows about translations and bitmaps."""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))

from nestorlib import emulators, errors  # noqa: E402

L1 = os.path.join(ROOT, "build", "guests", "scenarios.elf")
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
NEWER = ("--emulator", "3.1", "--cpu", "arrow_lake")
# row: (a scenario that needs it, what the runner is told beside)
ROWS = {
    "event": ("straight-event-stays", ()),
    "sysenter": ("straight-host-sysenter", ()),
    "left": ("straight-host-resume-after-sti", ()),
    "delivery": ("straight-event-over-violation", ()),
    "half": ("straight-list-fails-half-way", ()),
    "loaded": ("straight-list-put-back", ()),
    "untold": ("straight-list-over-bitmap", ()),
    "vpid": ("straight-turns-vpid", ()),
    "epoch": ("straight-turns-control", ()),
    "once": ("switched-steady-after-failed-entry", NEWER),
}
# CR4 of this CPU has bits that L1's has not, so that MOV to CR4 exits to L0.
MORE_OF_CR4 = ("paging-exit-bits-not-there", ("--emulator", "3.1", "--cpu", "sapphire_rapids"))
# A checked build settles at once, and leaves nothing for later.
TURNS = ("straight-turns", ("--nestor-elf", os.path.join(ROOT, "build", "nestor.elf")))
BY_PORT = ("straight-event-after-window", ("--nestor", "stats=0xf8 inspect=0xea4"))


def failed(row, name, more):
    """The run's words on a failure; empty: none."""
    run = Run("--timeout", "240", "--memory", "256", "--nestor-elf", CHECKED, "--nestor",
              f"stats=0xf8 quiet-fault={row}", *more, "--l1", L1, "--l1-args", name).wait()
    if run.status not in (0, 1, 125) or "SKIP" in run.out:
        return f"the run ended with {run.status}: {run.out[-300:]}"
    return "".join(re.findall(r"^not ok .*|straight: .*|exit status 125.*", run.out + run.err, re.M))


def is_fetched(version):
    try:
        emulators.choose(version)
    except errors.RunnerError:
        return False
    return True


def main():
    tap = Tap()
    for row, (name, more) in ROWS.items():
        if more == NEWER and not is_fetched(NEWER[1]):
            tap.ok(True, f"{name} # SKIP Bochs {NEWER[1]} was not fetched")
            continue
        tap.equal(failed("none", name, more), "", f"{name} passes")
        found = failed(row, name, more)
        tap.ok(found and "the run ended" not in found, f"{name} with quiet-fault={row}: {found[:100]}")
    tap.equal(failed("none", *BY_PORT), "", f"{BY_PORT[0]} passes")
    tap.equal(failed("none", *TURNS), "", f"{TURNS[0]} passes on a build that is not checked")
    if is_fetched("3.1"):
        tap.equal(failed("none", *MORE_OF_CR4), "", f"{MORE_OF_CR4[0]} passes on sapphire_rapids")
    return tap.done()


sys.exit(main())
