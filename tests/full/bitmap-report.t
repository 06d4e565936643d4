#!/usr/bin/env python3
"""The picture of the merged bitmap: made from a run of the demo, drawn by headless Chromium, without network, and its
numbers are those of the log."""
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests", "full"), os.path.join(ROOT, "tests", "vm")]

from lib_page import browser_for, drawn  # noqa: E402  (the path must be set first)
from lib_tap import Run, Tap  # noqa: E402

REPORT = os.path.join(ROOT, "tools", "bitmap-report")
DEMO = os.path.join(ROOT, "build", "guests", "demo.elf")


def kept_bits(log):
    """How many bits L0 has in the last bitmap of the log."""
    last = log[log.rindex("bitmap-dump: page"):]
    return sum(int(b, 16) - int(a, 16) + 1 for a, b in re.findall(r"bitmap-dump: l0 (\w+)-(\w+)", last))


def steps(log):
    """How many merges of the log differ from the one before of the same page."""
    latest, count = {}, 0
    for page, text in re.findall(r"bitmap-dump: page (\w+)(.*?)bitmap-dump: end", log, re.S):
        count += latest.get(page) != text
        latest[page] = text
    return count


def check_story(tap, browser, page, log):
    """The demo's story is in the slider, in words: L1 sets the bit of IA32_LSTAR, clears it, and takes another page."""
    count = steps(log)
    tap.ok(count >= 4, f"the log has {count} merges")
    told = [drawn(browser, f"{page}#{step}") for step in range(1, count + 1)]
    for step, dom in enumerate(told, 1):
        tap.ok(f'<b id="which">{step} of {count}</b>' in dom and f'max="{count}"' in dom, f"merge {step} is shown")
    tap.ok("L1 lets 32768 of 32768 accesses pass, and wants 0." in told[0], "at first L1 lets all pass", told[0][:3000])
    tap.ok("Since the merge before, L1 wants RDMSR of IA32_LSTAR." in told[1], "then it wants an MSR, by name")
    tap.ok("Since the merge before, L1 no longer wants RDMSR of IA32_LSTAR." in told[2], "and then no more")
    tap.ok(re.search(r"<tr><td>RDMSR</td><td>C0000082H</td><td>IA32_LSTAR</td><td>L1</td></tr>", told[1]),
           "the list has it")


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
        browser = browser_for(tap, text)
        if not browser:
            return tap.done()
        dom = drawn(browser, page)
        tap.ok("(drawn)</title>" in dom and dom.count("<canvas") == 4, "Chromium draws the four maps", dom[-1000:])
        cells = [[int(cell) for cell in re.findall(r"<td>(\d+)</td>", row)]
                 for row in re.findall(r"<tr><td>(?:RD|WR)MSR.*?</tr>", dom)]
        cells = [row for row in cells if row]       # the other rows are of the list, which has no such numbers
        tap.equal([sum(row) for row in cells], [8192] * 4, "each map has 8192 MSRs")
        tap.equal(sum(row[1] + row[3] for row in cells), kept_bits(log), "L0's bits are as many as in the log")
        check_story(tap, browser, page, log)
    return tap.done()


sys.exit(main())
