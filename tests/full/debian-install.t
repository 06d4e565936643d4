#!/usr/bin/env python3
"""The package in a Debian that debootstrap made on a disk image: update-grub's entry boots from that disk by BIOS and
by UEFI, and purging the package leaves nothing. Needs root, loop devices and debootstrap; 300 MB in build/full."""
import os
import re
import sys
import tempfile
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_debootstrap import GRUB_PROBE, Tree, make_base, missing, run  # noqa: E402  (the path must be set first)
from lib_full import ROOT, Run, Tap, linux  # noqa: E402

PACKAGES = "grub-common,grub2-common"
VERSION = "6.1.0-99-test"
IPS = 50000000
DISK_SIZE = "900M"
# The words of the runner for Nestor's command line.
NESTOR_OPTIONS = "inspect=0xea4 console=com2 on-exit=bochs debug-exit=0xf4 apic-disable=0 virtual-vectoring=svi"
CHANGING = re.compile(r"^(var/(lib/dpkg|log|cache)|boot/grub|proc|sys|dev|tmp|lost\+found)(/|$)")


class Disk(Tree):
    """A file system on an image, mounted while it is in use."""

    def __init__(self, work):
        super().__init__(os.path.join(work, "root"))
        self.image = os.path.join(work, "disk.img")
        os.mkdir(self.root)
        run("truncate", "-s", DISK_SIZE, self.image)
        self.uuid = str(uuid.uuid4())
        run("mkfs.ext4", "-q", "-U", self.uuid, self.image)

    def fill(self, base):
        """Its /dev is its own: nothing of this system is mounted inside, where packages write."""
        run("mount", "-o", "loop", self.image, self.root)
        try:
            run("tar", "-C", self.root, "-xf", base)
        finally:
            run("umount", self.root)

    def __enter__(self):
        run("mount", "-o", "loop", self.image, self.root)
        return self

    def __exit__(self, *_):
        run("umount", self.root)

    def files(self):
        found = set()
        for where, folders, names in os.walk(self.root):
            below = os.path.relpath(where, self.root)
            folders[:] = [name for name in folders
                          if not CHANGING.match(os.path.normpath(os.path.join(below, name)))]
            found.update(os.path.normpath(os.path.join(below, name)) for name in names)
        return found


def set_up(disk):
    """Debian with a kernel, as it was before Nestor came."""
    disk.append("usr/sbin/grub-probe.new", GRUB_PROBE.format(uuid=disk.uuid, device="/dev/sda", drive="hd0"))
    os.chmod(disk.path("usr/sbin/grub-probe.new"), 0o755)
    os.rename(disk.path("usr/sbin/grub-probe.new"), disk.path("usr/sbin/grub-probe"))
    run("cp", linux.KERNEL, disk.path(f"boot/vmlinuz-{VERSION}"))
    run("cp", linux.INITRD, disk.path(f"boot/initrd.img-{VERSION}"))
    os.makedirs(disk.path("boot/grub"), exist_ok=True)
    os.makedirs(disk.path("etc/default"), exist_ok=True)
    disk.append("etc/default/grub",
                "GRUB_TIMEOUT=0\nGRUB_TERMINAL=console\nGRUB_DISTRIBUTOR=Debian\nGRUB_DISABLE_OS_PROBER=true\n"
                f'GRUB_CMDLINE_LINUX="{linux.l1_args("bochs", IPS, stop="init")}"\n')


def install(tap, disk):
    package = re.search(r"in '([^']+)'", run(os.path.join(ROOT, "tools", "mkdeb"))).group(1)
    run("cp", os.path.join(ROOT, package), disk.path("tmp/nestor.deb"))
    status, text = disk.inside("dpkg", "-i", "/tmp/nestor.deb")
    tap.ok(status == 0 and "Found Nestor: /boot/nestor.elf" in text, "the package installs, update-grub finds it", text)
    disk.append("etc/default/nestor", f'NESTOR_OPTIONS="{NESTOR_OPTIONS}"\n')
    status, text = disk.inside("update-grub")
    tap.equal(status, 0, "update-grub again, with options", text)
    config = disk.read("boot/grub/grub.cfg")
    tap.ok(re.search(r"^menuentry 'Debian under Nestor'", config, re.M), "grub.cfg has the entry", config[-3000:])
    tap.ok('set default="0"' in config and config.index("menuentry 'Debian GNU/Linux'") < config.index("under Nestor'"),
           "the usual entry is still the default", config[-3000:])
    status, text = disk.inside("nestor-boot-once")
    tap.ok(status == 0 and "next_entry=nestor" in disk.read("boot/grub/grubenv"), "nestor-boot-once chooses it once",
           text)
    return config.replace('set default="0"', 'set default="nestor"')


def boot(tap, disk, config, work, firmware):
    path = os.path.join(work, "grub.cfg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(config)
    done = Run("--emulator", "3.1", "--firmware", firmware, "--grub-config", path, "--disk", disk.image, "--l1", "none",
               "--ips", str(IPS), "--timeout", "800").wait()
    tap.ok("L1: init runs" in done.out, f"{firmware}: L1's init runs, from the disk", done.out[-1500:],
           done.err[-1500:])
    tap.ok("nestor: Nestor " in done.err, f"{firmware}: on Nestor", done.err[-1500:])
    tap.equal(done.status, 0, f"{firmware}: and ends with status 0", done.err[-1500:])


def purge(tap, disk, before):
    status, text = disk.inside("dpkg", "--purge", "nestor")
    tap.equal(status, 0, "the package goes", text)
    left = disk.files() - before - {"tmp/nestor.deb"}
    tap.equal(sorted(left), [], "no file of it is left")
    tap.ok("estor" not in disk.read("boot/grub/grub.cfg"), "nor an entry", disk.read("boot/grub/grub.cfg")[-2000:])


def main():
    lacks = missing()
    if lacks:
        print(f"1..0 # SKIP {lacks}")
        return 0
    tap = Tap()
    base = make_base("debootstrap.tar", PACKAGES)
    with tempfile.TemporaryDirectory(prefix="debian-install.") as work:
        disk = Disk(work)
        disk.fill(base)
        with disk:
            set_up(disk)
            before = disk.files()
            config = install(tap, disk)
        for firmware in sys.argv[1:] or ("bios", "uefi"):
            boot(tap, disk, config, work, firmware)
        with disk:
            purge(tap, disk, before)
    return tap.done()


sys.exit(main())
