#!/usr/bin/env python3
"""The ledger of flushes in the CHECKED build: every debt is paid, and what is not is told by name.

L1 changes L2's page tables and executes INVEPT, on one processor and with a vmcs12 that moves between two, with each
bitmap policy.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
SMP = os.path.join(ROOT, "build", "guests", "smp.elf")
SCENARIOS = os.path.join(ROOT, "build", "guests", "scenarios.elf")
TESTS = ["start", "l2s_tables", "moved", "vpids"]
# Words for Nestor, and for L1.
POLICIES = [("bitmap=trace", ""), ("bitmap=merge", ""), ("bitmap=exit", ""), ("bitmap=trace", "no-bitmap=1"),
            ("ept12-tracing=0", "")]
RESULT = re.compile(r"^(not )?ok \d+ - (\S+)", re.M)
# Fault, L1's words (a scenario, or turns of guests/smp), what the ledger must say.
MUTANTS = [
    ("skip-invept", "flushes=20", r"without the INVEPT of EP4TA \w+ that it owes for INVEPT of L1"),
    ("skip-invept", "invept-apic-access-without-ept",
     r"without the INVEPT of EP4TA \w+ that it owes for the APIC-access page \w+, which was ordinary memory there"),
    ("keep-vpid", "invept-vpid-handed-over",
     r"without the INVVPID of VPID \d+ that it owes for the VPID of L1's that it served before"),
    ("skip-invvpid", "invept-without-vpid-flushes",
     r"without the INVVPID of VPID \d+ that it owes for an entry or exit of an L2 without VPID"),
]


def start(options, words):
    machine = ["--cpus", "2", "--ips", "4000000"] if words.startswith("flushes") else []
    return Run(*machine, "--timeout", "240", "--memory", "256", "--nestor-elf", CHECKED, "--nestor",
               f"stats=0xf8 {options}", "--l1", SMP if machine else SCENARIOS, "--l1-args", words)


def side_by_side(rows):
    """Two at a time."""
    for at in range(0, len(rows), 2):
        runs = [(row, start(*row[:2])) for row in rows[at:at + 2]]
        for row, run in runs:
            yield row, run.wait()


def main():
    tap = Tap()
    for (options, words), done in side_by_side([(options, f"flushes=50 {words}") for options, words in POLICIES]):
        passed = [name for bad, name in RESULT.findall(done.out) if not bad]
        tap.ok(passed == TESTS and done.status == 0 and "ledger:" not in done.err,
               f"every debt is paid: {options} {words}", done.out[-2000:], done.err[-2000:])
    mutants = [(f"fault={fault}", *rest) for fault, *rest in MUTANTS]
    for (options, words, line), done in side_by_side(mutants):
        tap.ok(done.status == 125 and re.search(f"ledger: processor 0 enters a guest {line}", done.err),
               f"{options}: {words.split()[0]} finds a debt that is open", done.status, done.out[-2000:],
               done.err[-2000:])
    return tap.done()


sys.exit(main())
