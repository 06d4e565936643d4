#!/usr/bin/env python3
"""After a reset of L1 nestorctl, in the Linux that comes next, reads Nestor's log of the run before."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import ROOT, Tap  # noqa: E402  (the path must be set first)
from lib_console import Console  # noqa: E402

TIMEOUT_S = 800
PROMPT = r"L1# (?:\x1b\[6n)?$"
LOOK = "nestorctl log --previous; echo status $?\n"
RESET = "echo b >/proc/sysrq-trigger\n"


def main():
    tap = Tap()
    console = Console([os.path.join(ROOT, "tools", "run-shell"), "--resets", "1"], TIMEOUT_S)
    try:
        tap.ok(console.expect(PROMPT), "L1's shell has a prompt", console.seen[-2000:])
        text = console.type(LOOK, PROMPT)
        tap.ok("no log of a run before" in text and "status 1" in text, "there is no run before it", text)
        tap.ok(console.type(RESET, PROMPT), "after a reset it has one again", console.seen[-2000:])
        text = console.type(LOOK, PROMPT)
        for line in ("nestor: Nestor ", "nestor: main: L1 starts", "Nestor's summary", "L1 reset the machine"):
            tap.ok(line in text, f"the log of the run before has: {line}", text[-3000:])
        tap.ok("status 0" in text and "?" * 20 not in text, "whole", text[-500:])
    finally:
        console.leave()
    return tap.done()


sys.exit(main())
