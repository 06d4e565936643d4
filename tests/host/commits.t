#!/usr/bin/env python3
"""The subjects of commits: "area: Do one thing", at most 60 characters. Those made before BASE are as they are; where
the history does not reach that far, as in a shallow clone, there is nothing to look at.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "vm"))

from lib_tap import Tap  # noqa: E402

BASE = "0480792260d234051ece1ad54b9cc558d785b3d2"
LONGEST = 60
SUBJECT = re.compile(r"[a-z0-9][\w./-]*: [A-Z]")


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False)


def faults_of(subject):
    if len(subject) > LONGEST:
        yield f"{subject}: {len(subject)} characters, at most {LONGEST}"
    if not SUBJECT.match(subject):
        yield f'{subject}: not of the form "area: Do one thing"'


def main():
    tap = Tap()
    samples = ("vmx: Do one thing", "vmx: do it", "x", "vmx: D" + 60 * "o")
    tap.equal([bool(list(faults_of(sample))) for sample in samples], [False, True, True, True],
              "right and wrong subjects are told apart")
    if git("merge-base", "--is-ancestor", BASE, "HEAD").returncode:
        tap.ok(True, f"# SKIP the history does not reach back to {BASE[:12]}")
        return tap.done()
    subjects = git("log", "--no-merges", "--format=%s", f"{BASE}..HEAD").stdout.splitlines()
    faults = [fault for subject in subjects for fault in faults_of(subject)]
    tap.equal(faults, [], f"the subjects of {len(subjects)} commits")
    return tap.done()


sys.exit(main())
