#!/usr/bin/env python3
"""A Debian that debootstrap and grub-install put on a disk (GPT, EFI system partition), and that nobody changes, boots
by its own GRUB as L1, as the firmware's next choice after nestor.efi; and the same without Nestor, for comparison, as
far as what it then says of the machine.

Needs root, loop devices and debootstrap; 3 GB in build/full. Bochs 3.1. Each run's text stays in build/full, so that
the two may be run one at a time: they are compared when both are there.
Usage: tests/full/debian-efi.t [next] [bare]
"""
import os
import re
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_debootstrap import GptDisk, make_base, missing, run  # noqa: E402  (the path must be set first)
from lib_full import FULL, ROOT, Run, Tap, check_order, linux  # noqa: E402
from nestorlib import emulators, initramfs  # noqa: E402

PACKAGES = ("systemd-sysv,udev,kmod,initramfs-tools,zstd,linux-image-amd64,grub-efi-amd64,efibootmgr,"
            "qemu-system-x86")
LOOK = os.path.join(ROOT, "tests", "full", "debian-efi.sh")
DISK = os.path.join(FULL, "debian-efi.img")
SECTORS = 2 << 21
IPS = 50000000
NESTOR = os.path.join(ROOT, "build", "nestor.efi")
UNIT = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/look
[Install]
WantedBy=multi-user.target
"""
FREE = ("Boot Code", "Boot Data", "Loader Code", "Loader Data", "Conventional")
DRIVERS = "ata_piix\nsd_mod\next4\n"


def l2_initrd(work):
    archive = initramfs.Archive()
    archive.add_console()
    program = initramfs.compile_program(os.path.join(initramfs.SOURCES, "l2-init.c"), work)
    archive.add_file("init", program, 0o755)
    return archive.finish()


def set_up(disk, work):
    """The choices of a person who installed it, and what it is to do."""
    disk.append("etc/fstab", "/dev/sda2 / ext4 defaults 0 1\n/dev/sda1 /boot/efi vfat defaults 0 1\n")
    disk.append("etc/initramfs-tools/conf.d/modules", "MODULES=list\n")
    disk.append("etc/initramfs-tools/modules", DRIVERS)
    disk.append("etc/default/grub", "GRUB_TIMEOUT=0\nGRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX_DEFAULT=\n"
                "GRUB_DISABLE_OS_PROBER=true\n"
                f'GRUB_CMDLINE_LINUX="{linux.l1_args("bochs", IPS)} efi=debug"\n')
    disk.append("etc/systemd/system/look.service", UNIT)
    disk.append("srv/l2/arguments", linux.l2_args())
    with open(disk.path("srv/l2/initrd"), "wb") as file:
        file.write(l2_initrd(work))
    shutil.copy(linux.KERNEL, disk.path("srv/l2/vmlinuz"))
    shutil.copy(os.path.join(ROOT, "build", "nestorctl", "nestorctl"), disk.path("usr/local/sbin/nestorctl"))
    shutil.copy(LOOK, disk.path("usr/local/sbin/look"))
    os.chmod(disk.path("usr/local/sbin/look"), 0o755)
    disk.inside("systemctl", "enable", "look.service")


def make_disk():
    """Once: the runs work on copies."""
    base = make_base("debootstrap-efi.tar", PACKAGES)
    with tempfile.TemporaryDirectory(prefix="debian-efi.") as work:
        disk = GptDisk(work, SECTORS)
        with disk:
            run("tar", "-C", disk.root, "-xf", base)
            set_up(disk, work)
            disk.finish()
        shutil.move(disk.image, DISK)


def boot(work, words, *more):
    """From a CD with nestor.efi first; the disk is a fresh copy."""
    disk, text = os.path.join(work, "disk.img"), os.path.join(work, "nestor.txt")
    run("cp", "--sparse=always", DISK, disk)
    with open(text, "w", encoding="utf-8") as file:
        file.write(words)
    return Run("--emulator", "3.1", "--firmware", "uefi", "--efi", NESTOR, "--file", f"nestor.txt={text}", "--l1",
               "none", "--disk", disk, "--ips", str(IPS), "--timeout", "2300", "--verbose", *more).wait()


def check_run(tap, name, done, rows):
    tap.comment(f"{name}:")
    check_order(tap, done.out, rows)
    tap.equal(done.status, 0, f"{name}: the run ends with status 0", done.out[-3000:], done.err[-2000:])
    tap.comment(done.err.splitlines()[-1])


def check_next(tap, work):
    options = emulators.nestor_options(emulators.choose("3.1"))
    done = boot(work, f"console=com2 on-exit=bochs debug-exit=0xf4 inspect=0xea4 then=next {options}")
    check_run(tap, "under Nestor", done, (
        ("nestor: this system goes on as L1 of Nestor", "nestor.efi starts"),
        ("BdsDxe: failed to start .*: Not started", "the firmware goes on to its next entry"),
        ("Welcome to GRUB!", "which is the disk's GRUB"),
        (r"L1: Debian 12", "Debian runs"),
        (r"^L1: before, Timeout: 0 seconds", "efibootmgr reads a variable"),
        (r"^L1: after, Timeout: 7 seconds", "and sets it"),
        (r"^under Nestor: CPUID leaf 40000000H says NestorNestor", "nestorctl knows where it is"),
        (r"^L1: kvm_intel is loaded: ept=Y", "KVM is loaded"),
        (r"L2: hello from init", "its Linux guest speaks"),
        (r"^L1: QEMU ended with status 0", "and powers off")))
    return done


def check_bare(tap, work):
    """A wrong option: nestor.efi refuses."""
    done = boot(work, "log=loud", "--bare")
    check_run(tap, "bare", done, ((r"nestor: not started: a bad option value", "nestor.efi refuses"),
                                  (r"L1: Debian 12", "Debian runs"),
                                  (r"^L1: after, Timeout: 7 seconds", "efibootmgr sets a variable"),
                                  (r"^not under Nestor", "nestorctl knows where it is"),
                                  (r"^L1: bare, so no KVM", "and powers off")))
    return done


def memory_map(text):
    """Of the first list that Linux prints: what is not free, as rows, and the free pieces, those that adjoin as one."""
    kept, free, seen = set(), [], -1
    for number, kind, start, end in re.findall(r"^efi: mem(\d+): \[(.*?)\|.*range=\[0x(\w+)-0x(\w+)\]", text, re.M):
        if int(number) <= seen:
            break
        seen, kind, start, end = int(number), kind.strip(), int(start, 16), int(end, 16) + 1
        if kind not in FREE:
            kept.add((kind, start, end))
        elif free and free[-1][1] == start:
            free[-1][1] = end
        else:
            free.append([start, end])
    return kept, free


def check_maps(tap, under, bare):
    """They differ by the carve-out alone."""
    (kept, free), (bare_kept, bare_free) = memory_map(under.out), memory_map(bare.out)
    found = re.search(r"carve-out at (\w+), (\d+) MiB", under.err)
    start = int(found.group(1), 16)
    carveout = ("Reserved", start, start + (int(found.group(2)) << 20))
    tap.ok(len(bare_kept) > 3 and bare_free, "the bare map was read", bare_kept)
    tap.equal(kept - bare_kept, {carveout}, "under Nestor the carve-out is reserved, and nothing else more")
    tap.equal(bare_kept - kept, set(), "nor less")
    around = [piece for low, high in bare_free for piece in
              ([[low, carveout[1]], [carveout[2], high]] if low <= start < high else [[low, high]])]
    tap.equal(free, [piece for piece in around if piece[0] < piece[1]], "and free is what was free without it")


def tables(text):
    """The tables of the firmware that Linux finds, by name, as GRUB may choose where; and SMBIOS's content."""
    line = re.search(r"^efi: (ACPI.*=0x.*)", text, re.M)
    return (re.findall(r"(\w[\w. ]*)=0x\w+", line.group(1)) if line else []) + re.findall(r"^L1: dmi .*\S", text, re.M)


def check_tables(tap, under, bare):
    told = tables(bare.out)
    tap.comment("bare: " + ", ".join(told))
    tap.ok("ACPI 2.0" in told, "bare: EFI's tables were read")
    tap.equal(tables(under.out), told, "under Nestor they are the same")


KINDS = {"next": check_next, "bare": check_bare}


class Kept:
    """The text of an earlier run."""

    def __init__(self, kind):
        self.out, self.err = (open_text(kept_at(kind, name)) for name in ("out", "err"))


def kept_at(kind, name):
    return os.path.join(FULL, f"debian-efi-{kind}.{name}")


def open_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def keep(kind, done):
    for name in ("out", "err"):
        with open(kept_at(kind, name), "w", encoding="utf-8") as file:
            file.write(getattr(done, name))


def is_newer(path, than):
    return not os.path.exists(than) or os.path.getmtime(path) > os.path.getmtime(than)


def main():
    lacks = missing("sfdisk", "mformat")
    if lacks:
        print(f"1..0 # SKIP {lacks}")
        return 0
    tap = Tap()
    if is_newer(LOOK, DISK):
        make_disk()
    for kind in sys.argv[1:] or KINDS:
        with tempfile.TemporaryDirectory(prefix="debian-efi.") as work:
            keep(kind, KINDS[kind](tap, work))
    if not any(is_newer(DISK, kept_at(kind, "err")) for kind in KINDS):
        check_maps(tap, Kept("next"), Kept("bare"))
        check_tables(tap, Kept("next"), Kept("bare"))
    return tap.done()


sys.exit(main())
