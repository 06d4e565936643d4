"""Kernel and QEMU of another release of Debian, laid beside each other for an L1 as that release has it."""
import os
import shutil
import subprocess
import sys

from nestorlib import debian, emulator_fetch
from nestorlib.paths import TOOLS

QEMU_PACKAGES = ("qemu-system-x86", "qemu-system-data")
QEMU = "usr/bin/qemu-system-x86_64-microvm"
# Programs and services that QEMU's package asks for are of no use in an initramfs.
WANTED = ("lib", "zlib", "qemu-system")


def lay_out_qemu(files, target):
    """target/bin/qemu, target/share/bios-microvm.bin, and in target/lib ld.so with all libraries."""
    for folder in ("bin", "share"):
        os.makedirs(os.path.join(target, folder))
    shutil.copy(os.path.join(files, QEMU), os.path.join(target, "bin", "qemu"))
    shutil.copy(debian.place(files, "usr/share/qemu/qboot.rom"), os.path.join(target, "share", "bios-microvm.bin"))
    emulator_fetch.copy_libraries(files, [os.path.join(target, "bin", "qemu")], os.path.join(target, "lib"))


def fetch(suite, target, work):
    """vmlinuz, modules/, qemu/ and initramfs-l1.cpio of that release in the folder target, unless it is there."""
    if os.path.exists(target):
        return
    new = os.path.join(work, "new")
    apt = debian.Apt(os.path.join(work, "apt"), suite)
    apt.get("update")
    debian.fetch_kernel(apt, "linux-image-cloud-amd64", new)
    qemu = debian.Apt(os.path.join(work, "qemu-apt"), suite)
    qemu.get("update")
    files = os.path.join(work, "qemu-files")
    qemu.unpack([name for name in qemu.closure(QEMU_PACKAGES) if name.startswith(WANTED)], files)
    lay_out_qemu(files, os.path.join(new, "qemu"))
    subprocess.run([sys.executable, os.path.join(TOOLS, "mkinitramfs"), "--kernel-dir", new, "--qemu-dir",
                    os.path.join(new, "qemu"), "--output", os.path.join(new, "initramfs-l1.cpio")], check=True)
    os.rename(new, target)
