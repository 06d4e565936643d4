#!/usr/bin/env python3
"""Each mistake of docs/MISTAKES.md is made, and Nestor's log says what the page says; "..." there is a number.

A mistake is a word of guests/mini, or a scenario: the line must come while that one runs, or one of a few before or
after it, as the two consoles are two streams.
"""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, RUNNER, Tap  # noqa: E402  (the path must be set first)

PAGE = os.path.join(ROOT, "docs", "MISTAKES.md")
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| `(mini|scenario) ([\w-]+)` \| `(.*)` \|$", re.M)
STARTS = re.compile(r"^(?:mini: with the mistake|# run) ([\w-]+)")
SYMBOL = re.compile(r" <[^>]*>")
LEAST = 40
NEAR = 6


def run(image, words, *options):
    """Nestor's words, by what ran then. Both consoles are one stream here, as they are written."""
    command = [RUNNER, "--memory", "256", "--timeout", "300", *options, "--l1",
               os.path.join(ROOT, "build", "guests", image), "--l1-args", " ".join(words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    said = {None: []}
    now = None
    for line in done.stdout.replace("\r", "").splitlines():
        found = STARTS.match(line)
        now = found.group(1) if found else now
        said.setdefault(now, [])
        if line.startswith("nestor|"):
            said[now].append(SYMBOL.sub("", line))
    return said, done.stdout


def near(said, word):
    """The lines that came while the word ran, or its neighbours: under load the consoles drift apart by some lines."""
    order = list(said)
    at = order.index(word) if word in order else None
    return [] if at is None else [line for name in order[max(0, at - NEAR):at + NEAR + 1] for line in said[name]]


def theme_of(scenario):
    """A command line has no room for all names."""
    return re.match(r"(?:l1-)?\w+", scenario).group(0)


def pattern_of(line):
    return re.compile("[0-9a-f]+".join(re.escape(part) for part in line.split("...")))


def main():
    tap = Tap()
    with open(PAGE, encoding="utf-8") as file:
        rows = ROW.findall(file.read())
    tap.ok(len(rows) >= LEAST, f"the page has {len(rows)} mistakes, at least {LEAST}")
    tap.equal([row[0] for row in rows], [str(i + 1) for i in range(len(rows))], "they are numbered")
    words = {kind: list(dict.fromkeys(row[3] for row in rows if row[2] == kind)) for kind in ("mini", "scenario")}
    words["mini"].sort(key=lambda word: word == "without-idt")    # which ends mini itself
    mini, mini_text = run("mini.elf", words["mini"], "--nestor", "lint=1")
    scenarios, scenario_text = run("scenarios.elf", sorted(set(map(theme_of, words["scenario"]))), "--nestor",
                                   "stats=0xf8")
    tap.ok("# 0 failed" in scenario_text, "the scenarios pass", scenario_text[-2000:])
    for number, mistake, kind, word, line in rows:
        said = near(mini if kind == "mini" else scenarios, word)
        tap.ok(any(pattern_of(line).search(text) for text in said), f"{number}, {kind} {word}: {mistake}",
               f"wanted {line}", *said, *([] if said else [mini_text[-500:] if kind == "mini" else ""]))
    return tap.done()


sys.exit(main())
