"""Cycles on a real CPU: guests/bench in virtual machines that have VT-x, or as it was printed on a serial port by the
image of `make bench-iso`."""
import re

from nestorlib import bench, qemu, report
from nestorlib.errors import RunnerError

ROUNDS = "rounds=8"
PART = re.compile(r"^bench: on (.*), signature [0-9a-f]+, L0: (.*)$", re.M)
MEASURED = re.compile(r"^(?:nestor\| )?(measure: .*)$", re.M)
NESTOR_OPTIONS = "measure=1 stats=0xf8 cpus=1 summary=0"
INSIDE = """\
Here Nestor was a guest of the L0 that the table names {0}. So the columns of {0} are what nested VMX of that costs
on this CPU, and those of Nestor hold both, one on the other: they say nothing of Nestor alone. `make bench-iso` does,
on a machine that starts it without another hypervisor."""


def read_parts(text):
    """[(CPU, L0, {row: (minimum, median)})] of each run that the text has."""
    text = text.replace("\r", "")
    heads = list(PART.finditer(text))
    parts = []
    for head, after in zip(heads, [*heads[1:], None]):
        part = text[head.start():after.start() if after else len(text)]
        rows = {key: (float(least), float(median)) for key, least, median in bench.ROW.findall(part)}
        bench.check_complete(rows, part)
        parts.append((head.group(1), head.group(2), rows))
    if not parts:
        raise bench.Failed("no figures of the benchmark in it: they begin with a line `bench: on`\n" + text[-1000:])
    return parts


def cells(parts):
    """A row for each key, two columns for each run."""
    heads = [word for _, l0, _ in parts for word in (f"L0 {l0}: minimum", "median")]
    keys = report.keys({number: rows for number, (_, _, rows) in enumerate(parts)})
    return [["cycles", *heads]] + [
        [key, *(report.show(figure) for _, _, rows in parts for figure in rows.get(key, (None, None)))] for key in keys]


def lines(parts, text, markdown=False):
    """The table, the CPUs that it is of, and what Nestor measured itself."""
    cpus = list(dict.fromkeys(cpu for cpu, _, _ in parts))
    return [f"On {', '.join(cpus)}:", "", *report.lines(cells(parts), markdown), "", *MEASURED.findall(text)]


def read_file(path, markdown=False):
    """Lines of what the log of a serial port has."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    return lines(read_parts(text), text, markdown)


def in_qemu(rows="", markdown=False):
    """Lines of a run bare and a run under Nestor, in virtual machines of QEMU/KVM."""
    try:
        qemu.Qemu.check()
    except RunnerError as error:
        raise bench.Failed(str(error)) from None
    common = ["--machine", "qemu", "--memory", "512", "--timeout", "300", "--l1", bench.IMAGE, "--l1-args",
              f"{ROUNDS} rows={rows}"]
    text = bench.run([*common, "--bare"]) + bench.run([*common, "--nestor", NESTOR_OPTIONS])
    parts = read_parts(text)
    return [*lines(parts, text, markdown), "", *INSIDE.format(parts[0][1]).splitlines()]
