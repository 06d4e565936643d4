#!/usr/bin/env python3
"""The cost of the merged MSR bitmap: an access that nobody intercepts costs what it costs bare, an entry with an
unchanged bitmap a dozen instructions and no merge, a page that is rewritten each time hardly more than merging each
time.

The figures are those of guests/bitmapbench; the instructions are counted in the image.
"""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

GUEST = os.path.join(ROOT, "build", "guests", "bitmapbench.elf")
NESTOR = os.path.join(ROOT, "build", "nestor.elf")
FUNCTION = "slot_bitmaps_refresh"
INSTRUCTIONS_MAX = 14   # with the call
ADAPTIVE_PERCENT = 110  # of what merging at each entry costs
ROW = re.compile(r"^row (\S+) (\d+) (\d+) (\d+) (\d+) (\d+)", re.M)
ALL = re.compile(r"^all-msrs read (\d+) slow (\d+) written (\d+) slow (\d+)", re.M)
KEPT_PERCENT = 1    # of the MSRs may L0 keep
LOOPS = "rdmsr-lstar", "wrmsr-lstar", "wrmsr-sysenter", "rdmsr-gs-base"


def fresh_path():
    """The instructions from the function's first to the first RET: what runs when nothing changed."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", f"--disassemble={FUNCTION}", NESTOR],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = re.findall(r"^ *[0-9a-f]+:\t(.*)$", text, re.M)
    ends = [number for number, line in enumerate(lines) if line.startswith("ret")]
    return lines[:ends[0] + 1] if ends else []


def measure(*how):
    run = Run("--memory", "256", "--timeout", "120", "--l1", GUEST, *how).wait()
    rows = {name: dict(zip(("turns", "ticks", "merges", "faults", "exits"), map(int, figures)))
            for name, *figures in ROW.findall(run.out)}
    return run, rows


def check_all_msrs(tap, bare, trace):
    """Every MSR, not only those of the loops: an access costs what it costs bare, but for the few that L0 keeps."""
    found = {name: ALL.search(text) for name, text in (("bare", bare), ("trace", trace))}
    if not tap.ok(all(found.values()), "all MSRs were accessed"):
        return
    (read, slow_reads, written, slow_writes), plain = (tuple(map(int, found[name].groups()))
                                                       for name in ("trace", "bare"))
    tap.equal(plain[1::2], (0, 0), f"bare, an access of each of the {plain[0]} MSRs costs the same")
    for what, total, slow in ("read", read, slow_reads), ("written", written, slow_writes):
        tap.ok(total > 10000 and slow * 100 < total * KEPT_PERCENT,
               f"{total - slow} of {total} MSRs {what} cost no tick more")


def main():
    tap = Tap()
    path = fresh_path()
    calls = [line for line in path if line.startswith("call")]
    tap.ok(path and not calls and len(path) + 1 <= INSTRUCTIONS_MAX,
           f"an entry with an unchanged bitmap spends {len(path) + 1} instructions on it", *path)
    runs = {"bare": measure("--bare")}
    for policy in ("trace", "merge"):
        runs[policy] = measure("--nestor", f"stats=0xf8 bitmap={policy}")
    for name, (run, rows) in runs.items():
        tap.equal(run.status, 0, f"{name}: the measurement runs", run.out[-2000:], run.err[-2000:])
    check_all_msrs(tap, runs["bare"][0].out, runs["trace"][0].out)
    bare, trace, merge = (runs[name][1] for name in ("bare", "trace", "merge"))
    if not (bare and trace and merge):
        return tap.done()
    for name in LOOPS:
        tap.equal(trace[name]["ticks"], bare[name]["ticks"], f"{name}: as many ticks as bare")
    for name in ("entry-unchanged", "entry-alternating"):
        tap.equal((trace[name]["merges"], trace[name]["faults"]), (0, 0), f"{name}: no merge, no write fault")
        tap.ok(trace[name]["ticks"] < merge[name]["ticks"], f"{name}: tracing is cheaper than merging",
               trace[name]["ticks"], merge[name]["ticks"])
    changed = trace["entry-changed"]["ticks"] * 100 / merge["entry-changed"]["ticks"]
    tap.ok(changed <= ADAPTIVE_PERCENT,
           f"a bitmap rewritten before each entry costs {changed:.1f} % of merging each time")
    tap.ok(trace["entry-changed-4th"]["ticks"] < merge["entry-changed-4th"]["ticks"],
           "rewritten before each fourth entry, tracing is cheaper than merging")
    return tap.done()


sys.exit(main())
