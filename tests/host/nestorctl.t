#!/usr/bin/env python3
"""nestorctl check on recorded machines: a good one, and one for each thing that can be wrong. And its report."""
import os
import subprocess
import sys
import tarfile
import tempfile

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "vm"))

from lib_tap import Tap  # noqa: E402  (the path must be set first)

PROGRAM = os.path.join(ROOT, "build", "nestorctl", "nestorctl")
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# A CPU of the Skylake server line, as Bochs 2.7 has it (`corei7_skylake_x`): number, value.
MSRS = {0x1b: 0xfee00900, 0x3a: 0x5, 0x480: 0xda040000000003, 0x481: 0x7f00000016, 0x482: 0xfff9fffe0401e172,
        0x483: 0x7fffff00036dff, 0x484: 0xffff000011ff, 0x485: 0x400001e5, 0x486: 0x80000021, 0x487: 0xffffffff,
        0x488: 0x2000,
        0x489: 0x3727ff, 0x48a: 0x2e, 0x48b: 0x17ffff00000000, 0x48c: 0xf0106334141, 0x48d: 0x7f00000016,
        0x48e: 0xfff9fffe04006172, 0x48f: 0x7fffff00036dfb, 0x490: 0xffff000011fb, 0x491: 0x1}
IOMEM = """\
00000000-00000fff : Reserved
00001000-0009ffff : System RAM
00100000-7fffffff : System RAM
  01000000-01ffffff : Kernel code
80000000-8fffffff : PCI Bus 0000:00
100000000-107fffffff : System RAM
"""
SERIAL = """\
serinfo:1.0 driver revision:
0: uart:16550A port:000003F8 irq:4 tx:0 rx:0
1: uart:unknown port:000002F8 irq:3
4: uart:16550A port:00005080 irq:19 tx:0 rx:0
"""


class Machine:
    """The files below a root folder. A test changes the dictionaries before it writes them."""

    def __init__(self, cpus=2):
        self.flags = ["fpu vme msr vmx ept"] * cpus
        self.microcode = ["0xf0"] * cpus
        self.msrs = [dict(MSRS) for _ in range(cpus)]
        self.files = {"sys/devices/system/cpu/online": f"0-{cpus - 1}\n", "proc/iomem": IOMEM,
                      "proc/tty/driver/serial": SERIAL,
                      "sys/firmware/efi/fw_platform_size": "64\n", SECURE_BOOT: b"\6\0\0\0\0",
                      "boot/grub/grub.cfg": "menuentry 'x' $menuentry_id_option 'nestor' {\n",
                      "boot/grub/x86_64-efi/multiboot2.mod": "", "sys/firmware/acpi/tables/DMAR": "DMAR"}

    def write(self, folder):
        blocks = [f"processor\t: {i}\nmicrocode\t: {self.microcode[i]}\nflags\t\t: {flags}\n"
                  for i, flags in enumerate(self.flags)]
        files = dict(self.files, **{"proc/cpuinfo": "\n".join(blocks)})
        for i, msrs in enumerate(self.msrs):
            files[f"dev/cpu/{i}/msr"] = "".join(f"{number:x} {value:x}\n" for number, value in msrs.items())
        for name, data in files.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data if isinstance(data, bytes) else data.encode())


def check(machine):
    with tempfile.TemporaryDirectory(prefix="nestorctl.") as folder:
        machine.write(folder)
        done = subprocess.run([PROGRAM, "check"], env=dict(os.environ, NESTORCTL_ROOT=folder), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def expect(tap, title, machine, status, *lines):
    got, text = check(machine)
    tap.equal(got, status, f"{title}: status {status}", text)
    for line in lines:
        tap.ok(any(said.startswith(line) for said in text.splitlines()), f"{title}: {line}", text)


def check_good(tap):
    expect(tap, "a good machine", Machine(), 0, "ok      VMX: all 2", "ok      FEATURE_CONTROL",
           "ok      VMX features: all",
           "ok      mixed cores", "ok      microcode: 0xf0", "ok      firmware: UEFI", "ok      Secure Boot: off",
           "ok      memory: of 65535 MiB Nestor takes 282", "ok      APIC: in xAPIC mode",
           "ok      IOMMU: there is one",
           "ok      serial: ttyS0 at 3F8H", "ok      serial: ttyS4 at 5080H: console=com:0x5080",
           "ok      GRUB: its menu has Nestor")
    tap.ok("unknown" not in check(Machine())[1] and "ttyS1" not in check(Machine())[1],
           "a port without a UART is not named")


def check_processors(tap):
    machine = Machine()
    machine.flags[1] = "fpu svm"
    expect(tap, "no VMX", machine, 1, "blocks  VMX: 1 of 2")
    machine = Machine()
    machine.flags[0] += " hypervisor"
    expect(tap, "a guest", machine, 0, "warning hypervisor")
    machine = Machine()
    machine.msrs[1][0x3a] = 1
    expect(tap, "locked off", machine, 1, "blocks  FEATURE_CONTROL: the firmware has locked VMX off on 1 of 2")
    machine = Machine()
    machine.msrs[1][0x48b] &= ~(1 << 39)
    expect(tap, "no unrestricted guest", machine, 1, "blocks  VMX features: processor 1 lacks unrestricted guest")
    machine = Machine()
    for msrs in machine.msrs:
        msrs[0x48b] &= ~(1 << 46)
    expect(tap, "no shadowing", machine, 0, "warning VMX features: no VMCS shadowing")
    machine = Machine()
    machine.msrs[1][0x48c] ^= 1
    expect(tap, "mixed", machine, 0,
           "warning mixed cores: processors 0 and 1 differ in MSR 48CH (F0106334141 and F0106334140)")
    machine = Machine()
    del machine.msrs[1][0x491]
    expect(tap, "mixed by absence", machine, 0, "warning mixed cores: processors 0 and 1 differ in MSR 491H")
    machine = Machine()
    machine.microcode[1] = "0xee"
    expect(tap, "microcode", machine, 0, "warning microcode: processors 0 and 1 have 0xf0 and 0xee")
    machine = Machine()
    machine.msrs = [{}, {}]
    expect(tap, "no driver msr", machine, 0, "warning MSRs: they cannot be read")
    machine = Machine()
    machine.msrs[0][0x1b] |= 0x400
    expect(tap, "x2APIC", machine, 0, "ok      APIC: in x2APIC mode")
    expect(tap, "300 processors", Machine(300), 0, "warning processors: Nestor runs 256 of 300")


def check_rest(tap):
    machine = Machine()
    machine.files[SECURE_BOOT] = b"\6\0\0\0\1"
    expect(tap, "Secure Boot", machine, 1, "blocks  Secure Boot: it is on")
    machine = Machine()
    machine.files["sys/firmware/efi/fw_platform_size"] = "32\n"
    expect(tap, "UEFI of 32 bits", machine, 1, "blocks  firmware: UEFI of 32 bits")
    machine = Machine()
    for name in [name for name in machine.files if name.startswith("sys/firmware")]:
        del machine.files[name]
    expect(tap, "BIOS", machine, 0, "ok      firmware: BIOS", "ok      IOMMU: none told of")
    machine = Machine()
    machine.files["proc/iomem"] = "00100000-020fffff : System RAM\n"
    expect(tap, "little memory", machine, 1,
           "blocks  memory: Nestor takes 34 MiB in one piece, and the largest is of 32 MiB")
    machine = Machine()
    machine.files["proc/iomem"] = "00100000-040fffff : System RAM\n100000000-107fffffff : System RAM\n"
    expect(tap, "little below 4 GiB", machine, 0, "ok      memory: of 63552 MiB Nestor takes 282, above 4 GiB")
    machine = Machine()
    machine.files["proc/iomem"] = "00000000-00000000 : System RAM\n"
    expect(tap, "not root", machine, 0, "warning memory: its map cannot be read")
    machine = Machine()
    machine.files["proc/tty/driver/serial"] = ""
    expect(tap, "no serial port", machine, 0, "ok      serial: none")
    machine = Machine()
    machine.files["proc/tty/driver/serial_8250"] = machine.files.pop("proc/tty/driver/serial")
    expect(tap, "serial ports of Linux 7.2", machine, 0, "ok      serial: ttyS0 at 3F8H")
    machine = Machine()
    machine.files["boot/grub/grub.cfg"] = "menuentry 'Debian' {\n"
    expect(tap, "no entry", machine, 0, "warning GRUB: its menu has no Nestor yet")
    del machine.files["boot/grub/x86_64-efi/multiboot2.mod"]
    expect(tap, "no multiboot2", machine, 1, "blocks  GRUB: it has no multiboot2 module")
    del machine.files["boot/grub/grub.cfg"]
    expect(tap, "no GRUB", machine, 0, "warning GRUB: no /boot/grub/grub.cfg")


def check_report(tap):
    """The files that a report has recorded can be checked again."""
    with tempfile.TemporaryDirectory(prefix="nestorctl.") as folder:
        Machine().write(os.path.join(folder, "root"))
        path = os.path.join(folder, "report.tar")
        done = subprocess.run([PROGRAM, "report", path], env=dict(os.environ,
                                                                  NESTORCTL_ROOT=os.path.join(folder, "root")),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        tap.equal(done.returncode, 0, "report: status 0", done.stdout)
        with tarfile.open(path) as archive:
            archive.extractall(folder)
            top = archive.getnames()[0].split("/")[0]
        unpacked = os.path.join(folder, top)
        with open(os.path.join(unpacked, "check"), encoding="utf-8") as file:
            tap.ok("ok      VMX features: all" in file.read(), "report: it has what check says")
        again = subprocess.run([PROGRAM, "check"], env=dict(os.environ, NESTORCTL_ROOT=os.path.join(unpacked, "root")),
                               stdout=subprocess.PIPE, text=True, check=False).stdout
        for line in ("ok      VMX features: all", "ok      mixed cores", "ok      memory: of 65535 MiB"):
            tap.ok(line in again, f"report: checked again, {line}", again)


def main():
    tap = Tap()
    made = subprocess.run(["make", "-s", "-C", ROOT, "nestorctl"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True,
                          check=False)
    if tap.equal(made.returncode, 0, "nestorctl is built", made.stdout):
        check_good(tap)
        check_processors(tap)
        check_rest(tap)
        check_report(tap)
    return tap.done()


sys.exit(main())
