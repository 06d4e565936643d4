#!/usr/bin/env python3
"""Linux as L1 with APICv and posted interrupts, on a CPU model that has them: an L2 of two processors that send IPIs to
each other. L1's KVM counts the exits of L2 by their reason, by interrupt and by MSR: an IPI exits where it is sent, as
no CPU here has IPI virtualization, and neither where it comes nor at its end. Nestor's own count of L2's exits must be
the same, so that it adds none.

Usage: tests/full/apicv.t [docs] [SUITE]...     (default: forky and trixie)
docs: write what is seen into the table of docs/TESTING.md
"""
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_full import FULL, IPS, ROOT, Run, Table, Tap, linux  # noqa: E402  (the path must be set first)
from nestorlib import initramfs  # noqa: E402

RELEASES = {"forky": "Linux 7.2 of testing", "trixie": "Linux 6.12 of Debian 13"}
KINDS = {"bare": ("--bare",), "Nestor": ()}
TABLE = Table("tests/full/apicv.t", ("L1 and L2", "figure"), list(KINDS))
APPLETS = ("sh", "cat", "mkdir", "mkfifo", "mount", "nproc", "poweroff", "sed", "taskset", "uname")
IPIS = 300          # lines to and fro are twice as many
ICR, EOI, SELF_IPI = 0x830, 0x80b, 0x83f
POSTED_VECTORS = (0xf0, 0xf1, 0xf2)     # of Linux: for nested guests, to wake a guest, for its interrupts
OTHERS = 0.1        # so many more: INIT and SIPI, those of the end, those that find one of their vector requested
# Reasons whose exits Nestor leaves to L1: external interrupt, HLT, RDMSR, WRMSR, APIC access, virtualized EOI,
# preemption timer, APIC write.
LEFT_TO_L1 = (1, 12, 31, 32, 44, 45, 52, 56)
NUMBER = re.compile(r"^L1: (exit|exit 1 with|RDMSR of|WRMSR of) ([0-9a-f]+): (\d+)$", re.M)
OF_NESTOR = re.compile(r"\| +(\d+) \S.*? +\d+ +(\d+) \|")


def build_initrd(folder, output):
    """L1's archive of that release with an L2 that sends IPIs."""
    guest, overlay = initramfs.Archive(), initramfs.Archive()
    guest.add_console()
    guest.add_file("init", initramfs.read(os.path.join(ROOT, "tests", "full", "ipi-init.sh")), 0o755)
    guest.add_file("lib.sh", initramfs.read(os.path.join(initramfs.SOURCES, "lib.sh")))
    initramfs.add_busybox(guest, APPLETS)
    overlay.add_file("l2.cpio", guest.finish())
    overlay.add_file("init", initramfs.read(os.path.join(initramfs.SOURCES, "l1-init.sh")), 0o755)
    initramfs.write_over(os.path.join(folder, "initramfs-l1.cpio"), overlay, output)


def run(folder, initrd, how):
    words = f"{linux.l1_args('bochs', IPS, cpus=2)} L1_EXITS=1"
    return Run("--emulator", "3.1", "--cpu", "arrow_lake", "--cpus", "2", "--memory", "1024", "--ips", str(IPS),
               "--timeout", "1200", "--l1", os.path.join(folder, "vmlinuz"), "--module", initrd, "--l1-args", words,
               *how).wait()


def read_counts(text):
    """Kind of line -> key -> count. Reasons are decimal, the rest is not."""
    counts = {}
    for kind, key, count in NUMBER.findall(text):
        counts.setdefault(kind, {})[int(key, 10 if kind == "exit" else 16)] = int(count)
    return counts


def figures(text):
    """The rows of the table."""
    counts = read_counts(text)
    taken = {row: int(first) + int(second)
             for row, first, second in re.findall(r"L2: IPIs (\w+): (\d+) and (\d+)", text)}
    exits, written = counts.get("exit", {}), counts.get("WRMSR of", {})
    posted = sum(count for info, count in counts.get("exit 1 with", {}).items() if info & 0xff in POSTED_VECTORS)
    return {"IPIs that L2 took of its other processor": taken.get("RES", 0) + taken.get("CAL", 0),
            "exits for WRMSR to the ICR": written.get(ICR, 0),
            "IPIs that a processor of L2 sent to itself": taken.get("IWI", 0),
            "exits for WRMSR to SELF_IPI": written.get(SELF_IPI, 0),
            "exits for WRMSR to the EOI register": written.get(EOI, 0),
            "exits 45, virtualized EOI, of the I/O APIC's": exits.get(45, 0),
            "exits 1 for a notification": posted}


def check_figures(tap, title, rows, text):
    ipis, icr, _, self_ipi, eoi, virtual_eoi, posted = rows.values()
    tap.ok("enable_apicv=Y" in text, f"{title}: KVM uses APICv")
    tap.ok(re.search(r"L2: hello from init .* processors: 2", text), f"{title}: L2 ends its work on two processors",
           text[-3000:])
    tap.ok(ipis >= IPIS, f"{title}: {ipis} IPIs came")
    tap.ok(ipis <= icr <= ipis * (1 + OTHERS), f"{title}: {icr} exits for them where they are sent")
    tap.equal((self_ipi, eoi, posted), (0, 0, 0),
              f"{title}: none for IPIs to itself, for their ends, for notifications")
    tap.ok(virtual_eoi < 20, f"{title}: {virtual_eoi} for ends that the I/O APIC wants")


def check_same(tap, title, log, text):
    """Nestor counted as many as KVM."""
    seen, exits = dict(OF_NESTOR.findall(log)), read_counts(text).get("exit", {})
    tap.equal({reason: int(seen.get(str(reason), 0)) for reason in LEFT_TO_L1},
              {reason: exits.get(reason, 0) for reason in LEFT_TO_L1}, f"{title}: Nestor adds none", log[-3000:])


def check(tap, release, docs):
    folder = os.path.join(FULL, release)
    with tempfile.TemporaryDirectory(prefix="apicv-test.") as work:
        initrd = os.path.join(work, "initramfs.cpio")
        build_initrd(folder, initrd)
        for kind, how in KINDS.items():
            title, done = f"{RELEASES[release]}, {kind}", run(folder, initrd, how)
            text = re.sub(r"^L2\| ", "", done.out, flags=re.M)
            tap.equal(done.status, 0, f"{title}: the run ends with status 0", done.err[-3000:])
            rows = figures(text)
            check_figures(tap, title, rows, text)
            if kind == "Nestor":
                check_same(tap, title, done.err, text)
            for name, count in rows.items():
                tap.comment(f"{title}: {name}: {count}")
                if docs:
                    TABLE.write((RELEASES[release], name), kind, str(count))


def main():
    tap = Tap()
    words = sys.argv[1:]
    for release in [word for word in words if word != "docs"] or RELEASES:
        check(tap, release, "docs" in words)
    return tap.done()


sys.exit(main())
