"""The common part of the tests of real L1s: one run of nestor-run, and lines that must appear one after the other."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
for folder in (os.path.join(ROOT, "tests", "vm"), os.path.join(ROOT, "tools")):
    sys.path.insert(0, folder)

from lib_matrix import Table  # noqa: E402  (the path must be set first)
from lib_tap import Run, Tap  # noqa: E402
from nestorlib import linux  # noqa: E402

FULL = os.path.join(ROOT, "build", "full")
DEBIAN = os.path.join(FULL, "debian", "vmlinuz")
DEBIAN_INITRD = os.path.join(FULL, "initrd-debian.cpio")
IPS = 20000000
MACHINES = ["2.7 corei7_skylake_x", "3.1 corei7_skylake_x"]
L1S = Table("the tests of tests/full", ("L1", "how"), MACHINES)


def machine():
    """The column of this run: NESTOR_EMULATOR and NESTOR_CPU say on what it is."""
    return f"{os.environ['NESTOR_EMULATOR']} {os.environ.get('NESTOR_CPU', 'corei7_skylake_x')}"


class Cell:
    """with Cell(tap, docs, l1, how): ...   what the tests inside say is a cell of the table of L1s, if `docs`."""

    def __init__(self, tap, docs, *row):
        self.tap, self.docs, self.row = tap, docs, row

    def __enter__(self):
        self.failed = self.tap.failed

    def __exit__(self, *_):
        failed = self.tap.failed - self.failed
        if self.docs:
            L1S.write(self.row, machine(), f"{failed} fail" if failed else "pass")


def linux_args(*words):
    """The command line of a Linux kernel that is L1, with further words."""
    return " ".join((linux.l1_args("bochs", IPS), *words))


def check_order(tap, text, rows):
    """Each row (pattern, title) is searched for behind the line where the row before it was found."""
    lines = text.splitlines()
    place = 0
    for pattern, title in rows:
        index = next((at for at in range(place, len(lines)) if re.search(pattern, lines[at])), None)
        tap.ok(index is not None, title, f"{pattern!r} not found behind line {place}", "\n".join(lines[-30:]))
        place = place if index is None else index + 1


def check_run(tap, timeout, rows, *args):
    """One run of nestor-run: its lines, its status, what it took. The word `bare`: without Nestor."""
    bare = ["--bare"] if "bare" in sys.argv[1:] else []
    run = Run("--memory", "1024", "--ips", str(IPS), "--timeout", str(timeout), "--verbose", *bare, *args).wait()
    check_order(tap, run.out, rows)
    tap.equal(run.status, 0, "the run ends with status 0", "\n".join(run.err.splitlines()[-60:]))
    tap.comment(run.err.splitlines()[-1] if run.err else "no summary")


def main(timeout, rows, *args):
    """One such run as a whole test."""
    tap = Tap()
    check_run(tap, timeout, rows, *args)
    return tap.done()
