"""The recorded figures of guests/bench on Nestor, and the comparison with new ones."""
import os
import re
import subprocess

from nestorlib import bench
from nestorlib.paths import BUILD, ROOT

FILE = os.path.join(ROOT, "tests", "vm", "bench-figures")
HEADER = """\
# Ticks of each row of guests/bench on Nestor: tests/vm/bench.t compares. `make bench-record` writes this file.
# compiler: {compiler}
# cpu: {cpu}
"""
PERCENT = 3             # that a row may grow
PERCENT_OTHER = 25      # the same where another compiler built Nestor than the recorded one


def compiler():
    """The compiler that built Nestor, as it wrote it into an object file."""
    listing = subprocess.run(["readelf", "-p", ".comment", os.path.join(BUILD, "vmx", "run.o")], stdout=subprocess.PIPE,
                             text=True, check=True).stdout
    found = re.search(r"\] +(\S.*)$", listing, re.M)
    return found.group(1).strip() if found else "unknown"


def write(rows):
    with open(FILE, "w", encoding="ascii") as out:
        out.write(HEADER.format(compiler=compiler(), cpu=bench.CPU))
        out.writelines(f"{key} {ticks:.2f}\n" for key, ticks in rows.items())


def read():
    """Returns (the compiler, the CPU model, row -> ticks)."""
    with open(FILE, encoding="ascii") as source:
        text = source.read()
    names = {name: re.search(rf"^# {name}: (.*)$", text, re.M).group(1) for name in ("compiler", "cpu")}
    rows = {key: float(ticks) for key, ticks in re.findall(r"^([\w-]+) (\d+\.\d\d)$", text, re.M)}
    return names["compiler"], names["cpu"], rows


def percent(old, new):
    return (new - old) * 100 / old


def faults(old, new, limit=PERCENT):
    """One line for each row that grew by more than `limit` percent, or that only one side has."""
    lines = [f"{key}: {old[key]:.2f} -> {new[key]:.2f} ticks, {percent(old[key], new[key]):+.1f} %"
             for key in old if key in new and percent(old[key], new[key]) > limit]
    lines += [f"{key}: recorded, not measured" for key in old if key not in new]
    return lines + [f"{key}: measured, not recorded" for key in new if key not in old]


def gains(old, new, limit=PERCENT):
    """One line for each row that shrank by more than `limit` percent."""
    return [f"{key}: {old[key]:.2f} -> {new[key]:.2f} ticks, {percent(old[key], new[key]):+.1f} %"
            for key in old if key in new and -percent(old[key], new[key]) > limit]
