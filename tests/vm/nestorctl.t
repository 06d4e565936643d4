#!/usr/bin/env python3
"""nestorctl on a plain Linux whose processor has no VMX: QEMU's own emulation. shell.t runs it in L1 under Nestor."""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import linux  # noqa: E402
from nestorlib.process import die_with_parent  # noqa: E402

INITRD = os.path.join(ROOT, "build", "initramfs-shell.cpio")
TIMEOUT_S = 400
LINES = (r"blocks  VMX: 2 of 2 processors have none",
         r"ok      memory: of \d+ MiB Nestor takes \d+", r"ok      firmware: BIOS", r"ok      serial: ttyS0 at 3F8H",
         r"L1: nestorctl check: status 1", r"not under Nestor", r"L1: nestorctl id: status 1",
         r"L1: nestorctl log: status 1",
         r"L1: nestorctl report: status 0")


def run():
    command = ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-smp", "2", "-m", "512",
               "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
               "-kernel", linux.KERNEL, "-initrd", INITRD,
               "-append", "console=ttyS0 loglevel=4 NESTORCTL=check,id,log,report"]
    try:
        done = subprocess.run(command, preexec_fn=die_with_parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False)
        return done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace") + "\n(timeout)"


def main():
    tap = Tap()
    text = run().replace("\r", "")
    for line in LINES:
        tap.ok(re.search(f"^(nestorctl: )?({line})", text, re.M), line, text[-4000:])
    return tap.done()


sys.exit(main())
