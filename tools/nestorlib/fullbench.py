"""The measurements of `make bench`: the jobs, run two at a time, and the files that keep the results."""
import concurrent.futures
import hashlib
import json
import os
import sys
import threading
import time

from nestorlib import bench, figures, initramfs, kvm, linux, macro, report
from nestorlib.paths import BUILD

FILE = os.path.join(BUILD, "bench", "results.json")
# Results of a measurement that is not complete: the next `make bench` of the same programs goes on from there.
PARTS = os.path.join(BUILD, "bench", "parts.json")

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


class Parts:
    """Results by the name of their job, kept in PARTS until all are there."""

    def __init__(self, of):
        self.of = of
        self.lock = threading.Lock()
        self.results = {}
        if os.path.exists(PARTS):
            kept = read(PARTS)
            self.results = kept["results"] if kept["of"] == of else {}

    def run(self, progress, name, job, *arguments):
        """A job that fails is tried once more: KVM as L0 stands still now and then."""
        try:
            result = progress.run(name, job, *arguments)
        except bench.Failed as failure:
            progress.say(f"{name}: failed and is tried again: {str(failure).splitlines()[0]}")
            result = progress.run(name, job, *arguments)
        with self.lock:
            self.results[name] = result
            write(PARTS, {"of": self.of, "results": self.results})


def run_jobs(jobs, at_once, of):
    """name -> (function, arguments...): the results by name. The first failure ends all that has not begun."""
    parts = Parts(of)
    left = {name: job for name, job in jobs.items() if name not in parts.results}
    progress = Progress(len(left))
    for name in parts.results:
        progress.say(f"{name}: was measured before")
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(parts.run, progress, name, *job) for name, job in left.items()]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    os.remove(PARTS)
    return parts.results


def programs():
    """One word for all that runs: other programs, other results."""
    found = hashlib.sha256()
    scripts = sorted(entry.path for entry in os.scandir(initramfs.SOURCES))
    for path in (bench.NESTOR, bench.COUNTING_NESTOR, bench.IMAGE, linux.KERNEL, linux.INITRD, *scripts):
        with open(path, "rb") as program:
            found.update(program.read())
    return found.hexdigest()


def measure(rows, cpu, at_once):
    """All results; kept in FILE when they are complete. With some rows alone, Linux as a whole is left out."""
    whole = {(name, kind): (job, kind) for name, job in macro.COLUMNS.items() for kind in macro.KINDS if not rows}
    exits = {clock: (macro.count_exits, clock) for clock in macro.CLOCKS if not rows}
    jobs = {name: (job, rows, cpu) for name, job in (COLUMNS | {COUNTS: bench.count}).items()}
    try:
        kvm.build_initrd(bench.IMAGE)
        if whole:
            macro.build()
    except initramfs.BuildError as error:
        raise bench.Failed(error) from error
    # The longest first: they run two at a time.
    measured = run_jobs({f"Linux, {name}{kind}": job for (name, kind), job in reversed(whole.items())} | jobs |
                        {f"Linux, exits at {clock:,}": job for clock, job in exits.items()}, at_once,
                        {"cpu": cpu, "rows": rows, "programs": programs()})
    results = {"of": describe() | {"cpu": cpu}, "ticks": {name: measured[name] for name in report.COLUMNS},
               "counts": measured[COUNTS]}
    if whole:
        results["macro"] = {name: {key: ticks for kind in macro.KINDS
                                   for key, ticks in measured[f"Linux, {name}{kind}"].items()}
                            for name in macro.COLUMNS}
        results["exits"] = {f"{clock // 10**6} M": measured[f"Linux, exits at {clock:,}"] for clock in exits}
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
