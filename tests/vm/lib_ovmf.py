"""Nestor on QEMU's own CPU emulation, which has no VMX, with OVMF: as far as its refusal."""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from lib_tap import ROOT

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import image  # noqa: E402  (the path must be set first)
from nestorlib.process import die_with_parent  # noqa: E402

OVMF = "/usr/share/OVMF/OVMF_{}_4M{}.fd"
PATIENCE_S = 240


class Qmp:
    """QEMU's monitor."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw", encoding="utf-8")
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "return" in answer or "error" in answer:
                return answer


def command(work, iso, keys=""):
    """keys=".snakeoil": Secure Boot is on, with the key that the package has for tests."""
    variables = os.path.join(work, "vars.fd")
    shutil.copyfile(OVMF.format("VARS", keys), variables)
    return ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "512", "-nodefaults", "-no-reboot", "-display",
            "none",
            "-vga", "std", "-drive", f"if=pflash,format=raw,readonly=on,file={OVMF.format('CODE', '')}",
            "-drive", f"if=pflash,format=raw,file={variables}", "-cdrom", iso, "-serial", f"file:{work}/com1",
            "-qmp", f"unix:{work}/qmp,server,nowait"]


def console_of(work):
    try:
        with open(os.path.join(work, "com1"), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def wait_for_end(work, machine, sign="nestor: exit status"):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and machine.poll() is None and sign not in console_of(work):
        time.sleep(0.5)
    time.sleep(1)


def refuse(nestor, l1, picture):
    """Boots it, writes what the screen shows at the end to the file, and returns the serial console's text."""
    plan = image.BootPlan()
    plan.load("multiboot2", "nestor.elf", nestor, "")
    plan.load("module2", "l1", l1, "")
    with tempfile.TemporaryDirectory(prefix="ovmf.") as work:
        iso = image.make_iso(plan, work, "uefi")
        machine = subprocess.Popen(command(work, iso), preexec_fn=die_with_parent, stdin=subprocess.DEVNULL)
        try:
            wait_for_end(work, machine)
            Qmp(os.path.join(work, "qmp")).ask("screendump", filename=picture, format="png")
        finally:
            machine.kill()
            machine.wait()
        return console_of(work)


def console_until(plan, sign, keys=""):
    """Boots that until the sign or the end, and returns the console's text."""
    with tempfile.TemporaryDirectory(prefix="ovmf.") as work:
        iso = image.make_iso(plan, work, "uefi")
        machine = subprocess.Popen(command(work, iso, keys), preexec_fn=die_with_parent, stdin=subprocess.DEVNULL)
        try:
            wait_for_end(work, machine, sign)
        finally:
            machine.kill()
            machine.wait()
        return console_of(work)
