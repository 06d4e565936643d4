"""Reads what Nestor drew on a picture of a screen, or guests/bench: its own font tells which character each cell is."""
import os
import re
import struct
import zlib

from lib_tap import ROOT

FONT = os.path.join(ROOT, "kernel", "font.c")
WIDTH, HEIGHT = 8, 13
INK = b"\xc0\xc0\xc0"
BORDER = 48     # an emulator's window has a frame of at most so many pixels around the screen


def glyphs():
    """Rows of a cell -> its character."""
    with open(FONT, encoding="utf-8") as source:
        rows = re.findall(r"^    \{((?:0x[0-9a-f]{2}, ){12}0x[0-9a-f]{2})\}", source.read(), re.M)
    assert len(rows) == 95, f"{FONT} has {len(rows)} glyphs"
    return {bytes(int(word, 16) for word in row.split(", ")): chr(0x20 + i) for i, row in enumerate(rows)}


def unfilter(kind, line, before):
    """One line of a PNG file of three bytes a pixel."""
    line = bytearray(line)
    for i in range(len(line)):
        left, up = line[i - 3] if i >= 3 else 0, before[i]
        corner = before[i - 3] if i >= 3 else 0
        guess = left + up - corner
        paeth = min((left, up, corner), key=lambda value: abs(guess - value))
        line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth)[kind]) & 0xff
    return line


def read_png(path):
    """Width and lines of three bytes a pixel."""
    with open(path, "rb") as file:
        data = file.read()
    at, packed, width, height = 8, b"", 0, 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data, at + 8)
        if kind == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += 12 + size
    raw, stride, lines = zlib.decompress(packed), width * 3, []
    for y in range(height):
        start = y * (stride + 1)
        kind, line = raw[start], raw[start + 1:start + 1 + stride]
        lines.append(line if kind == 0 else bytes(unfilter(kind, line, lines[-1] if lines else bytes(stride))))
    return width, lines


def bits_of(line):
    """One character for each pixel: 1 where Nestor's ink is."""
    return "".join("1" if line[i:i + 3] == INK else "0" for i in range(0, len(line), 3))


def decode(bits, known, left, top):
    """The lines of text of a screen whose corner is there; what is no character of ours is a dot."""
    lines = []
    for y in range(top, len(bits) - HEIGHT + 1, HEIGHT):
        cells = []
        for x in range(left, len(bits[0]) - WIDTH + 1, WIDTH):
            cell = bytes(int(row[x:x + WIDTH], 2) for row in bits[y:y + HEIGHT])
            cells.append(known.get(cell, "."))
        lines.append("".join(cells).rstrip())
    return lines


def read_text(path, begins="nestor: "):
    """The lines on the screen of that picture, one of which begins so; [] for none."""
    known = glyphs()
    bits = [bits_of(line) for line in read_png(path)[1]]
    needle = next(rows for rows, character in known.items() if character == begins[0])
    for top in range(BORDER):
        for left in range(BORDER):
            head = bytes(int(row[left:left + WIDTH], 2) for row in bits[top:top + HEIGHT])
            if head != needle and known.get(head) != "|":
                continue
            lines = decode(bits, known, left, top)
            if any(line.startswith(begins) for line in lines):
                return lines
    return []
