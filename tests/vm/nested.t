#!/usr/bin/env python3
"""Three levels deep: Nestor runs Nestor, which runs the demo and its guest. The demo's story must hold there too."""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

DEMO = os.path.join(ROOT, "build", "guests", "demo.elf")
BANNER = "nestor: Nestor "
VERDICT = re.compile(r"^    \S.*? {2,}\d+  (ok|WRONG)\r?$", re.MULTILINE)
ENTRIES = re.compile(r"nested entries \(VMLAUNCH and VMRESUME of L1\) +(\d+)")


def main():
    tap = Tap()
    run = Run(DEMO, "", "--timeout", "300", program=os.path.join(ROOT, "tools", "run-nested")).wait()
    verdicts = VERDICT.findall(run.out)
    tap.equal(run.status, 0, "status 0 comes through all levels", run.out[-3000:], run.err[-3000:])
    tap.ok(BANNER in run.out and BANNER in run.err, "an outer and an inner Nestor started", run.err[-2000:])
    tap.ok(len(verdicts) > 10 and "WRONG" not in verdicts, "the story holds for L2 and L3", run.out[-3000:])
    inner, outer = (ENTRIES.findall(text) for text in (run.out, run.err))
    tap.ok(inner and outer and int(outer[-1]) > int(inner[-1]) > 0,
           "L2 was entered for each entry of L3, and more often",
           inner, outer)
    return tap.done()


sys.exit(main())
