#!/usr/bin/env python3
"""Linux/KVM as L1 boots Linux as L2 under Nestor: on EPT, on L1's shadow paging, and with two processors each.

What must be seen, in this order, is a list of (layer, pattern) rows. The first two runs go side by side.
Usage: tests/vm/linux-kvm.t [ept|shadow|smp]
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import STACK, Run, Tap  # noqa: E402  (the path must be set first)

TIMEOUT_S = 600
KINDS = {"ept": ("1", "1", "ept=Y unrestricted_guest=Y vpid=Y"),
         "shadow": ("0", "1", "ept=N unrestricted_guest=N vpid=Y"),
         "smp": ("1", "2", "ept=Y unrestricted_guest=Y vpid=Y")}
ONLINE = {"1": "0", "2": "0-1"}
REPLUGGED = {"1": (), "2": (
    ("L1", "^L1: processor 1 went: 0$", "L1 takes its second processor away"),
    ("L1", "^L1: processor 1 is back: 0-1$", "and it comes back"))}
# Of the exits that L1 gets, at least this share goes by the straight way (docs/adr/0017): KVM's VMCSs must fit it.
STRAIGHT = {"ept": 0.8, "shadow": 0.8, "smp": 0.8}
# Exits of L1 on EPT that are not of VMRESUME and CPUID, which exit on any CPU: configuration and start of L2 above all.
SPARED = {"ept": 1800}
LINE = re.compile(r"^ *[\d.]+ (L[012]|--) \| (.*)$")


def expected(parameters, cpus):
    return (("L0", r"Nestor \d+\.\d+", "Nestor's banner with its version"),
            ("L0", r"CPU features: .*EPT", "the CPU features it uses"),
            ("L1", r"Linux version \d", "L1's kernel banner"),
            ("L1", f"^L1: processors online: {ONLINE[cpus]}$", f"L1 has {cpus} processors"),
            ("L1", "^L1: ACPI's suspend to RAM: 0$", "L1 is not offered S3"),
            ("L1", f"^L1: kvm_intel loaded: {parameters}$", f"kvm_intel is loaded with {parameters}"),
            *REPLUGGED[cpus],
            ("L2", r"Linux version \d", "L2's kernel banner"),
            ("L2", f"L2: hello from init.*, processors: {cpus}$", "a line of L2's init"),
            ("L1", r"^L1: power-off", "L1's power-off"),
            ("L0", r"Nestor's summary", "Nestor's summary"),
            ("L0", r"exit status 0 ", "Nestor's exit status"))


def check_order(tap, kind, parameters, cpus, output):
    """Each row is searched for behind the place where the row before it was found."""
    lines = [found.groups() for found in map(LINE.match, output.splitlines()) if found]
    place = 0
    for layer, pattern, title in expected(parameters, cpus):
        for index in range(place, len(lines)):
            if lines[index][0] == layer and re.search(pattern, lines[index][1]):
                place = index + 1
                tap.ok(True, f"{kind}: {title}")
                break
        else:
            said = [f"{line[0]} | {line[1]}" for line in lines[place:] if line[0] == layer]
            tap.ok(False, f"{kind}: {title}", f"not found behind line {place}, where {layer} said:", *said[-40:])


def check_straight(tap, kind, output):
    counts = [re.search(rf"{name} +(\d+) \|", output)
              for name in ("exits of L2 reflected to L1", "exits of L2 that went to L1 by the straight way")]
    reflected, straight = (int(found.group(1)) if found else 0 for found in counts)
    tap.ok(straight >= STRAIGHT[kind] * reflected > 0,
           f"{kind}: {straight} of {reflected} exits of L2 go to L1 by the straight way")


def check_spared(tap, kind, output):
    """L1 does at most exits of L2 all it has to do without an exit of its own."""
    counts = [re.search(rf"{name} +(\d+)[ \d]* \|", output) for name in ("exits of L1", "VMRESUME", "CPUID")]
    total, *needed = (int(found.group(1)) if found else 0 for found in counts)
    tap.ok(0 < total - sum(needed) <= SPARED[kind],
           f"{kind}: {total - sum(needed)} exits of L1 are not of VMRESUME and CPUID, of {total}")


def start(kind):
    ept, cpus, _ = KINDS[kind]
    return Run("--ept", ept, "--cpus", cpus, "--timeout", str(TIMEOUT_S), "--verbose", program=STACK)


def main():
    tap = Tap()
    kinds = sys.argv[1:] or list(KINDS)
    runs = {kind: start(kind) for kind in kinds[:2]}
    for kind in kinds:
        run = (runs.get(kind) or start(kind)).wait()
        check_order(tap, kind, KINDS[kind][2], KINDS[kind][1], run.out)
        if kind in STRAIGHT:
            check_straight(tap, kind, run.out)
        if kind in SPARED:
            check_spared(tap, kind, run.out)
        last = "\n".join(run.out.splitlines()[-30:])
        tap.equal(run.status, 0, f"{kind}: the run ends with status 0", run.err, last)
        tap.comment(run.out.splitlines()[-1] if run.out else run.err)
    return tap.done()


sys.exit(main())
