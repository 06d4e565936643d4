#!/usr/bin/env python3
"""Xen as L1 with Debian's kernel as dom0: Xen takes VMX and EPT into use, dom0 reaches init and powers off.

Usage: tests/full/xen.t [bare] [bios|uefi|efi]...
bare: without Nestor, for comparison (uefi has none). uefi: on OVMF in Bochs 3.1, where GRUB loads Nestor and Xen finds
a stand-in for a BIOS. efi: there, too, but nestor.efi is first, and GRUB then starts Xen, which has the firmware's boot
services. Without a word for it: all three.
"""
import os
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

# The path must be set first.
from lib_full import DEBIAN, DEBIAN_INITRD, FULL, ROOT, Tap, check_run, linux  # noqa: E402
from nestorlib import emulators  # noqa: E402

XEN = os.path.join(FULL, "xen-4.17", "xen")
TIMEOUT = 2000
XEN_ARGS = "com1=115200,8n1 console=com1 dom0_mem=512M"
# The first word is the image's name: Xen does not hand it on. Dom0's TSC rate is Xen's to say.
DOM0_ARGS = f"vmlinuz {linux.COMMON_ARGS} console=hvc0 clearcpuid=xsaves,xsavec LEVEL=dom0 KVM=0"

ROWS = ((r"Xen version 4\.17", "Xen's banner"),
        (r"^\(XEN\) VMX: Supported advanced features:", "Xen lists the VMX features that it found"),
        (r"^\(XEN\)  - MSR direct-access bitmap", "... MSR bitmaps among them"),
        (r"^\(XEN\) HVM: VMX enabled", "Xen is in VMX operation"),
        (r"^\(XEN\) HVM: Hardware Assisted Paging \(HAP\) detected", "Xen found EPT"),
        (r"Linux version \d\S+-amd64 \(debian-kernel", "dom0's kernel banner"),
        (r"dom0: hello from init on Linux", "a line of dom0's init"),
        (r"dom0: power-off", "dom0's power-off"),
        (r"^\(XEN\) .*Entering ACPI S5", "Xen turns the machine off"))

# On UEFI Nestor's page is the last one below 640 KiB; by itself a dom0 looks for the root of ACPI's tables above that.
ROOT_POINTER = "9f0c0"
STAND_IN_ROWS = ((f"and ACPI's root at {ROOT_POINTER}", "Nestor says what L1 has of a BIOS"), ROWS[0],
                 ("Multiboot-e820 RAM map", "Xen takes Nestor's memory map"),
                 (f"ACPI: RSDP 000{ROOT_POINTER.upper()}", "and finds ACPI's root"), *ROWS[1:])
EFI_ROWS = (("nestor: this system goes on as L1 of Nestor", "nestor.efi starts"), ROWS[0],
            ("Bootloader: GRUB", "GRUB starts Xen"), ("EFI RAM map", "and the firmware gives the map"), *ROWS[1:])
UEFI = ("--emulator", "3.1", "--firmware", "uefi")


def grub_config(bare):
    options = f"console=com2 on-exit=bochs debug-exit=0xf4 {emulators.nestor_options(emulators.choose('3.1'))}"
    first = () if bare else (f"chainloader /nestor.efi {options}", "boot")
    return "\n".join(("set timeout=0", "insmod all_video", *first, f"multiboot2 /xen {XEN_ARGS}",
                      f"module2 /vmlinuz {DOM0_ARGS}", "module2 --nounzip /initrd", "boot", "outb 0xf4 3", ""))


def check_bios(tap, rows=ROWS, xen_words="", dom0_words="", more=()):
    check_run(tap, TIMEOUT, rows, *more, "--l1", XEN, "--l1-args", XEN_ARGS + xen_words, "--module",
              f"{DEBIAN}={DOM0_ARGS}{dom0_words}", "--module", DEBIAN_INITRD)


def check_uefi(tap):
    check_bios(tap, STAND_IN_ROWS, " no-real-mode edd=off", f" acpi_rsdp=0x{ROOT_POINTER}", UEFI)


def check_efi(tap):
    bare = "bare" in sys.argv[1:]
    with tempfile.NamedTemporaryFile("w", suffix=".cfg", encoding="utf-8") as config:
        config.write(grub_config(bare))
        config.flush()
        check_run(tap, TIMEOUT, EFI_ROWS[1:] if bare else EFI_ROWS, *UEFI, "--grub-config", config.name, "--l1", "none",
                  "--file", "nestor.efi=" + os.path.join(ROOT, "build", "nestor.efi"), "--file", "xen=" + XEN,
                  "--file", "vmlinuz=" + DEBIAN, "--file", "initrd=" + DEBIAN_INITRD)


WAYS = {"bios": check_bios, "uefi": check_uefi, "efi": check_efi}


def main():
    tap = Tap()
    for name in [word for word in sys.argv[1:] if word != "bare"] or WAYS:
        tap.comment(name + ":")
        WAYS[name](tap)
    return tap.done()


sys.exit(main())
