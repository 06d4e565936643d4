#!/usr/bin/env python3
"""The other way to VMCS shadowing, vmcs-shadowing=small (docs/adr/0011-vmcs02-is-the-shadow.md): the scenarios see the
same, no VMREAD or VMWRITE of the usual ones exits, and nothing is VMCLEARed. linux: Linux/KVM as L1 boots its L2.

Usage: tests/vm/small.t [scenarios|shadow-paging|counts|linux] ...       (without a word: scenarios and counts)
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, SCENARIO_LINE, SCENARIO_RESULT, STACK, Run, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import bench  # noqa: E402

SMALL = "vmcs-shadowing=small"
IMAGE = os.path.join(ROOT, "build", "guests", "scenarios.elf")
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
PLAN = re.compile(r"^1\.\.(\d+)", re.M)
HANDLED = "kvm-handled"


def check_scenarios(tap, words="all"):
    run = Run("--nestor-elf", CHECKED, "--nestor", f"stats=0xf8 msr-policy=0xea0 {SMALL}", "--memory", "256",
              "--timeout", "600", "--l1", IMAGE, "--l1-args", words).wait()
    results = SCENARIO_RESULT.findall(run.out)
    planned = PLAN.search(run.out)
    tap.ok(planned and len(results) == int(planned.group(1)) > 0, f"{words}: all of {len(results)} scenarios ran",
           run.out[-1500:], run.err[-1500:])
    tap.equal([name for failed, name, _ in results if failed], [], f"{words}: each sees what the SDM says",
              *SCENARIO_LINE.findall(run.out), run.err[-1500:])
    tap.equal(run.status, 0, f"{words}: and the status says so", run.err[-1500:])


def check_counts(tap):
    """By both ways the same exits; what each does for it differs."""
    small, large = (bench.count(HANDLED, options=options)[HANDLED] for options in (SMALL, "straight-way=0"))
    tap.equal((small["entries"], large["entries"]), (2, 2), "kvm-handled has one exit of L2 and one of L1", small,
              large)
    tap.equal((small["VMPTRLD"], small["VMCLEAR"]), (4, 0), "small: the small VMCS is current twice, none is cleared")
    tap.equal((large["VMPTRLD"], large["VMCLEAR"]), (2, 2), "vmcs02 itself: it changes its type twice")


def check_linux(tap):
    run = Run("--nestor", SMALL, "--timeout", "900", "--verbose", program=STACK).wait()
    tap.ok("L2: hello from init" in run.out, "Linux/KVM as L1 boots its L2", run.out[-3000:], run.err[-1500:])
    tap.equal(run.status, 0, "and powers off", run.out[-1500:], run.err[-1500:])


KINDS = {"scenarios": check_scenarios, "shadow-paging": lambda tap: check_scenarios(tap, "ept=0 all"),
         "counts": check_counts, "linux": check_linux}


def main():
    tap = Tap()
    for kind in sys.argv[1:] or ("scenarios", "counts"):
        KINDS[kind](tap)
    return tap.done()


sys.exit(main())
