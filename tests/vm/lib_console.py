"""A program on a pseudo-terminal: what is typed, and what is seen."""
import os
import pty
import re
import select
import subprocess
import sys
import time

from lib_tap import heed_sigint


class Console:
    """Types and sees, on a pseudo-terminal as a person has it."""

    def __init__(self, command, timeout):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=heed_sigint)
        os.close(slave)
        self.seen = ""
        self.deadline = time.monotonic() + timeout

    def read(self, wait):
        if not select.select([self.master], [], [], wait)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        if "-v" in sys.argv:
            sys.stderr.write(data.decode(errors="replace"))
        self.seen += data.decode(errors="replace").replace("\r", "")
        return bool(data)

    def expect(self, pattern):
        """Everything up to the pattern at the end of what is seen, or None when it does not come."""
        while time.monotonic() < self.deadline:
            if re.search(pattern, self.seen):
                text, self.seen = self.seen, ""
                return text
            if not self.read(1) or "Kernel panic" in self.seen:
                return None
        return None

    def type(self, text, pattern):
        """The text, and what is seen then."""
        os.write(self.master, text.encode())
        return self.expect(pattern) or ""

    def wait(self):
        while time.monotonic() < self.deadline and self.read(1):
            pass
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            return None

    def leave(self):
        """Ends the program before its end."""
        self.process.terminate()
        self.process.wait()
        os.close(self.master)
