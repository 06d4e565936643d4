"""The memory of an emulated machine, read from outside while the emulator stands still.

Bochs gives the machine its memory in blocks, in the order of their first use, and keeps a table of where they are. A
page of Nestor's own, whose place in the machine is known, tells where its block is; the one pointer to that in the
emulator's memory is an entry of the table.
"""
import os
import signal
import struct

NESTOR = 0xffffffff80000000         # kernel/layout.h: IMAGE_LINK_BASE
DIRECT_MAP = 0xffff800000000000     # DIRECT_MAP_BASE
# Sizes of a block that are tried: the right one before larger ones, as the image may lie in a single one of those.
BLOCKS = [1 << shift for shift in range(14, 21)]
PAGE = 4096
CHUNK = 1 << 22
PRESENT_OR_SWAPPED = 0xc0      # in the highest byte of a page's entry in pagemap


class Stopped:
    """The process stands still as long as this is open."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


class MachineMemory:
    """find() first; read() then takes addresses as Nestor has them."""

    def __init__(self, pid, image_hpa):
        self.fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self.pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
        self.image_hpa = image_hpa
        self.table = self.block = None
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            rows = [line.split() for line in maps]
        self.areas = [tuple(int(end, 16) for end in row[0].split("-")) for row in rows
                      if row[1].startswith("rw") and (len(row) == 5 or row[5] == "[heap]" or ".so" not in row[5])]

    def close(self):
        os.close(self.fd)
        os.close(self.pagemap)

    def _used(self, first, end):
        """The parts of an area that the emulator has touched, and their bytes. A device's memory cannot be read so."""
        for at in range(first, end, CHUNK):
            size = min(CHUNK, end - at)
            pages = os.pread(self.pagemap, size // PAGE * 8, at // PAGE * 8)
            if any(entry & PRESENT_OR_SWAPPED for entry in pages[7::8]):
                try:
                    yield at, os.pread(self.fd, size, at)
                except OSError:
                    continue

    def _places(self, areas, pattern, step, rest):
        """Where in these areas the bytes are, at a multiple of `step` and `rest` more."""
        for first, end in areas:
            for at, data in self._used(first, end):
                found = data.find(pattern)
                while found >= 0:
                    if (at + found - rest) % step == 0:
                        yield at + found
                    found = data.find(pattern, found + 1)

    def find(self, address, pattern, is_right):
        """Finds the table by bytes that only Nestor's image has, at `address` of it. There may be older copies of the
        image: is_right() asks. False: it was not found."""
        hpa = address - NESTOR + self.image_hpa
        ram = max(self.areas, key=lambda area: area[1] - area[0])
        others = [area for area in self.areas if area != ram]
        for place in self._places([ram], pattern, PAGE, hpa % PAGE):
            for block in BLOCKS:
                for entry in self._places(others, struct.pack("<Q", place - hpa % block), 8, 0):
                    self.table, self.block = entry - 8 * (hpa // block), block
                    if is_right():
                        return True
        return False

    def read(self, address, size):
        """The bytes there, or None."""
        hpa = address - NESTOR + self.image_hpa if address >= NESTOR else address - DIRECT_MAP
        data = b""
        while len(data) < size:
            inside = hpa % self.block
            want = min(size - len(data), self.block - inside)
            try:
                entry, = struct.unpack("<Q", os.pread(self.fd, 8, self.table + 8 * (hpa // self.block)))
                part = os.pread(self.fd, want, entry + inside)
            except (OSError, OverflowError, struct.error):
                return None
            if len(part) != want:
                return None
            data += part
            hpa += want
        return data
