"""The measurements of `make bench`: the jobs, run two at a time, and the file that keeps the results."""
import concurrent.futures
import json
import os
import sys
import time

from nestorlib import bench, figures, initramfs, kvm, linux, macro, report
from nestorlib.paths import BUILD

FILE = os.path.join(BUILD, "bench", "results.json")

# Column -> what measures it.
COLUMNS = {
    "KVM (default)": lambda rows, cpu: bench.measure_kvm(kvm.DEFAULT, rows, cpu),
    "KVM (off)": lambda rows, cpu: bench.measure_kvm(kvm.OFF, rows, cpu),
    "Nestor": bench.measure,
    "bare": lambda rows, cpu: bench.measure(rows, cpu, "--bare"),
}
COUNTS = "Nestor's VMX instructions"


def describe():
    """The CPU model, compiler and KVM that the figures are of."""
    with open(os.path.join(os.path.dirname(linux.KERNEL), "package"), encoding="ascii") as package:
        return {"cpu": bench.CPU, "compiler": figures.compiler(), "kvm": package.read().strip()}


class Progress:
    """A line on stderr for each job that starts or ends."""

    def __init__(self, count):
        self.begin = time.monotonic()
        self.count = count
        self.done = 0

    def say(self, text):
        minutes, seconds = divmod(int(time.monotonic() - self.begin), 60)
        print(f"{minutes:3}:{seconds:02}  {text}", file=sys.stderr, flush=True)

    def run(self, name, job, *arguments):
        self.say(f"{name}: begins")
        begin = time.monotonic()
        result = job(*arguments)
        self.done += 1
        self.say(f"{name}: took {time.monotonic() - begin:.0f} s ({self.done} of {self.count} done)")
        return result


def run_jobs(jobs, at_once):
    """name -> (function, arguments...): the results by name. The first failure ends all that has not begun."""
    progress = Progress(len(jobs))
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        futures = {name: pool.submit(progress.run, name, *job) for name, job in jobs.items()}
        try:
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def measure(rows, cpu, at_once):
    """All results; kept in FILE when they are complete. With some rows alone, Linux as a whole is left out."""
    whole = {(name, kind): (job, kind) for name, job in macro.COLUMNS.items() for kind in macro.KINDS if not rows}
    jobs = {name: (job, rows, cpu) for name, job in (COLUMNS | {COUNTS: bench.count}).items()}
    try:
        kvm.build_initrd(bench.IMAGE)
        if whole:
            macro.build()
    except initramfs.BuildError as error:
        raise bench.Failed(error) from error
    # The longest first: they run two at a time.
    measured = run_jobs({f"Linux, {name}{kind}": job for (name, kind), job in reversed(whole.items())} | jobs, at_once)
    results = {"of": describe() | {"cpu": cpu}, "ticks": {name: measured[name] for name in report.COLUMNS},
               "counts": measured[COUNTS]}
    if whole:
        results["macro"] = {name: {key: ticks for kind in macro.KINDS
                                   for key, ticks in measured[f"Linux, {name}{kind}"].items()}
                            for name in macro.COLUMNS}
    write(FILE, results)
    return results


def write(path, results):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as out:
        json.dump(results, out, indent=1)
        out.write("\n")


def read(path):
    with open(path, encoding="ascii") as source:
        return json.load(source)
