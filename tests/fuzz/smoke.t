#!/usr/bin/env python3
"""Builds the fuzz targets and runs each for FUZZ_SECONDS (default 10): one TAP line per target.

What a run learns is kept in build/fuzz/corpus/NAME; an input that fails is left there as crash-..., and
`build/fuzz/NAME FILE` repeats it.  Usage: tests/fuzz/smoke.t [NAME...]   (NAME: gva for fuzz_gva; default: all)
"""
import os
import pathlib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = int(os.environ.get("FUZZ_SECONDS", "10"))


def make(target):
    # Under `make -j` the caller's job server is not ours to use.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(["make", "-s", target], cwd=ROOT, env=environment, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def fuzz(name):
    """Returns (passed, title, comment lines)."""
    built = make(f"build/fuzz/{name}")
    if built.returncode:
        return False, f"{name}: does not build", built.stdout.splitlines()
    corpus = ROOT / "build" / "fuzz" / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    command = [ROOT / "build" / "fuzz" / name, f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024",
               "-max_len=8192", "-print_final_stats=1", f"-artifact_prefix={corpus}/", str(corpus)]
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=SECONDS + 120, check=False)
    except subprocess.TimeoutExpired:
        return False, f"{name}: hung", []
    lines = done.stdout.decode(errors="replace").splitlines()
    units = next((line.split()[-1] for line in lines if "number_of_executed_units" in line), "?")
    return done.returncode == 0, f"{name}: {units} inputs", lines[-40:]


def main():
    names = [f"fuzz_{name}" for name in sys.argv[1:]] or \
        sorted(path.stem for path in (ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
    if not shutil.which(os.environ.get("FUZZ_CC", "clang")):
        print("1..0 # SKIP clang is missing: run tools/setup")
        return
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for number, (passed, title, comments) in enumerate(pool.map(fuzz, names), 1):
            print(f"{'ok' if passed else 'not ok'} {number} - {title}", flush=True)
            if not passed:
                for comment in comments:
                    print(f"# {comment}")
    print(f"1..{len(names)}")


main()
