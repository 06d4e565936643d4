#!/usr/bin/env python3
"""Enlightened VMCSs (the option evmcs=1, docs/adr/0019-enlightened-vmcs.md): the scenarios once more, in an image where
VMREAD, VMWRITE and VMPTRLD are loads and stores of a page; each must say what it says of an ordinary VMCS, bare too.
Then what only an enlightened one has, and that without the option nothing of it is there.

Usage: tests/vm/evmcs.t [SCENARIO | THEME]...
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "evmcs", "scenarios.elf")
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
OPTIONS = "stats=0xf8 msr-policy=0xea0"
# Of those that enter L2 what has most to do with the fields; `tests/vm/evmcs.t all` has all.
THEMES = "entry exit event nmi inject msrarea ept mode bitmap state switched found".split()
RESULT = re.compile(r"^(not )?ok \d+ - (\S+?)(?: # SKIP (.*))?$", re.M)
LACKS = "an enlightened VMCS lacks a field"
ABSENT = "no enlightened VMCS is offered"
SAID = (r"VMfailInvalid: the VP assist page names [0-9a-f]+ as enlightened VMCS",
        r"VMfailInvalid: the enlightened VMCS at gpa1=[0-9a-f]+ begins with version [0-9a-f]+: write 1",
        r"VMCALL at rip=.* refused: RAX = 2: hypercall 5c")


def run(options, words):
    return Run("--memory", "256", "--timeout", "600", "--nestor-elf", CHECKED, "--nestor", options, "--l1", IMAGE,
               "--l1-args", " ".join(words))


def report(tap, done):
    """All scenarios of the run pass, and it came to its end."""
    results = RESULT.findall(done.out)
    for failed, name, skipped in results:
        tap.ok(not failed, f"enlightened: {name}" + (f" # SKIP {skipped}" if skipped else ""),
               done.out[done.out.find(f"# run {name}\n"):][:1500])
    plan = re.search(r"^1\.\.(\d+)$", done.out, re.M)
    tap.ok(done.status == 0 and plan and int(plan.group(1)) == len(results), "all ran to their end", done.out[-500:],
           done.err[-1500:])
    tap.ok(not any(skipped == ABSENT for _, _, skipped in results), "the interface is there with evmcs=1")
    return results


def main():
    tap = Tap()
    own, off = run(f"{OPTIONS} evmcs=1", ["evmcs"]), run(OPTIONS, ["evmcs"])
    report(tap, own.wait())
    for pattern in SAID:
        tap.ok(re.search(pattern, own.err), f"the log has {pattern}", own.err[-1500:])
    results = RESULT.findall(off.wait().out)
    tap.ok(off.status == 0 and results and all(skipped == ABSENT for _, _, skipped in results),
           "without the option there is no such interface", off.out[-1000:])
    if sys.argv[1:] != ["evmcs"]:
        results = report(tap, run(f"{OPTIONS} evmcs=1", sys.argv[1:] or THEMES).wait())
        lacking = [name for _, name, skipped in results if skipped == LACKS]
        tap.ok(len(lacking) * 5 <= len(results), "most need no field that the page does not have", lacking)
    return tap.done()


sys.exit(main())
