"""Runs guests/bench and reads its rows."""
import os
import re
import subprocess

from nestorlib.paths import BUILD, TOOLS

CPU = "corei7_skylake_x"    # the model of all recorded figures
IMAGE = os.path.join(BUILD, "guests", "bench.elf")
ROW = re.compile(r"^bench: ([\w-]+) (\d+\.\d\d)$", re.M)
END = re.compile(r"^bench: end (\d+)$", re.M)


class Failed(Exception):
    """A run that did not bring all its rows."""


def measure(rows="", cpu=CPU, *how):
    """Boots the image, and returns row name -> ticks for each turn, in the image's order."""
    arguments = ["--memory", "256", "--timeout", "120", "--cpu", cpu, "--l1", IMAGE, *how]
    if rows:
        arguments += ["--l1-args", f"rows={rows}"]
    done = subprocess.run([os.path.join(TOOLS, "nestor-run"), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    found = {key: float(ticks) for key, ticks in ROW.findall(done.stdout)}
    end = END.search(done.stdout)
    if done.returncode or not end or int(end.group(1)) != len(found) or not found:
        raise Failed(f"{' '.join(arguments)}: status {done.returncode}, {len(found)} rows\n{done.stdout[-2000:]}")
    return found


def show(ticks):
    return "-" if ticks is None else f"{ticks:,.1f}" if ticks < 100 else f"{ticks:,.0f}"


def table(columns, markdown=False):
    """Lines of a table: a row for each key, a column for each run (name -> rows)."""
    keys = list(dict.fromkeys(key for rows in columns.values() for key in rows))
    cells = [["ticks", *columns]] + [[key, *(show(rows.get(key)) for rows in columns.values())] for key in keys]
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in cells]
        return [lines[0], "|---|" + "---:|" * len(columns), *lines[1:]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
            for row in cells]
