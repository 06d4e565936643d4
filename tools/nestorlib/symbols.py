"""Names for the addresses of L1's code in Nestor's log, where L1's image or a System.map has symbols."""
import bisect
import re
import struct
import subprocess

RIP = re.compile(rb"\brip=([0-9a-f]+)(?= |:|,|$)")
CODE = "tTwW"
DATA = "bBdDrR"
NESTOR = 0xffffffff80000000     # where Nestor's image begins; its last symbol is the end of its code
PT_LOAD = 1
FURTHEST = 1 << 16      # bytes from the last symbol below


class Symbols:
    """Of an ELF file, or of a text as nm prints it (System.map). Read when the first address comes."""

    def __init__(self, path):
        self.path = path
        self.table = None
        self.addresses = {}

    def _lines(self):
        with open(self.path, "rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
            if not is_elf:
                file.seek(0)
                return file.read().decode(errors="replace").splitlines() if self.path.endswith("map") else []
        told = subprocess.run(["nm", "--defined-only", self.path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=False)
        return told.stdout.splitlines()

    def _load(self):
        try:
            rows = [line.split()[:3] for line in self._lines()]
        except OSError:     # no file, or no nm: addresses stay numbers
            rows = []
        self.table = sorted((int(row[0], 16), row[2]) for row in rows if len(row) == 3 and row[1] in CODE)
        self.addresses = {row[2]: int(row[0], 16) for row in rows if len(row) == 3 and row[1] in CODE + DATA}

    def address(self, name):
        """Of code or data; None if there is no such symbol."""
        if self.table is None:
            self._load()
        return self.addresses.get(name)

    def bytes_at(self, address, size):
        """The bytes that a 64-bit ELF file has for that address; None if it has none."""
        with open(self.path, "rb") as file:
            head = file.read(64)
            if head[:5] != b"\x7fELF\x02":
                return None
            offset, = struct.unpack_from("<Q", head, 32)
            entry_size, count = struct.unpack_from("<2H", head, 54)
            for i in range(count):
                file.seek(offset + i * entry_size)
                kind, _, place, at, _, length = struct.unpack("<2I4Q", file.read(40))
                if kind == PT_LOAD and at <= address and address + size <= at + length:
                    file.seek(place + address - at)
                    return file.read(size)
        return None

    def name(self, address):
        """name+0x12, or None."""
        if self.table is None:
            self._load()
        at = bisect.bisect_right(self.table, (address, "\x7f")) - 1
        if at < 0 or address - self.table[at][0] >= FURTHEST:
            return None
        start, name = self.table[at]
        return f"{name}+{address - start:#x}" if address > start else name

    def name_inside(self, address):
        """The same of Nestor's own code as it runs, which has an end: None for whatever lies elsewhere."""
        name = self.name(address)
        inside = name and NESTOR <= address < self.table[-1][0]
        return name if inside else None

    def annotate(self, line):
        """The line (bytes) with the name behind each rip=."""
        def named(match):
            name = self.name(int(match.group(1), 16))
            return match.group(0) + (f" <{name}>".encode() if name else b"")
        return RIP.sub(named, line) if b"rip=" in line else line
