"""L1's console on the terminal: what is typed goes to COM1, what COM1 says is shown at once."""
import os
import pty
import termios
import tty

ESCAPE, LEAVE = 0x01, ord("x")      # Ctrl-A x, as in QEMU; Ctrl-A Ctrl-A sends one
HELP = "Ctrl-A x leaves, Ctrl-A Ctrl-A sends a Ctrl-A"


class Terminal:
    """A pseudo-terminal whose other end is the machine's COM1. Raw from start() to close() if stdin is a terminal."""

    def __init__(self, on_leave, stdin=0, stdout=1):
        self.on_leave = on_leave
        self.stdin, self.stdout = stdin, stdout
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)
        self.escaped = False
        self.saved = None

    def start(self):
        if os.isatty(self.stdin):
            self.saved = termios.tcgetattr(self.stdin)
            tty.setraw(self.stdin)

    def pump_machine(self):
        """The bytes that the machine says. It may hang up and come back."""
        try:
            data = os.read(self.master, 65536)
        except (BlockingIOError, OSError):
            return True
        os.write(self.stdout, data)
        return True

    def pump_person(self):
        """Sends what is typed. False at the end of the input."""
        data = os.read(self.stdin, 4096)
        if not data:
            return False
        typed = bytearray()
        for byte in data:
            if self.escaped:
                self.escaped = False
                if byte | 0x20 == LEAVE:
                    self.on_leave()
                    continue
                typed.append(byte)
            elif byte == ESCAPE:
                self.escaped = True
            else:
                typed.append(byte)
        while typed:
            try:
                del typed[:os.write(self.master, typed)]
            except BlockingIOError:
                os.set_blocking(self.master, True)
                del typed[:os.write(self.master, typed)]
                os.set_blocking(self.master, False)
        return True

    def close(self):
        if self.saved:
            termios.tcsetattr(self.stdin, termios.TCSADRAIN, self.saved)
            self.saved = None
        for descriptor in (self.master, self.slave):
            os.close(descriptor)
