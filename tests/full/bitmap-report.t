#!/usr/bin/env python3
"""The picture of the merged bitmap: made from a run of the demo, drawn by headless Chromium, without network, and its
numbers are those of the log."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "vm"))

from lib_tap import Run, Tap  # noqa: E402  (the path must be set first)

REPORT = os.path.join(ROOT, "tools", "bitmap-report")
DEMO = os.path.join(ROOT, "build", "guests", "demo.elf")


def kept_bits(log):
    """How many bits L0 has in the last bitmap of the log."""
    last = log[log.rindex("bitmap-dump: page"):]
    return sum(int(b, 16) - int(a, 16) + 1 for a, b in re.findall(r"bitmap-dump: l0 (\w+)-(\w+)", last))


def drawn(browser, page):
    """The document after its script has run."""
    done = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "file://" + page],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          timeout=120,
                          check=False)
    return done.stdout


def main():
    tap = Tap()
    run = Run("--memory", "256", "--timeout", "120", "--l1", DEMO, "--nestor", "stats=0xf8 bitmap-dump=1").wait()
    log = run.out + run.err
    tap.ok(run.status == 0 and "bitmap-dump: end" in log, "the run logs its bitmaps", log[-2000:])
    with tempfile.TemporaryDirectory() as place:
        source, page = os.path.join(place, "log"), os.path.join(place, "report.html")
        with open(source, "w", encoding="utf-8") as file:
            file.write(log)
        made = Run("--log", source, "--output", page, program=REPORT).wait()
        tap.equal(made.status, 0, "the report is made", made.err)
        text = open(page, encoding="utf-8").read()
        tap.ok(not re.search(r"(?:src|href)=|https?:|@import|url\(", text), "the page refers to nothing outside itself")
        browser = shutil.which("chromium") or shutil.which("chromium-browser")
        if not browser:
            tap.ok(True, "the page draws # SKIP no Chromium here")
            return tap.done()
        dom = drawn(browser, page)
        tap.ok("(drawn)</title>" in dom and dom.count("<canvas") == 4, "Chromium draws the four maps", dom[-1000:])
        cells = [[int(cell) for cell in re.findall(r"<td>(\d+)</td>", row)]
                 for row in re.findall(r"<tr><td>(?:RD|WR)MSR.*?</tr>", dom)]
        tap.equal([sum(row) for row in cells], [8192] * 4, "each map has 8192 MSRs")
        tap.equal(sum(row[1] + row[3] for row in cells), kept_bits(log), "L0's bits are as many as in the log")
    return tap.done()


sys.exit(main())
