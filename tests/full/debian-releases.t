#!/usr/bin/env python3
"""The steps of README for a new machine, on Debian 13 and testing: in a folder made by debootstrap, a fresh clone of
this repository goes through `make check`, `make run` and `make test`, each in a bounded time.

Usage: tests/full/debian-releases.t [SUITE]... [--step STEP]... [--keep FOLDER]     as root, for debootstrap and chroot
Without --keep the folders are removed at the end; with it a later run uses the system that is there, and clones anew,
and what each step printed stays in SUITE/root/STEP.out.
Nothing of this machine's system changes.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import ROOT, Tap  # noqa: E402  (the path must be set first)
from nestorlib import debian, errors  # noqa: E402

SUITES = ("trixie", "forky")
SCRIPTS = "/usr/share/debootstrap/scripts"
PACKAGES = "git,make,gcc,ca-certificates"      # what README asks for before `make run`
# name -> (command in the clone, seconds at most)
STEPS = {
    "make check": ("tools/setup build test && make check", 1800),
    "make run": ("make run", 1800),
    "make test": ("make test", 7200),
}


def lines(text, count=40):
    return "\n".join(text.splitlines()[-count:])


def bounded(command, seconds):
    """Status, output and the seconds that it took; with the time over all that it started ends."""
    begin = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=seconds, check=False)
        status, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        status, said = 124, (expired.stdout or b"").decode(errors="replace")
    return status, said, time.monotonic() - begin


def inside(folder, command):
    """In name spaces of its own, with its own /proc and /dev/pts: they go with the first process, and so does all
    that runs there."""
    script = (f"mount -t proc proc {folder}/proc && mount -t devpts devpts {folder}/dev/pts && "
              f"exec chroot {folder} /bin/sh -c 'cd /root/nestor && {command}'")
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]


def prepare(tap, suite, folder):
    """The folder with the packages of README, and a clone of what is committed here."""
    if not os.path.exists(os.path.join(folder, "usr/bin/git")):
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, folder, debian.mirror()]
        if not os.path.exists(os.path.join(SCRIPTS, suite)):    # a debootstrap older than the release
            command.append(os.path.join(SCRIPTS, "sid"))
        status, said, took = bounded(command, 1800)
        if not tap.ok(status == 0, f"{suite}: debootstrap ({took:.0f} s)", lines(said)):
            return False
    clone = os.path.join(folder, "root/nestor")
    shutil.rmtree(clone, ignore_errors=True)
    status, said, _ = bounded(["git", "clone", "-q", "--no-hardlinks", ROOT, clone], 120)
    return tap.ok(status == 0, f"{suite}: git clone", lines(said))


def check(tap, suite, folder, steps):
    if not prepare(tap, suite, folder):
        return
    for name in steps:
        command, seconds = STEPS[name]
        status, said, took = bounded(inside(folder, command), seconds)
        with open(os.path.join(folder, "root", name.replace(" ", "-") + ".out"), "w", encoding="utf-8") as out:
            out.write(said)
        tap.ok(status == 0, f"{suite}: {name} ends with status 0 ({took:.0f} s)", f"status {status}", lines(said))
        if name == "make run":
            tap.ok("L2: hello from init" in said, f"{suite}: a line of L2's init", lines(said))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--keep", metavar="FOLDER")
    parser.add_argument("--step", action="append", choices=list(STEPS), help="only this one; may come more than once")
    parser.add_argument("suite", nargs="*", default=SUITES)
    opts = parser.parse_args()
    tap = Tap()
    if os.geteuid() or not shutil.which("debootstrap"):
        tap.ok(True, "Debian's releases # SKIP it needs root and debootstrap")
        return tap.done()
    base = opts.keep or tempfile.mkdtemp(prefix="debian-releases.")
    try:
        for suite in opts.suite:
            folder = os.path.join(base, suite)
            os.makedirs(folder, exist_ok=True)
            check(tap, suite, folder, opts.step or STEPS)
    except errors.RunnerError as error:
        tap.ok(False, "Debian's packages can be fetched", error)
    finally:
        if not opts.keep:
            shutil.rmtree(base)
    return tap.done()


sys.exit(main())
