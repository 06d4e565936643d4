#!/usr/bin/env python3
"""No module: L1 is what the BIOS boots from a disk or CD, in real mode.

Usage: tests/vm/disk.t [linux]      (linux: Debian's GRUB and kernel from a disk, with KVM and L2, in minutes)
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import image, linux  # noqa: E402

SOURCE = os.path.join(ROOT, "tests", "vm", "lib_disk.asm")
SIGNATURE = 0x7473654E      # "Nest", of the option inspect=
COMMON = ("--memory", "256", "--timeout", "100", "--l1", "none")
IPS = 20000000


def make_cd(work, sector):
    """An ISO that boots the program by El Torito, without emulation."""
    tree = os.path.join(work, "tree")
    os.makedirs(tree)
    shutil.copyfile(sector, os.path.join(tree, "boot.img"))
    iso = os.path.join(work, "cd.iso")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-b", "boot.img", "-no-emul-boot", "-boot-load-size", "4",
                    "-o", iso, tree], check=True, stderr=subprocess.DEVNULL)
    return iso


def check_boots(tap, name, run, drive):
    tap.equal(run.wait().status, 0, f"{name}: the boot sector ran", run.out, run.err[-2000:])
    found = re.search(r"^boot (\w{8}) (\w{8}) (\w{8}) (\w{8})$", run.out, re.M)
    words = [int(word, 16) for word in found.groups()] if found else [0] * 4
    tap.ok(words[0] & 0xff in drive, f"{name}: DL is its drive", run.out)
    tap.ok(words[1], f"{name}: the BIOS's clock goes on", run.out)
    tap.ok(words[2] == 15 * 1024, f"{name}: INT 15h answers", run.out)
    tap.equal(words[3], SIGNATURE, f"{name}: it is L1")
    tap.ok(f"L1 is what the BIOS boots from {name}" in run.err, f"{name}: Nestor says so", run.err[-2000:])


def check_refused(tap, name, run, wanted):
    tap.equal(run.wait().status, 1, f"{name}: status 1", run.err[-2000:])
    tap.ok(re.search(wanted, run.err), f"{name}: the log says {wanted}", run.err[-2000:])


def small_programs(tap, work):
    sector, empty = os.path.join(work, "sector"), os.path.join(work, "empty")
    subprocess.run(["nasm", "-f", "bin", "-o", sector, SOURCE], check=True)
    with open(empty, "wb") as file:
        file.truncate(1 << 20)
    cd = make_cd(work, sector)
    inspect = "inspect=0xea4 boot="
    cases = (("hd0", ("--disk", sector), range(0x80, 0x81)), ("hd1", ("--disk", sector, "--cd", cd), range(0x81, 0x82)),
             ("cd", ("--cd", cd), range(0xe0, 0xf0)))
    for name, arguments, drive in cases:
        check_boots(tap, name, Run(*COMMON, "--nestor", inspect + name, *arguments), drive)
    for name, arguments in (("no disk", ()), ("no boot sector", ("--disk", empty))):
        check_refused(tap, name, Run(*COMMON, *arguments), "L1 is what the BIOS boots from hd0")


def linux_disk(work):
    """A disk with BIOS GRUB, Debian's kernel and the initramfs with KVM, that knows nothing of Nestor."""
    plan = image.BootPlan()
    arguments = linux.l1_args("bochs", IPS, "1", None, 1)
    plan.load("linux", "vmlinuz", linux.KERNEL, arguments)
    plan.files["initrd"] = linux.INITRD
    plan.commands.append("initrd /initrd")
    return image.make_iso(plan, work)


def check_linux(tap, work):
    run = Run("--memory", "1024", "--timeout", "850", "--ips", str(IPS), "--l1", "none", "--disk",
              linux_disk(work)).wait()
    tap.equal(run.status, 0, "linux: L1 powers off with status 0", run.out[-3000:], run.err[-2000:])
    tap.ok("no module: L1 is what the BIOS boots from hd0" in run.err, "linux: it came from the disk")
    tap.ok("L2: hello from init" in run.out, "linux: its L2 speaks", run.out[-3000:])


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix="disk.") as work:
        if sys.argv[1:] == ["linux"]:
            check_linux(tap, work)
        else:
            small_programs(tap, work)
    return tap.done()


sys.exit(main())
