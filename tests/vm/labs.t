#!/usr/bin/env python3
"""The labs of docs/LABS.md have the answers that it gives: the edits are made in a copy of the sources, built and run.

Its table has the ticks of each in their order, the cheapest first.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

PAGE = os.path.join(ROOT, "docs", "LABS.md")
LAB = re.compile(r"^## Lab (\d+): (.*?)\n(.*?)(?=^## |\Z)", re.M | re.S)
EDIT = re.compile(r"[Ii]n\s`([\w/.-]+)` replace\n```c\n(.*?)```\nby\n```c\n(.*?)```", re.S)
ROW = re.compile(r"^\| [^|]*(as it is|lab \d+) \| [\d,]+ \| ([\d,]+) \|", re.M)
TICKS = re.compile(r"exits, (\d+) ticks")
APART = 3


def copy_tree(root):
    """Copies what is built already, too, so that little is built again."""
    sources = [name for name in os.listdir(ROOT) if name != "build" and name[0] != "."]
    for name in (*sources, *(os.path.join("build", name) for name in sources)):
        source, target = os.path.join(ROOT, name), os.path.join(root, name)
        if os.path.isdir(source):
            shutil.copytree(source, target)
        elif os.path.exists(source):
            shutil.copy2(source, target)


def edit(root, edits):
    for file, old, new in edits:
        path = os.path.join(root, file)
        with open(path, encoding="utf-8") as source:
            text = source.read()
        if text.count(old) != 1:
            raise ValueError(f"{file} has {text.count(old)} times: {old}")
        with open(path, "w", encoding="utf-8") as out:
            out.write(text.replace(old, new))


def run_mini(root):
    return Run("--memory", "256", "--timeout", "120", "--nestor-elf", os.path.join(root, "build", "nestor.elf"),
               "--l1", os.path.join(root, "build", "guests", "mini.elf")).wait()


def spaces_as_one(text):
    return re.sub(r"[ \t]+", " ", text)


def attempt(edits):
    """The run's text after the edits, or why there is none."""
    with tempfile.TemporaryDirectory() as root:
        copy_tree(root)
        edit(root, edits)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        made = subprocess.run(["make", "-j2", "build/nestor.elf", "build/guests/mini.elf"], cwd=root, env=environment,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if made.returncode:
            return made.stdout
        run = run_mini(root)
        return spaces_as_one(run.out + run.err)


def main():
    tap = Tap()
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    labs = [(number, title, EDIT.findall(body), re.findall(r"Prints: (.*?)\.$", body, re.M))
            for number, title, body in LAB.findall(page)]
    ticks = {}
    plain = run_mini(ROOT)
    ticks["as it is"] = TICKS.findall(plain.out)
    tap.equal(plain.status, 0, "mini runs its guest", plain.out, plain.err)
    tap.ok([lab for lab in labs if lab[2]], "the page has labs with edits")
    for number, title, edits, answers in labs:
        if not edits:
            continue
        text = attempt(edits)
        wanted = re.findall(r"`([^`]+)`", " ".join(answers))
        tap.ok(wanted and all(answer in text for answer in wanted), f"lab {number}, {title}: {', '.join(wanted)}",
               text[-3000:])
        ticks[f"lab {number}"] = TICKS.findall(text)
    rows = [name for name, _ in ROW.findall(page)]
    tap.equal(sorted(rows), sorted(ticks), "the table of ticks has each of them")
    got = [int(*ticks.get(name, [])) for name in rows]
    tap.ok(got[0] * APART < got[1] < got[2], "the ticks are in the table's order", got)
    return tap.done()


sys.exit(main())
