"""The run loop: streams the consoles, watches the clock, and finds the status."""
import collections
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from nestorlib import process
from nestorlib.errors import STATUS_DIED, STATUS_INTERRUPTED, STATUS_TIMEOUT
from nestorlib.symbols import Symbols
from nestorlib.terminal import Terminal
from nestorlib.where import Where

RESET = "(L1 reset the machine)"
NESTOR_STATUS = re.compile(r"nestor: exit status (\d+)(?: \((.*)\))?")
GRACE = {"guest": 0.5, "nestor": 5.0}   # seconds from the status to the machine's own end
EXPORTED = re.compile(r"nestor-inspect: ((?:[0-9a-f]{8})+)")
PANIC = re.compile(r"Kernel panic - not syncing|Panic on CPU \d+:")   # Linux, Xen
L1_PANICKED = "L1 panicked: "
KEPT_LINES = 400
PICTURE_DELAY = 1.5     # seconds from a line to the picture that was wished for


@dataclass
class Result:
    status: int
    reason: str
    ticks: int
    seconds: float
    last_lines: list = field(default_factory=list)

    @property
    def is_failure(self):
        return self.status in (STATUS_TIMEOUT, STATUS_DIED)


class Sinks:
    """Where the two consoles go: the runner's own stdout and stderr, or files."""

    def __init__(self, opts):
        self.l1 = open(opts.l1_log, "wb") if opts.l1_log else sys.stdout.buffer
        self.l0 = open(opts.l0_log, "wb") if opts.l0_log else sys.stderr.buffer
        self.l0_prefix = b"" if opts.l0_log else b"nestor| "
        self.symbols = Symbols(opts.symbols or opts.l1)
        self.nestor = Symbols(opts.nestor_elf)

    def write_l1(self, line):
        self.l1.write(line + b"\n")
        self.l1.flush()

    def write_l0(self, line):
        self.l0.write(self.l0_prefix + self.symbols.annotate(line) + b"\n")
        self.l0.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sink in (self.l1, self.l0):
            if sink not in (sys.stdout.buffer, sys.stderr.buffer):
                sink.close()


class LineStream:
    """A descriptor cut into lines, each handed on as soon as it is complete."""

    def __init__(self, fd, handler, copy=None):
        self.fd = fd
        self.handler = handler
        self.copy = copy
        self.rest = b""
        os.set_blocking(fd, False)

    def pump(self):
        """Read what is there. False at the end of the stream."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return True
        if not data:
            return False
        if self.copy:
            self.copy.write(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.handler(line.rstrip(b"\r"))
        return True

    def drain(self):
        """After the machine's end: all that is left, a last unfinished line too."""
        pending = True
        while pending:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                data = b""
            pending = bool(data)
            if data:
                if self.copy:
                    self.copy.write(data)
                self.rest += data
        lines = self.rest.split(b"\n")
        self.rest = b""
        for line in lines[:-1] + ([lines[-1]] if lines[-1] else []):
            self.handler(line.rstrip(b"\r"))
        if self.copy:
            self.copy.close()


class Session:
    """One run of one machine."""

    def __init__(self, opts, machine, rundir, sinks):
        self.opts = opts
        self.machine = machine
        self.rundir = rundir
        self.sinks = sinks
        self.outcome = None         # (status or None, reason): the first that is known wins
        self.deadline = None
        self.log = collections.deque(maxlen=KEPT_LINES)
        self.output = collections.deque(maxlen=KEPT_LINES)
        self.l0_lines = collections.deque(maxlen=10)
        self.l0_first = []          # where Nestor tells of the machine
        self.nestor_ended = False
        self.where = None           # of a run that somebody else than Nestor ends
        self.streams = []
        self.resets = 0             # of those that are part of the run
        self.fifos = []
        self.exported = []          # words in hexadecimal, of Nestor's records
        self.terminal = None        # with --interactive: L1's console
        self.process = None
        self.due = []               # (time, file) of pictures
        self.pictures = [(re.compile(pattern), path) for pattern, path in opts.picture]

    def settle(self, outcome, grace):
        """The run's end is known; the machine may still end in its own way."""
        if outcome is None:
            return
        if self.outcome is None or grace == "nestor":
            self.outcome = outcome
            pictures = max((due for due, _ in self.due), default=0)
            self.deadline = min(self.deadline, max(time.monotonic() + GRACE[grace], pictures))

    def on_l1(self, line):
        self.sinks.write_l1(line)
        text = line.decode(errors="replace")
        self.plan_picture(text)
        if self.opts.panic_ends and PANIC.search(text):
            self.settle((None, L1_PANICKED + text.strip()), "guest")
        if self.opts.until and re.search(self.opts.until, text):
            self.settle((0, "L1 said what was waited for"), "guest")

    def plan_picture(self, text):
        """The emulated screen is a little behind the line that tells of it."""
        for wanted in [pair for pair in self.pictures if pair[0].search(text)]:
            self.pictures.remove(wanted)
            self.due.append((time.monotonic() + PICTURE_DELAY, wanted[1]))

    def take_pictures(self, last=False):
        for due in [pair for pair in self.due if last or pair[0] <= time.monotonic()]:
            self.due.remove(due)
            self.machine.picture(due[1])

    def on_l0(self, line):
        self.sinks.write_l0(line)
        text = line.decode(errors="replace")
        self.plan_picture(text)
        self.l0_lines.append(text)
        if len(self.l0_first) < KEPT_LINES:
            self.l0_first.append(text)
        found = NESTOR_STATUS.search(text)
        if found and RESET in text and self.resets < self.opts.resets:
            self.resets += 1
        elif found:
            self.nestor_ended = True
            self.settle((int(found.group(1)) & 0xFF, found.group(2) or "Nestor ended the run"), "nestor")

    def on_log(self, line):
        text = line.decode(errors="replace")
        self.log.append(text)
        self.settle(self.machine.read_log(text), "guest")

    def on_output(self, line):
        text = line.decode(errors="replace")
        self.output.append(text)
        self.settle(self.machine.read_output(text), "guest")
        found = EXPORTED.search(text)
        if found and self.opts.trace:
            self.exported.append(found.group(1))

    def open_fifo(self, name, handler):
        """A FIFO in the place of a log file: no polling, no growth on disk. Opened for
        both directions, so that it has no end of file before the machine opens it."""
        path = os.path.join(self.rundir, name + ".fifo")
        if os.path.exists(path):
            os.unlink(path)
        os.mkfifo(path)
        copy = open(os.path.join(self.rundir, name + ".log"), "wb") if self.opts.keep else None
        self.streams.append(LineStream(os.open(path, os.O_RDWR | os.O_NONBLOCK), handler, copy))
        self.fifos.append(path)
        return path

    def leave(self):
        """The person has had enough."""
        self.outcome = (STATUS_INTERRUPTED, "left by Ctrl-A x")
        self.deadline = 0

    def open_console(self):
        if not self.opts.interactive:
            return self.open_fifo("com1", self.on_l1)
        self.terminal = Terminal(self.leave)
        self.terminal.start()
        return self.terminal.path

    def start(self, iso):
        fifos = [self.open_console(), self.open_fifo("com2", self.on_l0),
                 self.open_fifo("machine", self.on_log)]
        command = self.machine.command(iso, *fifos)
        self.process = process.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     cwd=self.rundir, env=self.machine.environment())
        self.streams.append(LineStream(self.process.stdout.fileno(), self.on_output))

    def pump_until_end(self):
        """Until the machine closes its output (it ended) or the deadline passes."""
        selector = selectors.DefaultSelector()
        for stream in self.streams:
            selector.register(stream.fd, selectors.EVENT_READ, stream.pump)
        if self.terminal:
            selector.register(self.terminal.master, selectors.EVENT_READ, self.terminal.pump_machine)
            selector.register(self.terminal.stdin, selectors.EVENT_READ, self.terminal.pump_person)
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return False
            self.take_pictures()
            for key, _ in selector.select(min(left, 0.2) if self.due else left):
                if key.data():
                    continue
                if not self.terminal or key.fd != self.terminal.stdin:
                    return True
                selector.unregister(key.fd)     # nothing more is typed; the machine goes on

    def pump_or_interrupted(self):
        """As pump_until_end(); Ctrl-C is an end that tells where the machine was, once it is stopped."""
        try:
            return self.pump_until_end()
        except KeyboardInterrupt:
            self.outcome = (STATUS_INTERRUPTED, "interrupted")
            return False

    def look_inside(self):
        """Before it is stopped: what Nestor would say, had it ended the run."""
        if self.process.poll() is None and not self.opts.bare and not self.nestor_ended:
            self.where = Where(self.process.pid, "\n".join(self.l0_first), self.sinks.nestor)

    def stop_machine(self):
        """SIGINT first: Bochs then still tells the ticks. Reads on, lest it block."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.deadline = time.monotonic() + 2
            self.pump_until_end()
        process.stop(self.process, (signal.SIGTERM, 1), (signal.SIGKILL, 5))

    def run(self, iso):
        begin = time.monotonic()
        self.deadline = begin + self.opts.timeout
        try:
            self.start(iso)
            ended = self.pump_or_interrupted()
            self.take_pictures(last=True)
            if not ended and self.outcome is None:
                self.outcome = (STATUS_TIMEOUT, f"timeout after {self.opts.timeout:g} s")
            if not ended:
                self.look_inside()
            if ended:
                process.stop(self.process, (0, 5))
            self.stop_machine()
            for stream in self.streams:
                stream.drain()
        finally:
            self.close()
        return self.judge(time.monotonic() - begin)

    def raw_records(self):
        """The words are numbers: the first hexadecimal digit is the highest."""
        words = "".join(self.exported)
        return b"".join(bytes.fromhex(words[i:i + 8])[::-1] for i in range(0, len(words), 8))

    def close(self):
        if self.process:
            process.stop(self.process, (signal.SIGTERM, 1), (signal.SIGKILL, 5))
            self.process.stdout.close()
        self.machine.close()
        for stream, path in zip(self.streams, self.fifos):
            os.close(stream.fd)
            if os.path.exists(path):
                os.unlink(path)
        if self.terminal:
            self.terminal.close()

    def judge(self, seconds):
        outcome = self.outcome or self.machine.status_of_exit(self.process.returncode)
        if outcome is None:
            outcome = (None, self.machine.death(list(self.output)) or "the machine ended without a status")
        status, reason = outcome
        if status is None:
            status = STATUS_DIED
        result = Result(status, reason, self.machine.ticks, seconds)
        if result.is_failure or reason == "interrupted":
            result.last_lines = self.last_lines(status, reason)
        return result

    def last_lines(self, status, reason):
        """The emulator's own words only where it died: of a signal, and of Nestor's last port, they only frighten."""
        if self.nestor_ended:
            return [f"nestor| {line}" for line in self.l0_lines] if self.opts.l0_log else []
        lines = []
        if status == STATUS_DIED and not reason.startswith(L1_PANICKED):
            lines += self.machine.last_lines(list(self.log), list(self.output))
        levels = self.where.levels if self.where else []
        lines += self.machine.where(list(self.output), list(self.log), self.sinks, levels)
        if self.opts.l0_log and status != STATUS_INTERRUPTED:
            lines += [f"nestor| {line}" for line in self.l0_lines]
        if self.where:
            lines += [self.sinks.symbols.annotate(line.encode()).decode() for line in self.where.lines]
        return lines
