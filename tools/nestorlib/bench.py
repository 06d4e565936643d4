"""Runs guests/bench and reads its rows."""
import os
import re
import subprocess

from nestorlib import estimate, kvm
from nestorlib.paths import BUILD, TOOLS

CPU = "corei7_skylake_x"    # the model of all recorded figures
NESTOR = os.path.join(BUILD, "nestor.elf")
COUNTING_NESTOR = os.path.join(BUILD, "count", "nestor.elf")
IMAGE = os.path.join(BUILD, "guests", "bench.elf")
ROW = re.compile(r"^bench: ([\w-]+) (\d+\.\d\d) (\d+\.\d\d)$", re.M)
COUNTS = re.compile(r"^count: ([\w-]+) ([\d. ]+)$", re.M)
END = re.compile(r"^bench: end (\d+)$", re.M)


class Failed(Exception):
    """A run that did not bring all its rows."""


def run(arguments):
    """Runs nestor-run, and returns all that it said."""
    done = subprocess.run([os.path.join(TOOLS, "nestor-run"), *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode:
        raise Failed(f"{' '.join(arguments)}: status {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


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


def image_arguments(cpu, *l1_args):
    """Of nestor-run, for the image as L1."""
    return ["--memory", "256", "--timeout", "120", "--cpu", cpu, "--l1", IMAGE, "--l1-args", " ".join(l1_args)]


def measure(rows="", cpu=CPU, *how):
    """Boots the image, and returns its rows."""
    return read_rows(run([*image_arguments(cpu, f"rows={rows}"), *how]))


def count(rows="", cpu=CPU, options=""):
    """Row name -> how often Nestor executes what estimate.COUNTED names, for each turn. `make nestor COUNT_VMX=1`
    first."""
    text = run([*image_arguments(cpu, "count=vmx", f"rows={rows}"), "--nestor", f"stats=0xf8 {options}",
                "--nestor-elf", COUNTING_NESTOR])
    return {key: dict(zip(estimate.COUNTED, map(float, counts.split()), strict=True))
            for key, counts in COUNTS.findall(text)}


def measure_kvm(mitigations, rows="", cpu=CPU):
    """The same with Linux KVM between the image and the CPU; kvm.build_initrd() first."""
    return read_rows(run(["--cpu", cpu, *kvm.run_arguments(mitigations, rows)]))
