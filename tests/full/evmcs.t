#!/usr/bin/env python3
"""Linux as L1 with the option evmcs=1: it takes Nestor for Hyper-V, its KVM uses enlightened VMCSs, and boots Linux as
L2 with them, on as many processors; VMREAD, VMWRITE and VMPTRLD it does not execute for that.

Usage: tests/full/evmcs.t [CPUS[:RELEASE]]...     (default: 1, 2 and 2:trixie; without RELEASE it is `make run`'s Linux)
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "vm"))

from lib_tap import ROOT, STACK, Run, Tap  # noqa: E402  (the path must be set first)

LINES = ((r"L1 \| .*Hypervisor detected: Microsoft Hyper-V", "L1 takes Nestor for Hyper-V"),
         (r"L1 \| .*[uU]sing Hyper-V Enlightened VMCS", "KVM uses enlightened VMCSs"),
         (r"L2 \| .*Linux version \d", "L2's kernel banner"),
         (r"L2 \| .*L2: hello from init", "a line of L2's init"),
         (r"L1 \| .*L1: power-off", "L1's power-off"))
DEFAULT = ("1", "2", "2:trixie")
FEW = 100   # for each processor, beside those that find out what the CPU has


def exits(text, reason):
    """The figure of a row of the summary; the first word may be an expression."""
    found = re.search(rf"\b{reason} +(\d+)\b", text)
    return int(found.group(1)) if found else 0


def check(tap, title, cpus, more):
    run = Run("--cpus", cpus, "--timeout", "1500", "--verbose", "--words", "loglevel=7", "--nestor", "evmcs=1", *more,
              program=STACK).wait()
    place = 0
    for pattern, meaning in LINES:
        found = re.compile(pattern).search(run.out, place)
        tap.ok(found, f"{title}: {meaning}", run.out[-3000:])
        place = found.end() if found else place
    tap.equal(run.status, 0, f"{title}: the run ends with status 0", run.err, run.out[-3000:])
    tap.ok(f"processors: {cpus}" in run.out, f"{title}: L2 has as many processors", run.out[-3000:])
    for reason in ("VMREAD", "VMWRITE", "VMPTRLD"):
        count = exits(run.out, reason)
        tap.ok(count < FEW * int(cpus), f"{title}: L1 executed {count} {reason}s that exit")
    entries = exits(run.out, r"nested entries \(VMLAUNCH and VMRESUME of L1\)")
    tap.ok(entries > 1000, f"{title}: L2 was entered {entries} times")


def main():
    tap = Tap()
    for word in sys.argv[1:] or DEFAULT:
        cpus, _, release = word.partition(":")
        check(tap, word, cpus, ["--kernel-dir", os.path.join(ROOT, "build", "full", release)] if release else [])
    return tap.done()


sys.exit(main())
