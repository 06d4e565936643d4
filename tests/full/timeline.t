#!/usr/bin/env python3
"""The timeline of a run as a page: made of the demo's records, drawn by headless Chromium, without network, and its
numbers are those of Nestor's summary."""
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests", "full"), os.path.join(ROOT, "tests", "vm")]

from lib_page import browser_for, drawn  # noqa: E402  (the path must be set first)
from lib_tap import Run, Tap  # noqa: E402

DEMO = os.path.join(ROOT, "build", "guests", "demo.elf")


def check_numbers(tap, dom, summary):
    told = {name.strip(): (l1, l2) for name, l1, l2 in re.findall(r"^nestor\| \| +\d+ (.{42}) +(\d+) +(\d+) \|$",
                                                                  summary, re.M)}
    shown = {name: (l1, l2) for name, l1, l2 in re.findall(r"<tr><td>([^<]+)</td><td>(\d+)</td><td>(\d+)</td>", dom)}
    tap.ok(len(told) > 8, "the summary has exits by reason", summary[-3000:])
    tap.equal(shown, told, "the page's table has the summary's exits of L1 and L2, by reason")
    faults = re.search(r"write faults on traced pages +(\d+)", summary).group(1)
    tap.ok(f"<td>mark: store to a traced page</td><td>{faults}</td>" in dom, "and the stores to traced pages")
    shares = [float(part) for part in re.findall(r"L[012] ([\d.]+) %", dom)]
    tap.ok(len(shares) == 3 and abs(sum(shares) - 100) < 0.2, "the shares of the levels are all of the time", shares)
    ticks = [int(re.search(rf"time-stamp ticks in L{level}.*? (\d+) \|", summary).group(1)) for level in range(3)]
    tap.ok(all(abs(100 * part / sum(ticks) - share) < 0.2 for part, share in zip(ticks, shares)),
           "and those of the summary's ticks", ticks, shares)


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory() as place:
        page = os.path.join(place, "run.html")
        run = Run("--l1", DEMO, "--trace", page, "--timeout", "240").wait()
        if not tap.ok(run.status == 0 and os.path.exists(page), "the demo runs with --trace", run.err[-2000:]):
            return tap.done()
        with open(page, encoding="utf-8") as file:
            text = file.read()
        browser = browser_for(tap, text)
        if not browser:
            return tap.done()
        dom = drawn(browser, page)
        tap.ok("(drawn)</title>" in dom and "<canvas" in dom, "Chromium draws it", dom[-1000:])
        check_numbers(tap, dom, run.err)
    return tap.done()


sys.exit(main())
