"""Runs guests/bench and reads its rows."""
import os
import re
import subprocess
import sys

from nestorlib import estimate, kvm
from nestorlib.paths import BUILD, TOOLS

CPU = "corei7_skylake_x"    # the model of all recorded figures
NESTOR = os.path.join(BUILD, "nestor.elf")
COUNTING_NESTOR = os.path.join(BUILD, "count", "nestor.elf")
IMAGE = os.path.join(BUILD, "guests", "bench.elf")
ROW = re.compile(r"^bench: ([\w-]+) (\d+\.\d\d) (\d+\.\d\d)$", re.M)
COUNTS = re.compile(r"^count: ([\w-]+) ([\d. ]+)$", re.M)
BEGUN = re.compile(r"^bench: row ([\w-]+)$", re.M)
END = re.compile(r"^bench: end (\d+)$", re.M)


OF_TWO = "smp"              # rows that want a machine of two processors; the others are measured with one
HUNG_AT_MOST = 4            # rows of KVM


class Failed(Exception):
    """A run that did not bring all its rows."""


def try_run(arguments):
    """Runs nestor-run, and returns its status and all that it said."""
    done = subprocess.run([os.path.join(TOOLS, "nestor-run"), *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    return done.returncode, done.stdout


def run(arguments):
    """The same of a run that must not fail: all that it said."""
    status, text = try_run(arguments)
    if status:
        raise Failed(f"{' '.join(arguments)}: status {status}\n{text[-2000:]}")
    return text


def read_rows(text):
    """Row name -> ticks for each turn, in the image's order: the minimum."""
    found = {key: float(least) for key, least, _ in ROW.findall(text)}
    check_complete(found, text)
    return found


def check_complete(found, text):
    """All rows that the last line speaks of are there."""
    end = END.search(text)
    if not end or int(end.group(1)) != len(found) or not found:
        raise Failed(f"{len(found)} rows\n{text[-2000:]}")


def machines(rows):
    """Of how many processors the machines are for the rows whose keys begin so."""
    if not rows:
        return (1, 2)
    return (2,) if rows.startswith(OF_TWO) else (1,)


def image_arguments(cpu, cpus, *l1_args):
    """Of nestor-run, for the image as L1."""
    return ["--memory", "256", "--timeout", "240", "--cpu", cpu, "--cpus", str(cpus), "--l1", IMAGE, "--l1-args",
            " ".join((f"cpus={cpus}", *l1_args))]


def measure(rows="", cpu=CPU, *how):
    """Boots the image, and returns its rows."""
    found = {}
    for cpus in machines(rows):
        found |= read_rows(run([*image_arguments(cpu, cpus, f"rows={rows}"), *how]))
    return found


def count(rows="", cpu=CPU, options=""):
    """Row name -> how often Nestor executes what estimate.COUNTED names, for each turn. `make nestor COUNT_VMX=1`
    first."""
    text = "".join(run([*image_arguments(cpu, cpus, "count=vmx", f"rows={rows}"), "--nestor", f"stats=0xf8 {options}",
                        "--nestor-elf", COUNTING_NESTOR]) for cpus in machines(rows))
    return {key: dict(zip(estimate.COUNTED, map(float, counts.split()), strict=True))
            for key, counts in COUNTS.findall(text)}


def measure_kvm(mitigations, rows="", cpu=CPU):
    """The same with Linux KVM between the image and the CPU; kvm.build_initrd() first. A row that does not end is left
    out."""
    found = {}
    for cpus in machines(rows):
        try:
            found |= read_rows(run(["--cpu", cpu, *kvm.run_arguments(mitigations, cpus, f"rows={rows}")]))
        except Failed as failure:
            print(f"KVM ({mitigations}), once more, row by row: {failure}", file=sys.stderr)
            found |= measure_kvm_by_row(mitigations, rows, cpu, cpus)
    return found


def measure_kvm_by_row(mitigations, rows, cpu, cpus):
    """Each row is printed when it ends; behind one that does not, the next run begins."""
    found, words = {}, [f"rows={rows}", "each=1"]
    for _ in range(HUNG_AT_MOST + 1):
        _, text = try_run(["--cpu", cpu, *kvm.run_arguments(mitigations, cpus, *words)])
        found |= {key: float(least) for key, least, _ in ROW.findall(text)}
        begun = BEGUN.findall(text)
        if END.search(text) or not begun:
            break
        print(f"KVM ({mitigations}): {begun[-1]} does not end", file=sys.stderr)
        words = [f"rows={rows}", "each=1", f"behind={begun[-1]}"]
    return found
