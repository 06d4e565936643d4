#!/usr/bin/env python3
"""Linux/KVM as L1 boots Linux as L2 under Nestor, on EPT and on L1's shadow paging.

What must be seen, in this order, is a list of (layer, pattern) rows. The two runs go side by side.
Usage: tests/vm/linux-kvm.t [ept|shadow]
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import STACK, Run, Tap  # noqa: E402  (the path must be set first)

TIMEOUT_S = 600
KINDS = {"ept": ("1", "ept=Y unrestricted_guest=Y vpid=Y"),
         "shadow": ("0", "ept=N unrestricted_guest=N vpid=Y")}
LINE = re.compile(r"^ *[\d.]+ (L[012]|--) \| (.*)$")


def expected(parameters):
    return (("L0", r"Nestor \d+\.\d+", "Nestor's banner with its version"),
            ("L0", r"CPU features: .*EPT", "the CPU features it uses"),
            ("L1", r"Linux version \d", "L1's kernel banner"),
            ("L1", f"^L1: kvm_intel loaded: {parameters}$", f"kvm_intel is loaded with {parameters}"),
            ("L2", r"Linux version \d", "L2's kernel banner"),
            ("L2", r"L2: hello from init", "a line of L2's init"),
            ("L1", r"^L1: power-off", "L1's power-off"),
            ("L0", r"Nestor's summary", "Nestor's summary"),
            ("L0", r"exit status 0 ", "Nestor's exit status"))


def check_order(tap, kind, parameters, output):
    """Each row is searched for behind the place where the row before it was found."""
    lines = [found.groups() for found in map(LINE.match, output.splitlines()) if found]
    place = 0
    for layer, pattern, title in expected(parameters):
        for index in range(place, len(lines)):
            if lines[index][0] == layer and re.search(pattern, lines[index][1]):
                place = index + 1
                tap.ok(True, f"{kind}: {title}")
                break
        else:
            tap.ok(False, f"{kind}: {title}", f"not found behind line {place}")


def main():
    tap = Tap()
    kinds = sys.argv[1:] or list(KINDS)
    runs = [Run("--ept", KINDS[kind][0], "--timeout", str(TIMEOUT_S), "--verbose", program=STACK) for kind in kinds]
    for kind, run in zip(kinds, runs):
        run.wait()
        check_order(tap, kind, KINDS[kind][1], run.out)
        last = "\n".join(run.out.splitlines()[-30:])
        tap.equal(run.status, 0, f"{kind}: the run ends with status 0", run.err, last)
        tap.comment(run.out.splitlines()[-1] if run.out else run.err)
    return tap.done()


sys.exit(main())
