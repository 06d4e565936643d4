#!/usr/bin/env python3
"""Debian's kernel for real machines, with all its drivers, as L1: it boots to init, loads KVM and runs a guest.

Usage: tests/full/debian.t [bare]      (bare: without Nestor, for comparison)
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import DEBIAN, DEBIAN_INITRD, linux_args, main  # noqa: E402  (the path must be set first)

ROWS = ((r"Linux version \d\S+-amd64 \(debian-kernel", "the banner of Debian's kernel"),
        (r"^L1: hello from init on Linux \d[\d.]*-\d+-amd64$", "a line of init, and not on the cloud kernel"),
        (r"^L1: suspend: " + ("s2idle \[deep\]" if "bare" in sys.argv[1:] else "\[s2idle\]") + "$", "L1's suspend"),
        (r"^L1: kvm_intel loaded: ept=Y", "KVM is loaded, with EPT"),
        (r"^L2: hello from a guest of kvm-mini$", "L2's line"),
        (r"^L1: power-off", "L1's power-off"))


sys.exit(main(600, ROWS, "--l1", DEBIAN, "--module", DEBIAN_INITRD, "--l1-args", linux_args("LEVEL=L1", "GUEST=L2")))
