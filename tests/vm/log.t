#!/usr/bin/env python3
"""log=dbg says each exit, entry and event in words; the summary leaves out what is 0; code has its symbols."""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, RUNNER, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "mini.elf")
WORDS = re.compile(r"nestor: exit: (.*)$", re.M)
TOTAL = re.compile(r"\| exits of (L[12]) +(\d+) \|")
ZERO = re.compile(r"^nestor\| \| (?! *\d)[^|]* +0 \|$", re.M)     # not of the exits: they have two columns


def main():
    tap = Tap()
    run = Run("--memory", "256", "--timeout", "120", "--nestor", "log=dbg summary-zeros=1", "--l1", IMAGE).wait()
    said = WORDS.findall(run.err)
    tap.equal(run.status, 0, "mini runs with log=dbg", run.err[-2000:])
    totals = dict(TOTAL.findall(run.err))
    for level in ("L1", "L2"):
        exits = [line for line in said if line.startswith(f"{level} exits: ")]
        wanted = int(totals.get(level, -1))
        # The exit that ends the run is followed by no entry.
        tap.ok(wanted - 1 <= len(exits) <= wanted and exits, f"each of {wanted} exits of {level} is said",
               f"{len(exits)}")
    cpuid = [i for i, line in enumerate(said) if line.startswith("L2 exits: 10 (CPUID) at rip=")]
    tap.ok(len(cpuid) == 1 and said[cpuid[0] + 1] == "L1 is entered", "L2's CPUID exits, and L1 is entered",
           *said[cpuid[0]:cpuid[0] + 3] if cpuid else said[-5:])
    tap.ok(cpuid and re.search(r"rip=[0-9a-f]+ <guest\+0x[0-9a-f]+>$", said[cpuid[0]]), "the code of L2 has its symbol",
           *[said[i] for i in cpuid])
    tap.ok(ZERO.search(run.err), "summary-zeros=1: there are rows of 0", run.err[-3000:])
    plain = Run("--memory", "256", "--timeout", "120", "--l1", IMAGE).wait()
    tap.equal(ZERO.findall(plain.err), [], "there is no row of 0 otherwise")
    tap.ok(TOTAL.search(plain.err) and not WORDS.search(plain.err), "and no exit is said without log=dbg")
    version = subprocess.run([RUNNER, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout
    tap.ok(re.fullmatch(r"nestor-run of Nestor \d+\.\d+\.\d+\n", version), "nestor-run --version", version)
    return tap.done()


sys.exit(main())
