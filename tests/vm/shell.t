#!/usr/bin/env python3
"""`make shell`, typed into: a command in L1, nestorctl in L1, a shell in L2 and back, and the end.
Usage: tests/vm/shell.t [-v]     (-v: show the consoles)
"""
import os
import re
import sys
import tempfile

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
    after = tap.after = console.type("nestorctl stat")
    tap.ok(count_of(after, name) > max(count_of(before, name), 0) + 1000, "and stat has counted L2's entries",
           count_of(before, name), count_of(after, name))
    top = console.type("nestorctl top -n 2 -i 0.5")
    tap.ok("\033[2J" in top and "L1/s" in top, "top draws its table", top)
    screens = [screen.split("\033[J")[0].replace("\033[K", "").splitlines() for screen in top.split("\033[H")[1:]]
    tap.ok(screens and max(len(line) for screen in screens for line in screen) <= 80, "in 80 columns", top)
    tap.ok(screens and max(map(len, screens)) <= 24, "and 24 lines, of which none scrolls away", top)
    tap.ok("nestorctl: no command nonsense" in console.type("nestorctl nonsense"),
           "a wrong command is refused in words")


def check_vmcs12(tap, console):
    """vmcs12 and bitmap: before there is an L2, and while one boots in the background."""
    text = console.type("nestorctl vmcs12; nestorctl bitmap; echo status $?")
    tap.ok("L1 has no current VMCS on this processor" in text and "status 1" in text, "there is no VMCS yet", text)
    # One line: what is typed while the other guest works can end COM1's interrupts, on bare Bochs 2.7 as well.
    text = console.type("l2 < /dev/null > /dev/null 2>&1 & "
                        "until nestorctl vmcs12 | grep -q launched; do sleep 1; done; "
                        "nestorctl vmcs12 -n 2; nestorctl bitmap; kill $!; wait")
    for line in (r"vmcs12 at gpa1=[0-9a-f]+, launch state launched", r"  controls", r"    PROC_CONTROLS +[0-9a-f]+",
                 r"  guest state", r"    GUEST_CR0 +[0-9a-f]+", r"  guest state, changed since the last one",
                 r"    GUEST_RIP +[0-9a-f]+, was [0-9a-f]+"):
        tap.ok(re.search(f"^{line}$", text, re.M), f"nestorctl vmcs12: {line}", text)
    tap.ok(re.search(r"^RDMSR +3aH exits for (L0|both): IA32_FEATURE_CONTROL$", text, re.M),
           "nestorctl bitmap names what Nestor keeps", text)
    found = re.search(r"^of 32768 accesses: (\d+) exit for nobody, (\d+) for L0 alone, (\d+) for L1 alone, "
                      r"(\d+) for both$", text, re.M)
    tap.ok(found and sum(map(int, found.groups())) == 32768 and int(found.group(1)) > 0, "and counts all", text[-500:])


STILL = ("exits of L2", "exits of L2 reflected to L1", "nested entries (VMLAUNCH and VMRESUME of L1)",
         "MSR bitmap merges", "EPT02 leaves filled")


def check_summary(tap, path):
    """A counter that stands still once L2 is gone is the same in Nestor's summary as in the last stat."""
    with open(path, encoding="utf-8", errors="replace") as file:
        log = file.read().replace("\r", "")
    told = {name.strip(): int(total) for name, total in re.findall(r"^\| ([^|]+?) +(\d+) \|$", log, re.M)}
    tap.equal({name: count_of(tap.after, name) for name in STILL}, {name: told.get(name) for name in STILL},
              "nestorctl stat counts as the summary does")
    exits = re.findall(r"^\| +\d+ (.{34}).{8} +\d+ +(\d+) \|$", log, re.M)
    seen = dict(re.findall(r"^(.{34}) +\d+ +(\d+)$", tap.after, re.M))
    tap.ok(len(exits) > 5, "the summary has exits by reason", log[-3000:])
    tap.equal({name: seen.get(name) for name, count in exits if int(count)},
              {name: count for name, count in exits if int(count)}, "and exits of L2 by reason, too")


def main():
    tap = Tap()
    place = tempfile.TemporaryDirectory(prefix="shell.t.")
    log = os.path.join(place.name, "nestor.log")
    console = Shell([os.path.join(ROOT, "tools", "run-shell"), "--l0-log", log], TIMEOUT_S)
    try:
        check_l1(tap, console)
        check_machine(tap, console)
        check_vmcs12(tap, console)
        check_stat(tap, console)
        os.write(console.master, b"exit\n")
        tap.equal(console.wait(), 0, "exit in L1 powers off with status 0", console.seen[-1500:])
        check_summary(tap, log)
    finally:
        if console.process.poll() is None:
            console.process.terminate()
            console.process.wait()
    return tap.done()


sys.exit(main())
