#!/usr/bin/env python3
"""Xen as L1 with Debian's kernel as dom0: Xen takes VMX and EPT into use, dom0 reaches init and powers off.

Usage: tests/full/xen.t [bare]      (bare: without Nestor, for comparison)
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import DEBIAN, DEBIAN_INITRD, FULL, linux, main  # noqa: E402  (the path must be set first)

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


sys.exit(main(900, ROWS, "--l1", os.path.join(FULL, "xen-4.17", "xen"), "--l1-args", XEN_ARGS,
              "--module", f"{DEBIAN}={DOM0_ARGS}", "--module", DEBIAN_INITRD))
