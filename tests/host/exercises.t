#!/usr/bin/env python3
"""The exercises of docs/CONCEPTS.md have the answers that it gives: each edit is made in a copy of the sources, and the
host tests that fail then are those that the page names.

Usage: tests/host/exercises.t [NUMBER...]
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "CONCEPTS.md"
COPIED = ("Makefile", "boot", "kernel", "mm", "l1", "vmx", "nested", "start", "mk", "tests/host")
EXERCISE = re.compile(r"^\*\*Exercise (\d+)\.\*\*.*?In `([\w/.-]+)` replace\n```c\n(.*?)```\nby\n```c\n(.*?)```\n"
                      r".*?`tests/host/unit\.t (\w+)`.*?\n<details>.*?Fails: (.*?)\.\n", re.M | re.S)
FAILED = re.compile(r"^not ok \d+ - (\w+)", re.M)


def run(root, program):
    """The names of the tests of the program that fail; or why it says nothing."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    made = subprocess.run(["make", "-s", "-f", "mk/host.mk", f"build/host/{program}"], cwd=root, env=environment,
                          text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if made.returncode:
        return None, made.stdout
    done = subprocess.run([f"build/host/{program}"], cwd=root, text=True, timeout=120, check=False,
                          env=dict(environment, CMOCKA_MESSAGE_OUTPUT="TAP"), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return sorted(FAILED.findall(done.stdout)), done.stdout


def attempt(file, old, new, program):
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
        text = (root / file).read_text(encoding="utf-8")
        if text.count(old) != 1:
            return None, f"{file} has the lines {text.count(old)} times:\n{old}"
        (root / file).write_text(text.replace(old, new), encoding="utf-8")
        return run(root, f"test_{program}")


def main():
    exercises = EXERCISE.findall(PAGE.read_text(encoding="utf-8"))
    if sys.argv[1:]:
        exercises = [found for found in exercises if found[0] in sys.argv[1:]]
    print(f"1..{max(len(exercises), 1)}")
    if not exercises:
        print("not ok 1 - docs/CONCEPTS.md has exercises")
        return 1
    bad = False
    for count, (number, file, old, new, program, answer) in enumerate(exercises, 1):
        wanted = sorted(re.findall(r"`(test_\w+)`", answer))
        failed, output = attempt(file, old, new, program)
        good = failed == wanted and bool(wanted)
        bad |= not good
        print(f"{'ok' if good else 'not ok'} {count} - exercise {number}: {', '.join(wanted)} fail")
        if not good:
            print("".join(f"# {line}\n" for line in [f"failed: {failed}", *output.splitlines()[-20:]]), end="")
    return bad


sys.exit(main())
