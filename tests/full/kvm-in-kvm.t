#!/usr/bin/env python3
"""KVM in KVM, four levels: Nestor (L0) runs Linux/KVM (L1), which runs Linux (L2) under QEMU, whose KVM runs an L3.

L3 is a few instructions under /dev/kvm (kvm-mini.c): the smallest guest for which every level must do its work.
Usage: tests/full/kvm-in-kvm.t [bare]      (bare: without Nestor, for comparison)
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import FULL, linux, linux_args, main  # noqa: E402  (the path must be set first)

ROWS = ((r"^L1: kvm_intel loaded: ept=Y", "L1 has KVM on EPT"),
        (r"^L2\| .*L2: hello from init", "a line of L2's init"),
        (r"^L2\| .*L2: this CPU says that it is virtual", "L2's CPU is a virtual one"),
        (r"^L2\| .*L2: kvm_intel loaded: ept=Y", "L2 has KVM on EPT too"),
        (r"^L2\| .*L3: hello from a guest of kvm-mini", "L3's line"),
        (r"^L2\| .*L2: power-off", "L2's KVM ended its guest"),
        (r"^L1: L2 is done", "L1's QEMU ended with status 0"))


sys.exit(main(1200, ROWS, "--l1", linux.KERNEL, "--module", os.path.join(FULL, "initrd-kvm-in-kvm.cpio"),
              "--l1-args", linux_args("kvm_intel.nested=1")))
