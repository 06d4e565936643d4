#!/usr/bin/env python3
"""`make shell`, typed into: a command in L1, nestorctl in L1, a shell in L2 and back, and the end.
Usage: tests/vm/shell.t [-v]     (-v: show the consoles)
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_console import Console  # noqa: E402  (the path must be set first)
from lib_tap import ROOT, Tap  # noqa: E402

TIMEOUT_S = 900
ASKS_CURSOR = r"(?:\x1b\[6n)?$"      # of the terminal, which a person's answers
PROMPT_L1, PROMPT_L2 = "L1# " + ASKS_CURSOR, "L2# " + ASKS_CURSOR


class Shell(Console):
    """Lines are typed, up to the next prompt."""

    def type(self, text, pattern=PROMPT_L1):
        return super().type(text + "\n", pattern)


def check_l1(tap, console):
    text = console.expect(PROMPT_L1)
    tap.ok(text and "This is L1" in text, "L1's shell has a prompt", (text or console.seen)[-2000:])
    tap.ok(text and re.search(r"^under Nestor: CPUID leaf 40000000H says NestorNestor, port 0xea4", text, re.M),
           "nestorctl knows that it runs under Nestor")
    tap.ok("L1's kernel is" in console.type("echo \"L1's kernel is $(uname -r)\""), "a command in L1 answers")
    tap.ok(re.search(r"^nestor: main: L1 starts$", console.type("nestorctl log"), re.M),
           "nestorctl log has Nestor's log")


def check_machine(tap, console):
    """L1 is a machine as any other for check and report."""
    text = console.type("nestorctl check; echo status $?")
    for line in (r"ok      VMX: all 1 processors have it", r"ok      FEATURE_CONTROL", r"(ok|warning) +VMX features",
                 r"ok      memory: of \d+ MiB", r"ok      firmware: BIOS", r"status 0"):
        tap.ok(re.search(f"^{line}", text, re.M), f"nestorctl check in L1: {line}", text)
    tap.ok("hypervisor" not in text, "to which L1 is no guest", text)
    text = console.type("nestorctl report r.tar && tar tf r.tar && tar xOf r.tar $(tar tf r.tar | grep /id$)")
    for line in (r"check", r"log", r"root/dev/cpu/0/msr", r"under Nestor: .*"):
        tap.ok(re.search(f"^(.*/)?{line}$", text, re.M), f"nestorctl report in L1: {line}", text)
    text = console.type("nestorctl log --previous; echo status $?")
    tap.ok("no log of a run before" in text and "status 1" in text, "nothing has run before", text)


def count_of(text, name):
    found = re.search(rf"^{re.escape(name)} +(\d+)", text, re.M)
    return int(found.group(1)) if found else -1


def check_stat(tap, console):
    name = "nested entries (VMLAUNCH and VMRESUME of L1)"
    before = console.type("nestorctl stat")
    tap.ok(re.search(r"^CPUID +\d+ +\d+$", before, re.M), "nestorctl stat lists exits by reason", before)
    os.write(console.master, b"l2\n")
    text = console.expect(PROMPT_L2)
    tap.ok(text and "This is L2" in text, "l2 leads to a shell in L2", (text or console.seen)[-2000:])
    tap.ok("2+2 is 4" in console.type("echo 2+2 is $((2 + 2))", PROMPT_L2), "a command in L2 answers")
    text = console.type("exit")
    tap.ok("L1#" in text, "exit leads back to L1", text[-1000:])
    after = console.type("nestorctl stat")
    tap.ok(count_of(after, name) > max(count_of(before, name), 0) + 1000, "and stat has counted L2's entries",
           count_of(before, name), count_of(after, name))
    top = console.type("nestorctl top -n 2 -i 0.5")
    tap.ok("\033[2J" in top and "L1/s" in top, "top draws its table", top)
    tap.ok("nestorctl: no command nonsense" in console.type("nestorctl nonsense"),
           "a wrong command is refused in words")


def main():
    tap = Tap()
    console = Shell([os.path.join(ROOT, "tools", "run-shell")], TIMEOUT_S)
    try:
        check_l1(tap, console)
        check_machine(tap, console)
        check_stat(tap, console)
        os.write(console.master, b"exit\n")
        tap.equal(console.wait(), 0, "exit in L1 powers off with status 0", console.seen[-1500:])
    finally:
        if console.process.poll() is None:
            console.process.terminate()
            console.process.wait()
    return tap.done()


sys.exit(main())
