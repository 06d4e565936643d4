#!/usr/bin/env python3
"""`make install` into a folder: the entry that update-grub makes of it boots L1 by BIOS and by UEFI, and uninstall
leaves nothing.

Usage: tests/vm/install.t [files|bios|uefi|deb|usb] ...
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
from nestorlib import linux  # noqa: E402

VERSION = "6.1.0-99-test"
OLDER = "6.1.0-9-test"
MANUALS = ["usr/share/man/man1/nestorctl.1.gz", "usr/share/man/man8/nestor-boot-once.8.gz"]
# The words of the runner for Nestor's command line, and what ends L1 early.
NESTOR_OPTIONS = "inspect=0xea4 console=com2 on-exit=bochs debug-exit=0xf4 apic-disable=0 x2apic=0"


def run(*command, **more):
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          **more)


def files_in(folder):
    return sorted(os.path.relpath(os.path.join(where, name), folder)
                  for where, _, names in os.walk(folder) for name in names)


def install(folder):
    """A system's folder with Nestor and two kernels in it."""
    done = run("make", "-s", "install-files", f"DESTDIR={folder}")
    for version in (OLDER, VERSION):
        os.symlink(linux.KERNEL, os.path.join(folder, "boot", "vmlinuz-" + version))
        os.symlink(linux.INITRD, os.path.join(folder, "boot", "initrd.img-" + version))
    return done


def entries(folder, options):
    """The output of the script when update-grub runs it."""
    with open(os.path.join(folder, "etc/default/nestor"), "a", encoding="utf-8") as file:
        file.write(f'NESTOR_OPTIONS="{options}"\n')
    environment = {"PATH": os.environ["PATH"], "NESTOR_BOOT": os.path.join(folder, "boot"),
                   "NESTOR_DEFAULTS": os.path.join(folder, "etc/default/nestor"), "GRUB_DISTRIBUTOR": "Debian",
                   "GRUB_DEVICE_UUID": "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
                   "GRUB_CMDLINE_LINUX": linux.l1_args("bochs", 50000000, stop="init")}
    made = subprocess.run(["sh", os.path.join(folder, "etc/grub.d/20_nestor")], env=environment, check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return made.replace(os.path.join(folder, "boot"), "/boot")


def check_files(tap, folder):
    tap.equal(files_in(folder), ["boot/nestor.elf", "etc/default/nestor", "etc/grub.d/20_nestor",
                                 "usr/sbin/nestor-boot-once", "usr/sbin/nestorctl", *MANUALS],
              "install puts these files")
    for manual in MANUALS:
        text = run("gzip", "-dc", os.path.join(folder, manual)).stdout
        tap.ok(text.startswith(".TH ") and ".SH SYNOPSIS" in text, f"{manual} is a manual page", text[:500])
    check_entries(tap, folder)
    for version in (OLDER, VERSION):
        os.unlink(os.path.join(folder, "boot", "vmlinuz-" + version))
        os.unlink(os.path.join(folder, "boot", "initrd.img-" + version))
    run("make", "-s", "uninstall", f"DESTDIR={folder}")
    tap.equal(files_in(folder), [], "uninstall leaves none")


def check_entries(tap, folder):
    for version in (OLDER, VERSION):
        for name, source in (("vmlinuz-", linux.KERNEL), ("initrd.img-", linux.INITRD)):
            os.symlink(source, os.path.join(folder, "boot", name + version))
    text = entries(folder, "inspect=0xea4")
    path = os.path.join(folder, "entries.cfg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    checked = run("grub-script-check", path)
    tap.equal(checked.returncode, 0, "GRUB's checker takes the entries", checked.stdout, text)
    titles = re.findall(r"^\s*menuentry '([^']*)'", text, re.M)
    tap.equal(titles, ["Debian under Nestor", f"Debian under Nestor, with Linux {VERSION}",
                       f"Debian under Nestor, with Linux {OLDER}"],
              "one entry for the newest kernel, then one for each")
    for line in (r"insmod all_video", r"multiboot2 /boot/nestor.elf inspect=0xea4",
                 r"module2 --nounzip /boot/initrd\.img-",
                 r"module2 /boot/vmlinuz-\S+ root=UUID=0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0 ro "):
        tap.ok(re.search(r"^\s*" + line, text, re.M), f"an entry has: {line}", text)
    check_boot_once(tap, folder, path)
    os.unlink(path)


def check_boot_once(tap, folder, config):
    environment = dict(os.environ, NESTOR_GRUB_CFG=config, NESTOR_GRUB_REBOOT="echo")
    once = os.path.join(folder, "usr/sbin/nestor-boot-once")
    done = run(once, env=environment)
    tap.ok(done.returncode == 0 and done.stdout.startswith("nestor\n"), "nestor-boot-once names the entry to GRUB",
           done.stdout)
    done = run(once, env=dict(environment, NESTOR_GRUB_CFG="/dev/null"))
    tap.ok(done.returncode == 1 and "update-grub" in done.stdout, "without an entry it says what to do", done.stdout)


def check_boot(tap, folder, firmware):
    """The first entry of the menu, with the files where it wants them."""
    config = os.path.join(folder, "grub.cfg")
    with open(config, "w", encoding="utf-8") as file:
        file.write("set timeout=0\n" + entries(folder, NESTOR_OPTIONS))
    arguments = ["--emulator", "3.1"] if firmware == "uefi" else []
    boot = os.path.join(folder, "boot")
    done = Run(*arguments, "--firmware", firmware, "--grub-config", config, "--l1", "none", "--timeout", "600",
               *(word for name in os.listdir(boot) if OLDER not in name
                 for word in ("--file", f"boot/{name}={os.path.join(boot, name)}"))).wait()
    tap.ok("L1: init runs" in done.out, f"{firmware}: L1's init runs", done.out[-1500:], done.err[-1500:])
    tap.equal(done.status, 0, f"{firmware}: and ends with status 0", done.err[-1500:])


def check_deb(tap, _folder):
    done = run("tools/mkdeb")
    tap.equal(done.returncode, 0, "make deb makes a package", done.stdout)
    package = done.stdout.rsplit("in '", 1)[-1].split("'")[0]
    listed = run("dpkg-deb", "--contents", package).stdout
    for name in ("boot/nestor.elf", "usr/sbin/nestorctl", "etc/grub.d/20_nestor", "etc/default/nestor",
                 "usr/share/doc/nestor/HARDWARE.md", *MANUALS):
        tap.ok(f" ./{name}\n" in listed, f"the package has {name}", listed)


def check_usb(tap, folder):
    """One image, both ways, to the line before L1's shell; the entry for the serial port, at once."""
    made = run("make", "-s", "nestor", "shell-assets")
    iso = os.path.join(folder, "usb.iso")
    os.makedirs(folder, exist_ok=True)
    made = run("tools/mkusb", iso, env=dict(os.environ, DEFAULT="1", NESTOR_OPTIONS=NESTOR_OPTIONS,
                                            ARGS=linux.shell_args("bochs", 50000000)))
    tap.equal(made.returncode, 0, "make usb makes an image", made.stdout)
    for firmware in ("bios", "uefi"):
        arguments = ["--emulator", "3.1"] if firmware == "uefi" else []
        done = Run(*arguments, "--firmware", firmware, "--iso", iso, "--l1", "none", "--timeout", "600", "--ips",
                   "50000000",
                   "--until", "exit            power L1 off").wait()
        tap.ok("This is L1: Linux" in done.out and "under Nestor: CPUID leaf" in done.out,
               f"usb: by {firmware} to L1's shell, under Nestor", done.out[-1500:], done.err[-1500:])
        tap.equal(done.status, 0, f"usb: {firmware}: status 0", done.err[-1500:])


KINDS = {"files": check_files, "bios": lambda tap, folder: check_boot(tap, folder, "bios"),
         "uefi": lambda tap, folder: check_boot(tap, folder, "uefi"), "deb": check_deb, "usb": check_usb}


def main():
    tap = Tap()
    for kind in sys.argv[1:] or KINDS:
        with tempfile.TemporaryDirectory(prefix="nestor-install.") as folder:
            system = os.path.join(folder, "system")
            if kind in ("bios", "uefi"):
                install(system)
            elif kind == "files":
                run("make", "-s", "install-files", f"DESTDIR={system}")
            KINDS[kind](tap, system)
            shutil.rmtree(system, ignore_errors=True)
    return tap.done()


sys.exit(main())
