"""Nestor on QEMU's own CPU emulation, which has no VMX, with OVMF: as far as its refusal."""
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid

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


# The firmware's store of variables. UEFI PI 1.8 volume 3, 3.2.1 "EFI_FIRMWARE_VOLUME_HEADER"; the rest is edk2's own,
# MdeModulePkg/Include/Guid/VariableFormat.h: AUTHENTICATED_VARIABLE_HEADER.
VOLUME_HEADER_LENGTH_AT, STORE_HEADER_SIZE = 0x30, 28
VARIABLE = struct.Struct("<HBBIQ16sIII16s")
VARIABLE_START, VARIABLE_ADDED = 0x55AA, 0x3F
NON_VOLATILE_BOOT_SERVICES = 3
SHIM_GUID = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
X509_GUID = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")


def enrol_owner_key(path, certificate):
    """The variable MokList, as shim's MokManager leaves it when it has enrolled that certificate (DER)."""
    with open(certificate, "rb") as file:
        key = file.read()
    entry = SHIM_GUID.bytes_le + key
    data = X509_GUID.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry
    name = "MokList\0".encode("utf-16-le")
    with open(path, "r+b") as file:
        store = file.read()
        at = struct.unpack_from("<H", store, VOLUME_HEADER_LENGTH_AT)[0] + STORE_HEADER_SIZE
        while struct.unpack_from("<H", store, at)[0] == VARIABLE_START:
            row = VARIABLE.unpack_from(store, at)
            at = (at + VARIABLE.size + row[7] + row[8] + 3) & ~3
        file.seek(at)
        file.write(VARIABLE.pack(VARIABLE_START, VARIABLE_ADDED, 0, NON_VOLATILE_BOOT_SERVICES, 0, bytes(16), 0,
                                 len(name), len(data), SHIM_GUID.bytes_le) + name + data)


def command(work, iso, keys="", owner=None):
    """keys=".snakeoil": Secure Boot is on, with the key that the package has for tests. owner: of enrol_owner_key()."""
    variables = os.path.join(work, "vars.fd")
    shutil.copyfile(OVMF.format("VARS", keys), variables)
    if owner:
        enrol_owner_key(variables, owner)
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


def refuse(nestor, l1, picture, words="", before="", more=()):
    """Boots it on a machine with `more`, behind the UEFI application `before`. Writes what the screen shows at the end
    to the file, and returns the serial console's text."""
    plan = image.BootPlan()
    if before:
        plan.run_before(before)
    plan.load("multiboot2", "nestor.elf", nestor, words)
    plan.load("module2", "l1", l1, "")
    with tempfile.TemporaryDirectory(prefix="ovmf.") as work:
        iso = image.make_iso(plan, work, "uefi")
        machine = subprocess.Popen([*command(work, iso), *more], preexec_fn=die_with_parent, stdin=subprocess.DEVNULL)
        try:
            wait_for_end(work, machine)
            Qmp(os.path.join(work, "qmp")).ask("screendump", filename=picture, format="png")
        finally:
            machine.kill()
            machine.wait()
        return console_of(work)


def console_until(plan, sign, keys="", owner=None):
    """Boots that until the sign or the end, and returns the console's text."""
    with tempfile.TemporaryDirectory(prefix="ovmf.") as work:
        iso = image.make_iso(plan, work, "uefi")
        machine = subprocess.Popen(command(work, iso, keys, owner), preexec_fn=die_with_parent,
                                   stdin=subprocess.DEVNULL)
        try:
            wait_for_end(work, machine, sign)
        finally:
            machine.kill()
            machine.wait()
        return console_of(work)
