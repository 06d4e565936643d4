"""Puts the tables and the chart of `make bench` into the documentation."""
import os
import re

from nestorlib import chart, report
from nestorlib.paths import ROOT

PAGE = os.path.join(ROOT, "docs", "PERFORMANCE.md")
CHART = os.path.join(ROOT, "docs", "performance.svg")
PLACE = re.compile(r"(<!-- nestor-bench --docs: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


def parts(results):
    """Name of a place in the page -> its lines."""
    of = results["of"]
    return {
        "of": [f"On {of['cpu']}, Nestor built by {of['compiler']}, KVM of Debian's package\n{of['kvm']}."],
        "ticks": report.lines(report.ticks(results), True),
        "counts": report.lines(report.counts(results), True),
        "latencies": report.lines(report.latencies(), True, (0, 2)),
        "macro": report.lines(report.macro(results), True),
        "exits": report.lines(report.exits(results), True),
    }


def fill(text, lines):
    """The page with other lines in its places."""
    return PLACE.sub(lambda place: place.group(1) + "\n".join(lines[place.group(2)]) + "\n" + place.group(3), text)


def write(results):
    with open(PAGE, encoding="utf-8") as source:
        text = source.read()
    with open(PAGE, "w", encoding="utf-8") as out:
        out.write(fill(text, parts(results)))
    with open(CHART, "w", encoding="ascii") as out:
        out.write(chart.draw(results))
