#!/usr/bin/env python3
"""Runs the host unit tests as one TAP test: a line per cmocka test, renumbered over all programs.

A program that was not built, is older than its test, crashes, hangs or lists no tests is a failed line of its own.
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
RESULT = re.compile(r"^(ok|not ok) \d+ - (.*)$")
PLAN = re.compile(r"^1\.\.(\d+)")


def run_program(name):
    """Returns the exit text ('' when it ended by itself) and the program's whole output."""
    environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", ASAN_OPTIONS="detect_leaks=1:handle_segv=1",
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
    program = PROGRAMS / name
    if not program.exists():
        return [(False, f"{name}: was not built", ["run `make host-programs` to see why"])]
    if program.stat().st_mtime < (SOURCES / f"{name}.c").stat().st_mtime:
        return [(False, f"{name}: is older than its source", ["it does not build any more"])]
    status, output = run_program(name)
    results, planned, comments = [], 0, []
    for line in output.splitlines():
        plan, result = PLAN.match(line), RESULT.match(line)
        if plan:
            planned += int(plan.group(1))
        elif result:
            # cmocka prints what went wrong before the result's line.
            results.append((result.group(1) == "ok", f"{name[5:]}: {result.group(2)}", comments))
            comments = []
        elif line.strip():
            comments.append(line)
    failures = sum(1 for passed, _, _ in results if not passed)
    if planned == 0:
        results.append((False, f"{name}: lists no tests", comments))
    elif len(results) != planned or (status and failures == 0):
        results.append((False, f"{name}: {len(results)} of {planned} tests ran, {status or 'no failure'}", comments))
    elif comments and results and not results[-1][0]:
        results[-1][2].extend(comments)
    return results


def main():
    names = [f"test_{name}" for name in sys.argv[1:]] or sorted(path.stem for path in SOURCES.glob("test_*.c"))
    number = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for results in pool.map(results_of, names):
            for passed, title, comments in results:
                number += 1
                print(f"{'ok' if passed else 'not ok'} {number} - {title}", flush=True)
                if not passed:
                    for comment in comments:
                        print(f"# {comment}")
    print(f"1..{number}")


main()
