"""A screen for an emulator that wants one: Xvfb, and pictures of it."""
import os
import select
import shutil
import signal
import struct
import subprocess
import zlib

from nestorlib import process
from nestorlib.errors import RunnerError

SIZE = "1600x1200x24"
XWD_HEADER = struct.Struct(">25I")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, width, height, rows):
    """`rows` are of three bytes a pixel."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    with open(path + ".new", "wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) +
                  chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 6)) + chunk(b"IEND", b""))
    os.replace(path + ".new", path)


def xwd_rows(data):
    """Width, height and rows of an X window dump of 32 bits a pixel, lowest byte first."""
    words = XWD_HEADER.unpack_from(data)
    header, width, height, line, colours = words[0], words[4], words[5], words[12], words[19]
    start, rows = header + 12 * colours, []
    for y in range(height):
        pixels = data[start + y * line:start + y * line + width * 4]
        row = bytearray(width * 3)
        row[0::3], row[1::3], row[2::3] = pixels[2::4], pixels[1::4], pixels[0::4]
        rows.append(bytes(row))
    return width, height, rows


class Display:
    """An X server without a screen. Its picture is a file that it keeps up to date."""

    def __init__(self, rundir):
        if not shutil.which("Xvfb"):
            raise RunnerError("Xvfb is not installed: run tools/setup")
        self.folder = os.path.join(rundir, "display")
        os.makedirs(self.folder, exist_ok=True)
        read, write = os.pipe()
        self.server = process.start(["Xvfb", "-displayfd", str(write), "-screen", "0", SIZE, "-noreset", "-nolisten",
                                     "tcp", "-fbdir", self.folder], pass_fds=(write,), stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
        os.close(write)
        number = self.read_line(read)
        os.close(read)
        if not number:
            self.close()
            raise RunnerError("Xvfb does not start")
        self.name = ":" + number

    @staticmethod
    def read_line(fd):
        """It comes in pieces, and a server whose reader left too early dies."""
        text = ""
        while not text.endswith("\n"):
            ready, _, _ = select.select([fd], [], [], 60)
            piece = os.read(fd, 16).decode() if ready else ""
            if not piece:
                return ""
            text += piece
        return text.strip()

    def picture(self, path):
        """The picture of now, as a PNG file."""
        with open(os.path.join(self.folder, "Xvfb_screen0"), "rb") as dump:
            write_png(path, *xwd_rows(dump.read()))

    def close(self):
        process.stop(self.server, (signal.SIGTERM, 2), (signal.SIGKILL, 5))
        shutil.rmtree(self.folder, ignore_errors=True)
