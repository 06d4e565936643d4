#!/usr/bin/env python3
"""Two processors do at random what nested VMX across processors is made of (guests/smp/soak.c), for a bounded time.

Usage: tests/vm/soak.t [MINUTES [SEED]]     (1 minute, seed 1; a run of one seed always does the same)
       tests/vm/soak.t --seed SEED TICKS    repeats one run
"""
import os
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "smp.elf")
# The build that asserts the order of locks, and that none is held at an exit: `make nestor CHECKED=1`.
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
MACHINE = ["--cpus", "2", "--ips", "4000000", "--memory", "256", "--nestor-elf", CHECKED]
SHORT_TICKS, LONG_TICKS = 250_000_000, 1_500_000_000   # of one seed: half a minute, some minutes
LONG_FROM_MINUTES = 5
NOTES = re.compile(r"^# (.*)$", re.M)


def soak(tap, seed, ticks):
    done = Run(*MACHINE, "--timeout", str(300 + ticks // 1_000_000), "--nestor", "stats=0xf8 msr-policy=0xea0",
               "--l1", IMAGE, "--l1-args", f"seed={seed} ticks={ticks}").wait()
    passed = done.status == 0 and "ok 2 - soak" in done.out
    tap.ok(passed, f"seed {seed}: {ticks} ticks without a fault, nothing left behind", done.out[-3000:],
           done.err[-5000:])
    for note in NOTES.findall(done.out):
        tap.comment(note)


def main():
    tap = Tap()
    if sys.argv[1:2] == ["--seed"]:
        soak(tap, int(sys.argv[2]), int(sys.argv[3]))
        return tap.done()
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end and not tap.failed:
        soak(tap, seed, LONG_TICKS if minutes >= LONG_FROM_MINUTES else SHORT_TICKS)
        seed += 1
    return tap.done()


sys.exit(main())
