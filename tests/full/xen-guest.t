#!/usr/bin/env python3
"""Xen as L1 with a guest of its own: xl in dom0 runs Linux as a PVH guest, which is L2, and dom0 powers off.
Xen 4.17 of Debian 12 and 4.20 of Debian 13.

Usage: tests/full/xen-guest.t [bare] [docs] [4.17|4.20]...
bare: without Nestor, for comparison; docs: write what comes of it into the table of docs/TESTING.md
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import DEBIAN, FULL, IPS, Cell, Run, Tap, check_order, linux  # noqa: E402  (the path must be set first)

VERSIONS = ("4.17", "4.20")
XEN_ARGS = "com1=115200,8n1 console=com1 dom0_mem=512M"
# The first word is the image's name: Xen does not hand it on. Dom0's TSC rate is Xen's to say.
DOM0_ARGS = f"vmlinuz {linux.COMMON_ARGS} console=hvc0 clearcpuid=xsaves,xsavec"
TIMEOUT = 1200

ROWS = ((r"^\(XEN\) HVM: VMX enabled", "Xen is in VMX operation"),
        (r"^\(XEN\) HVM: Hardware Assisted Paging \(HAP\) detected", "Xen found EPT"),
        (r"dom0: hello from init on Linux", "a line of dom0's init"),
        (r"dom0: xl creates L2", "Xen's daemons run in dom0"),
        (r"^L2\| .*Linux version \d", "L2's kernel banner"),
        (r"^L2\| .*Grant table initialized", "... and it knows that it is Xen's"),
        (r"^L2\| .*L2: hello from init", "a line of L2's init"),
        (r"^dom0: L2 is done", "xl ended with status 0"),
        (r"^\(XEN\) .*Entering ACPI S5", "Xen turns the machine off"))


def check(tap, version, bare):
    folder = os.path.join(FULL, "xen-" + version)
    run = Run("--memory", "1024", "--ips", str(IPS), "--timeout", str(TIMEOUT), "--verbose", *bare,
              "--l1", os.path.join(folder, "xen"), "--l1-args", XEN_ARGS, "--module", f"{DEBIAN}={DOM0_ARGS}",
              "--module", os.path.join(folder, "initrd.cpio")).wait()
    rows = ((rf"Xen version {re.escape(version)}", "Xen's banner"), *ROWS)
    check_order(tap, run.out, [(pattern, f"Xen {version}: {title}") for pattern, title in rows])
    tap.equal(run.status, 0, f"Xen {version}: the run ends with status 0", "\n".join(run.err.splitlines()[-60:]))
    tap.comment(run.err.splitlines()[-1] if run.err else "no summary")


def main():
    words = sys.argv[1:]
    tap = Tap()
    for version in [word for word in words if word not in ("bare", "docs")] or VERSIONS:
        with Cell(tap, "docs" in words, "Xen " + version, "a PVH Linux by xl"):
            check(tap, version, ["--bare"] if "bare" in words else [])
    return tap.done()


sys.exit(main())
