#!/usr/bin/env python3
"""Linux of Debian 13 and of testing as L1, each with its own QEMU: in each, KVM as it comes, on shadow paging, without
APICv, without VPID, with nested=1, and with two processors, also where INIT and start-up IPIs are VM exits.

Usage: tests/full/linux-releases.t [bare] [docs] [SUITE[:VARIANT]]...
bare: without Nestor, for comparison; docs: write what comes of it into the table of docs/TESTING.md
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import FULL, IPS, Cell, Run, Tap, check_order, linux  # noqa: E402  (the path must be set first)

RELEASES = {"trixie": ("Linux 6.12 of Debian 13", r"6\.12\."), "forky": ("Linux 7.2 of testing", r"7\.")}
# name -> (kvm_intel.ept, processors, further words)
VARIANTS = {
    "as it comes": (1, 1, ()),
    "ept=0": (0, 1, ()),
    "enable_apicv=0": (1, 1, ("kvm_intel.enable_apicv=0",)),
    "vpid=0": (1, 1, ("kvm_intel.vpid=0",)),
    "nested=1": (1, 1, ("kvm_intel.nested=1",)),
    "two processors": (1, 2, ()),
    "two processors, startup=exit": (1, 2, ()),
}
NESTOR = {"two processors, startup=exit": "startup=exit"}
TIMEOUT = 1200


def rows(release, version, variant):
    ept, cpus, _ = VARIANTS[variant]
    title = f"{release}, {variant}: "
    found = [(rf"^L1: init runs on Linux {version}", title + "L1's init runs on that kernel"),
             (rf"^L1: kvm_intel loaded: ept={'Y' if ept else 'N'}", title + "KVM is loaded")]
    if cpus > 1:
        found.append((r"^L1: processor 1 is back: 0-1", title + "the second processor goes and comes back"))
    return found + [(rf"^L2\| .*Linux version {version}", title + "L2's kernel banner"),
                    (r"^L2\| .*L2: hello from init", title + "a line of L2's init"),
                    (r"^L1: L2 is done", title + "QEMU ended with status 0")]


def check(tap, release, variant, bare):
    ept, cpus, words = VARIANTS[variant]
    folder = os.path.join(FULL, release)
    args = " ".join((linux.l1_args("bochs", IPS, ept, cpus=cpus), *words))
    run = Run("--memory", "1024", "--ips", str(IPS), "--cpus", str(cpus), "--timeout", str(TIMEOUT * cpus), "--verbose",
              *bare, "--nestor", NESTOR.get(variant, ""),
              "--l1", os.path.join(folder, "vmlinuz"), "--module", os.path.join(folder, "initramfs-l1.cpio"),
              "--l1-args", args).wait()
    check_order(tap, run.out, rows(release, RELEASES[release][1], variant))
    tap.equal(run.status, 0, f"{release}, {variant}: the run ends with status 0", run.err[-3000:])


def main():
    words = sys.argv[1:]
    bare = ["--bare"] if "bare" in words else []
    chosen = [word.partition(":")[::2] for word in words if word not in ("bare", "docs")]
    tap = Tap()
    for release, only in chosen or [(name, "") for name in RELEASES]:
        for variant in [only] if only else VARIANTS:
            if variant in NESTOR and os.environ["NESTOR_EMULATOR"] == "2.7":
                tap.ok(True, f"{release}, {variant} # SKIP Bochs 2.7 makes no VM exits of INIT and start-up IPIs")
                continue
            with Cell(tap, "docs" in words, RELEASES[release][0], variant):
                check(tap, release, variant, bare)
    return tap.done()


sys.exit(main())
