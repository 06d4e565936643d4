"""Nestor's last words of a run that it did not end itself, read from its memory."""
import collections
import os
import re
import struct

from nestorlib.memory import NESTOR, MachineMemory, Stopped
from nestorlib.paths import ROOT

CARVEOUT = re.compile(r"Nestor's carve-out at ([0-9a-f]+)")
FIRST = NESTOR + (1 << 16)  # of the image, which begins with a little that is not loaded
SHOWN = 12              # of the last events
LAYOUT = ("counters", "counter_count", "trace", "records", "straight", "moves", "decided", "by_reason", "l1_exits",
          "vcpu", "in_l2", "exits", "reasons")      # vmx/inspect.c: inspect_layout
Layout = collections.namedtuple("Layout", LAYOUT)
EVENT_TYPES = ("external interrupt", "type 1", "NMI", "exception", "software interrupt",
               "privileged software exception", "software exception", "other event")
LINE = "+" + " Nestor's summary ".center(78, "-") + "+"
RULE = "+" + 78 * "-" + "+"
NOT_READ = ("no last events and no summary: they are read from Bochs's memory alone, and while the image that runs is "
            "still in build/")


def rows_of(path, pattern):
    """Rows of one of Nestor's tables, from its source; none where that is not at hand."""
    try:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            return re.findall(pattern, file.read(), re.M)
    except OSError:
        return []


REASONS = {int(number): name for number, name in
           rows_of("vmx/exit_reasons.def", r'^REASON\(\w+, +(\d+), "([^"]*)"')}
COUNTERS = rows_of("kernel/counters.def", r'^COUNTER\((\w+), "([^"]*)"')
TYPES = rows_of("kernel/trace.h", r"^    TRACE\((\w+), ")


def reason_name(number):
    return REASONS.get(number, "unknown")


def in_words(kind, a, b):
    """A record of the ring; a and b are as kernel/trace.h says."""
    name = TYPES[kind] if kind < len(TYPES) else f"event {kind}"
    if name in ("EXIT_L1", "EXIT_L2"):
        return f"{name[5:]} exits: {a} ({reason_name(a)}) at rip={b:x}"
    if name == "INJECT":
        return f"injects {EVENT_TYPES[a >> 8 & 7]} {a & 0xff}, error code {b:x}"
    if name == "WATCH":
        return f"{'L2' if a else 'L1'} stored to the traced page at gpa1={b:x}"
    if name == "MERGE":
        return f"merges L1's MSR bitmap at gpa1={b:x} with Nestor's"
    if name == "KICK":
        return f"kicks processor {a} to pass an INVEPT (generation {b})"
    if name == "STRAIGHT":
        return f"the straight way: {a} entries of L2 and {b} exits to L1, since the last line"
    return f"{name} {a:#x} {b:#x}"


class Processor:
    """The block of one, and the guest that runs on it."""

    def __init__(self, memory, layout, address):
        def words(at, count):
            data = memory.read(at, 8 * count)
            return struct.unpack(f"<{count}Q", data) if data else (0,) * count

        straight = address + layout.straight
        self.counters = list(words(address + layout.counters, layout.counter_count))
        ring = words(address + layout.trace, 1 + 2 * layout.records)
        last = [ring[1 + 2 * (i % layout.records):][:2] for i in range(max(0, ring[0] - SHOWN), ring[0])]
        self.events = [in_words(first >> 32, first & 0xffffffff, b) for first, b in last]
        moves, = words(straight + layout.moves, 1)
        decided = (memory.read(straight + layout.decided, 1) or b"\0")[0]
        self.by_reason = words(straight + layout.by_reason, 64)
        self.l1_exits, self.cpuids, self.vmreads, self.vmptrlds, self.invepts = words(straight + layout.l1_exits, 5)
        vcpu, = words(address + layout.vcpu, 1)
        self.runs = vcpu != 0
        counts = words(vcpu + layout.exits, 2 * layout.reasons) if vcpu else (0,) * (2 * layout.reasons)
        self.reasons = [list(counts[:layout.reasons]), list(counts[layout.reasons:])]
        in_l2 = (vcpu and (memory.read(vcpu + layout.in_l2, 1) or b"\0")[0]) != 0
        self.entries = (moves + (not in_l2)) // 2
        self.exits = moves - self.entries - decided
        self.level = "L2" if in_l2 ^ (moves & 1) else "L1"
        self._settle()

    def _settle(self):
        """Adds what the straight way has not handed over yet: nested/quiet.c:add_counts() and vmx/run.c:count_l1()."""
        at = {name: index + 1 for index, (name, _) in enumerate(COUNTERS)}
        numbers = {name: number for number, name in REASONS.items()}
        for row, value in (("EXITS_L1", self.entries + self.l1_exits), ("NESTED_ENTRIES", self.entries),
                           ("EXITS_L2", self.exits), ("EXITS_REFLECTED", self.exits)):
            if row in at:
                self.counters[at[row]] += value
        for name, value in (("VMRESUME", self.entries), ("CPUID", self.cpuids), ("VMREAD", self.vmreads),
                            ("VMPTRLD", self.vmptrlds), ("INVEPT", self.invepts),
                            ("VMWRITE", self.l1_exits - self.cpuids - self.vmreads - self.vmptrlds - self.invepts)):
            if name in numbers:
                self.reasons[0][numbers[name]] += value
        for number, value in enumerate(self.by_reason[:len(self.reasons[1])]):
            self.reasons[1][number] += value


class Where:
    """levels: of each processor, "L1" or "L2". lines: the last events and the summary. When nothing could be read there
    are no levels, and one line that says so; nothing at all before Nestor has told where it is."""

    def __init__(self, pid, l0_text, symbols):
        self.levels, self.lines = [], []
        found = CARVEOUT.search(l0_text)
        if not found:
            return
        try:
            with Stopped(pid):
                processors = self._read(pid, int(found.group(1), 16), symbols)
        except (OSError, struct.error):     # it is gone, or may not be looked at
            processors = []
        if not processors:
            self.lines = [NOT_READ]
        else:
            self.levels = [processor.level for processor in processors]
            self.lines = self._events(processors) + self._summary(processors)

    @staticmethod
    def _read(pid, image_hpa, symbols):
        memory = MachineMemory(pid, image_hpa)
        try:
            at = {name: symbols.address(name) for name in ("vcpu_handle_exit", "layout_image_hpa", "inspect_layout",
                                                           "percpu_cpus", "percpu_count")}
            if None in at.values():
                return []

            def is_right():
                """The image that runs, whole: a wrong size of blocks shows in the parts that are far away."""
                parts = range(FIRST, at["layout_image_hpa"], 1 << 16)
                block = memory.read(at["percpu_cpus"], 8)
                return (memory.read(at["layout_image_hpa"], 8) == struct.pack("<Q", image_hpa) and
                        all(memory.read(part, 64) == symbols.bytes_at(part, 64) for part in parts) and
                        block and memory.read(*struct.unpack("<Q", block), 8) == block)

            code = symbols.bytes_at(at["vcpu_handle_exit"], 64)
            if not code or not memory.find(at["vcpu_handle_exit"], code, is_right):
                return []
            layout = Layout(*struct.unpack(f"<{len(LAYOUT)}I", memory.read(at["inspect_layout"], 4 * len(LAYOUT))))
            count, = struct.unpack("<I", memory.read(at["percpu_count"], 4))
            blocks = struct.unpack(f"<{count}Q", memory.read(at["percpu_cpus"], 8 * count))
            return [Processor(memory, layout, block) for block in blocks]
        finally:
            memory.close()

    @staticmethod
    def _events(processors):
        lines = []
        for number, processor in enumerate(processors):
            lines.append(f"the last events on processor {number}, the newest at the end:")
            lines += ["  " + event for event in processor.events] or ["  none"]
        return lines

    @staticmethod
    def _summary(processors):
        lines = [LINE, f"| {'exits by reason':<46} {'L1':>14} {'L2':>14} |"]
        for reason in range(len(processors[0].reasons[0])):
            l1, l2 = (sum(processor.reasons[level][reason] for processor in processors) for level in (0, 1))
            if l1 or l2:
                lines.append(f"| {reason:3} {reason_name(reason):<42} {l1:14} {l2:14} |")
        lines.append(RULE)
        for index, (_, text) in enumerate(COUNTERS):
            total = sum(processor.counters[index + 1] for processor in processors) & (1 << 64) - 1
            if total:
                lines.append(f"| {text:<61} {total:14} |")
        return lines + [RULE]
