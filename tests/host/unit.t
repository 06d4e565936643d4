#!/usr/bin/env python3
"""Builds and runs the host unit tests as one TAP test: a line per cmocka test, renumbered over all programs.

A program that does not build, crashes, hangs or lists no tests is a failed line of its own; the others still run.
Usage: tests/host/unit.t [NAME...]   (NAME: memmap for build/host/test_memmap; default: all)
"""
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "host"
PROGRAMS = ROOT / "build" / "host"
TIMEOUT_S = 300
RESULT = re.compile(r"^(ok|not ok) \d+ (-|# SKIP) (.*)$")
PLAN = re.compile(r"^1\.\.(\d+)")


def make(*arguments):
    # Under `make -j` the caller's job server is not ours to use.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(["make", "-s", "-f", "mk/host.mk", *arguments], cwd=ROOT, env=environment, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def build(names):
    """Returns the compiler's output for each name that does not build."""
    targets = {name: f"build/host/{name}" for name in names}
    if make("-k", f"-j{os.cpu_count()}", *targets.values()).returncode == 0:
        return {}
    # Which of them: what an earlier build left behind must not pass for it.
    again = {name: make(target) for name, target in targets.items()}
    return {name: done.stdout for name, done in again.items() if done.returncode}


def run_program(name):
    """Returns the exit text ('' when it ended by itself) and the program's whole output."""
    environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", ASAN_OPTIONS="detect_leaks=1:print_legend=0",
                       UBSAN_OPTIONS="print_stacktrace=1")
    try:
        done = subprocess.run([PROGRAMS / name], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as hang:
        return f"hung for {TIMEOUT_S} s", (hang.stdout or b"").decode(errors="replace")
    output = done.stdout.decode(errors="replace")
    return (f"died of signal {-done.returncode}" if done.returncode < 0 else
            f"exit status {done.returncode}" if done.returncode else ""), output


def results_of(name):
    """Returns the list of (passed, title, comment lines) of one program."""
    status, output = run_program(name)
    results, planned, stray = [], 0, []
    for line in output.splitlines():
        plan, result = PLAN.match(line), RESULT.match(line)
        if plan:
            planned += int(plan.group(1))
        elif result:
            skipped = result.group(2) != "-"
            title = f"{name[5:]}: {result.group(3)}" + (" # SKIP" if skipped else "")
            results.append((skipped or result.group(1) == "ok", title, []))
        elif line.strip():
            # cmocka says what went wrong after the result's line.
            (results[-1][2] if results else stray).append(line.removeprefix("# "))
    failures = sum(1 for passed, _, _ in results if not passed)
    if planned == 0:
        results.append((False, f"{name}: lists no tests", stray))
    elif len(results) != planned or (status and failures == 0):
        last = results[-1][2] if results and results[-1][0] else []
        results.append((False, f"{name}: {len(results)} of {planned} tests ran, {status or 'no failure'}",
                        stray + last))
    return results


def main():
    names = [f"test_{name}" for name in sys.argv[1:]] or sorted(path.stem for path in SOURCES.glob("test_*.c"))
    broken = build(names)
    number = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for name, results in zip(names, pool.map(lambda name: [] if name in broken else results_of(name), names)):
            if name in broken:
                results = [(False, f"{name}: does not build", broken[name].splitlines())]
            for passed, title, comments in results:
                number += 1
                print(f"{'ok' if passed else 'not ok'} {number} - {title}", flush=True)
                if not passed:
                    for comment in comments:
                        print(f"# {comment}", flush=True)
                        if os.environ.get("HARNESS_ACTIVE"):    # prove shows what goes to stderr alone
                            print(f"# {comment}", file=sys.stderr, flush=True)
    print(f"1..{number}")


main()
