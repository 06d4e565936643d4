#!/usr/bin/env python3
"""The model of write tracing (tests/model/bitmap.pml) has no error, and each fault put into it is found.

Also: each function that the model names exists. Usage: tests/vm/model.t
"""
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Tap  # noqa: E402  (the path must be set first)

MODEL = os.path.join(ROOT, "tests", "model", "bitmap.pml")
LOST_STORE, LOST_BIT, WRITTEN = "snapshot", "l0", "named"
# Steps that are left out or done in the wrong order, and the property that must break then.
FAULTS = {"EARLY_GENERATION": (LOST_STORE, "the generation moves before EPT02 has lost W"),
          "READ_FIRST": (LOST_STORE, "the page is read before it is protected"),
          "NO_KICK": (LOST_STORE, "other processors are not made to pass their INVEPT"),
          "SKIP_EPT02": (LOST_STORE, "EPT02 keeps its write permission"),
          "FORGET_GENERATION": (LOST_BIT, "a change of L0's policy does not move the generation"),
          "ARM_FIRST": (LOST_STORE, "the entry becomes FRESH after it was armed"),
          "NO_MERGE_AT_ACCESS": (LOST_STORE, "an access to an MSR does not end the wait of a merge"),
          "DEAF": (LOST_STORE, "a processor whose entries look at nothing is not told of a store"),
          "LOOK_FIRST": (LOST_STORE, "what says that nothing need be looked at is set after the look"),
          "WRITE_SHARED": (WRITTEN, "a page that the other processor names, too, is merged in place"),
          "NO_CLAIM": (WRITTEN, "a page that is being merged can be taken for merged")}
# L0's policy changes only while the second processor does little, lest there be too many states.
POLICY = ["POLICY", "OTHER_STEPS=1"]
LIMIT_S, LIMIT_MIB = 300, 2500
VIOLATED = re.compile(r"assertion violated [ (!]+entry\[name\[i\]\]\.(\w+)")
STATES = re.compile(r"^ *([\d.e+]+) states, stored", re.M)


def check(*defined):
    """Returns (whether every state was seen and none is wrong, the broken property, states, what the checker said)."""
    with tempfile.TemporaryDirectory() as place:
        defines = [f"-D{define}" for define in defined]
        said = ""
        for command in (["spin", *defines, "-a", MODEL],
                        ["gcc", "-w", "-O2", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={LIMIT_MIB}", "-o", "pan", "pan.c"],
                        ["./pan", "-m100000"]):
            done = subprocess.run(command, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False)
            said += done.stdout
            if done.returncode and command[0] != "./pan":
                return False, None, 0, said
    violated, states = VIOLATED.search(said), STATES.search(said)
    complete = "errors: 0" in said and not re.search("not completed|reached -D|max search depth", said)
    return complete, violated and violated.group(1), int(float(states.group(1))) if states else 0, said


def missing_functions():
    names = re.findall(r"([\w/]+\.[ch]):(\w+)", open(MODEL, encoding="utf-8").read())
    for path, name in sorted(set(names)):
        source = os.path.join(ROOT, path)
        if not os.path.exists(source) or not re.search(rf"\b{name}\b", open(source, encoding="utf-8").read()):
            yield f"{path}:{name}"


def main():
    tap = Tap()
    missing = list(missing_functions())
    tap.ok(not missing, "the functions that the model names exist", *missing)
    for defined in ([], POLICY):
        complete, _, states, said = check(*defined)
        tap.ok(complete, f"the model has no error in {states} states {' '.join(defined)}", said)
    for define, (property_name, meaning) in FAULTS.items():
        _, violated, states, said = check(define, *(POLICY if property_name == LOST_BIT else []))
        tap.equal(violated, property_name, f"{meaning}: found in {states} states", said)
    return tap.done()


sys.exit(main())
