#!/usr/bin/env python3
"""Our guests on other emulators and CPU models: what passes bare passes on Nestor, and both say the same.

Usage: tests/vm/cpus.t [--all] [--docs] [--suite NAME]... [EMULATOR:MODEL]...   without any: what `make test` runs
--all is `make test-cpus`; --docs writes each cell as soon as it is known into the table of docs/TESTING.md, and leaves
the others. What is known to differ is a row of tests/vm/emulator-faults, with its reason.
"""
import argparse
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "tools"))

from lib_matrix import Table  # noqa: E402  (the path must be set first)
from lib_tap import ROOT, Tap  # noqa: E402
from nestorlib import emulators  # noqa: E402

OLD = ["corei7_sandy_bridge_2600k", "corei7_haswell_4770", "corei3_cnl", "corei7_skylake_x", "corei7_icelake_u",
       "tigerlake"]
NEW = ["sapphire_rapids", "arrow_lake", "wildcat_lake"]
ALL = [("2.7", model) for model in OLD] + [("3.1", model) for model in OLD + NEW]
SLICE = [("3.1", "wildcat_lake")]
FAULTS = os.path.join(ROOT, "tests", "vm", "emulator-faults")
TIMEOUT = 1500

GUESTS = os.path.join(ROOT, "build", "guests")
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
PLAN = re.compile(r"^1\.\.(\d+)\s*$", re.M)
RESULT = re.compile(r"^(not )?ok \d+ - (?:nestor[^:]*: |bare[^:]*: )?([\w-]+)( # SKIP)?", re.M)
SCENARIOS = ["tools/nestor-run", "--memory", "256", "--timeout", "600", "--l1", os.path.join(GUESTS, "scenarios.elf"),
             "--l1-args", "all"]
SMP = ["tools/nestor-run", "--cpus", "2", "--ips", "4000000", "--memory", "256", "--timeout", "600",
       "--l1", os.path.join(GUESTS, "smp.elf"), "--l1-args", "rounds=400"]
NESTOR = ["--nestor-elf", CHECKED, "--nestor", "stats=0xf8 msr-policy=0xea0 posted-interrupts=1"]
# name -> (command, in the slice too)
SUITES = {
    "scenarios bare": (SCENARIOS + ["--bare"], True),
    "scenarios": (SCENARIOS + NESTOR, True),
    "smp": (SMP + NESTOR, True),
    "diff": (["tools/nestor-diff", "--ops", "20000"], False),
    "demo": (["tools/nestor-run", "--l1", os.path.join(GUESTS, "demo.elf")], True),
    "Nestor in Nestor": (["tools/run-nested"], False),
}
TABLE = Table("tests/vm/cpus.t", ("Bochs", "model"), list(SUITES))


def read_faults():
    """Rows `emulator model suite test reason`, in which * is any."""
    rows = []
    with open(FAULTS, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                rows.append(tuple(line.split(None, 4)))
    return rows


def known(rows, emulator, model, suite, name):
    wanted = (emulator, model, suite.replace(" ", "-"), name)
    return next((row[4].strip() for row in rows if all(cell in ("*", want) for cell, want in zip(row, wanted))), None)


def run(command, emulator, model):
    """Its status and what it said; 124 when it took too long."""
    environment = dict(os.environ, NESTOR_EMULATOR=emulator, NESTOR_CPU=model)
    if command[0] == "tools/nestor-diff":
        command = [*command, "--cpu", model]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True,
                              errors="replace", timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as expired:
        return 124, str(expired)
    return done.returncode, done.stdout + done.stderr[-2000:]


def complete(said, results):
    """A run that the emulator ended has fewer results than it planned."""
    plan = PLAN.search(said)
    return not plan or int(plan.group(1)) == len(results)


def check(tap, faults, emulator, model, suite):
    """One cell: "pass", or how many differ and where the reason is."""
    status, said = run(SUITES[suite][0], emulator, model)
    results = RESULT.findall(said)
    failed = [name for bad, name, _ in results if bad]
    explained = {name: known(faults, emulator, model, suite, name) for name in failed}
    strange = [name for name, reason in explained.items() if not reason]
    title = f"Bochs {emulator} {model}: {suite}"
    good = not strange and complete(said, results) and (status == 0 or bool(failed)) and status not in (124, 125)
    tap.ok(good, title, f"status {status}, failed: {' '.join(strange)}", said[-2000:])
    for name, reason in explained.items():
        tap.comment(f"{name}: {reason}")
    if not good:
        return f"{len(strange)} fail" if strange else f"status {status}"
    return f"[{len(failed)} differ](../tests/vm/emulator-faults)" if failed else "pass"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--all", action="store_true", help="all emulators, models and suites")
    parser.add_argument("--docs", action="store_true", help="write the table in docs/TESTING.md")
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="only this one; may come more than once")
    parser.add_argument("machine", nargs="*", metavar="EMULATOR:MODEL")
    opts = parser.parse_args()
    tap, faults, here = Tap(), read_faults(), emulators.present()
    machines = [tuple(text.split(":")) for text in opts.machine] or (ALL if opts.all else SLICE)
    for emulator, model in machines:
        if emulator not in here:
            tap.ok(True, f"Bochs {emulator} {model} # SKIP not here: tools/fetch-emulators {emulator}")
            continue
        for suite, (_, in_slice) in SUITES.items():
            if suite in opts.suite if opts.suite else opts.all or opts.machine or in_slice:
                cell = check(tap, faults, emulator, model, suite)
                if opts.docs:
                    TABLE.write((emulator, model), suite, cell)
    return tap.done()


sys.exit(main())
