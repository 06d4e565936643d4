"""Linux as a whole: its boot as L1, and as L2 of KVM with a fixed piece of work, where L0 is none, Nestor or KVM."""
import os
import re
import tempfile

from nestorlib import bench, initramfs, linux
from nestorlib.paths import BUILD

L1_INITRD = os.path.join(BUILD, "bench", "initramfs-macro.cpio")
L0_INITRD = os.path.join(BUILD, "bench", "initramfs-macro-kvm.cpio")
L2_APPLETS = ("sh", "cat", "cut", "dd", "gzip", "insmod", "mkdir", "mkfifo", "mount", "nproc", "poweroff", "taskset",
              "tr", "uname")
SAMPLE_SIZE = 512 * 1024
# A clock interrupt comes each 800,000 ticks then. At run-stack's 20 M it would be each 80,000, and with KVM in KVM an
# interrupt takes longer than that.
IPS = 200000000

START = re.compile(r"L1: clock (\d+) (\d+)")
WORK = re.compile(r"^(?:L2\| )+macro: ([\w-]+) (\d+)", re.M)
# L1's words on the kernel command line for each, and the work that L2 does then (l2-bench-init.sh).
KINDS = {"": ("L2_DISK=1", ("boot", "fork-exec", "gzip", "pipe", "disk")),
         ", ept=0": ("L2_DISK=1,kvm_intel.ept=0", ("boot", "fork-exec", "gzip", "pipe", "disk")),
         ", two processors": ("L2_CPUS=2", ("boot", "ipi"))}


def quiet(args):
    return args.replace("loglevel=6", "quiet")


def build_l2(ticks, workdir):
    archive = initramfs.Archive()
    archive.add_console()
    archive.add_file("init", initramfs.read(os.path.join(initramfs.SOURCES, "l2-bench-init.sh")), 0o755)
    archive.add_file("lib.sh", initramfs.read(os.path.join(initramfs.SOURCES, "lib.sh")))
    archive.add_file("bin/ticks", ticks, 0o755)
    initramfs.add_busybox(archive, L2_APPLETS)
    initramfs.add_modules(archive, os.path.dirname(linux.KERNEL), "virtio_mmio virtio_blk", workdir)
    archive.add_file("sample", initramfs.read("/bin/busybox")[:SAMPLE_SIZE])
    return archive.finish()


def build_over(initrd, guest, guest_args, ticks):
    """L1's usual archive with another guest of its KVM."""
    overlay = initramfs.Archive()
    overlay.add_file("bin/ticks", ticks, 0o755)
    overlay.add_file("l2.cpio", guest)
    overlay.add_file("l2.args", guest_args.encode())
    initramfs.write_over(linux.INITRD, overlay, initrd)


def build():
    """L1 with L2 in it, and the same as guest of another Linux with KVM."""
    with tempfile.TemporaryDirectory(prefix="macro.") as workdir:
        ticks = initramfs.compile_program(os.path.join(initramfs.SOURCES, "ticks.c"), workdir)
        guest = build_l2(ticks, workdir)
    args = quiet(linux.l2_args())
    build_over(L1_INITRD, guest, args, ticks)
    build_over(L0_INITRD, initramfs.read(L1_INITRD), args + " kvm_intel.ept=1", ticks)


def run(kind, initrd, timeout, *how, more=""):
    """Returns the row's key -> ticks. Those of L1's boot are of its kernel alone, by the kernel's clock."""
    text = bench.run(["--memory", "1536", "--timeout", str(timeout), "--ips", str(IPS), "--l1", linux.KERNEL,
                      "--module", initrd, "--l1-args", f"{quiet(linux.l1_args('bochs', IPS))} {more}", *how])
    works = {f"L2 {key}{kind}": int(ticks) for key, ticks in WORK.findall(text)}
    starts = START.findall(text)
    if [*works] != [f"L2 {key}{kind}" for key in KINDS[kind][1]] or not starts:
        raise bench.Failed(f"Linux did not do all its work\n{text[-3000:]}")
    return works if kind else {"L1 boot": int(starts[0][1]) * IPS // 10**9} | works


def measure_bare(kind):
    return run(kind, L1_INITRD, 600, "--bare", more=KINDS[kind][0].replace(",", " "))


def measure_nestor(kind):
    """Linux is quiet, and so is Nestor: a line of its log takes 3 M ticks on the serial port."""
    return run(kind, L1_INITRD, 600, "--nestor", "log=warn", more=KINDS[kind][0].replace(",", " "))


def measure_kvm(kind):
    """L1 has less of a machine to find under QEMU than the others: its boot is not to be compared."""
    rows = run(kind, L0_INITRD, 1500, "--bare", more=f"L2_MEMORY=512 L2_ARGS={KINDS[kind][0]}")
    return {key: ticks for key, ticks in rows.items() if key != "L1 boot"}


# By reason, of L1. With the slower clock more clock interrupts come in a boot.
CLOCKS = (IPS, 20000000)
EXITS = re.compile(r"\| +\d+ ([^|]*?) +(\d+) +\d+ \|")
TOTALS = re.compile(r"\| exits of (L[12]) +(\d+) \|")


def count_exits(clock):
    """Reason -> exits of L1 while it boots and boots an L2 as `make run` does, and their sum; and that of L2's."""
    text = bench.run(["--timeout", "600", "--ips", str(clock), "--l1", linux.KERNEL, "--module", linux.INITRD,
                      "--l1-args", quiet(linux.l1_args("bochs", clock)), "--nestor", "log=warn"])
    exits = {reason: int(count) for reason, count in EXITS.findall(text) if int(count)}
    totals = {f"all exits of {level}": int(count) for level, count in TOTALS.findall(text)}
    if sum(exits.values()) != totals.get("all exits of L1"):
        raise bench.Failed(f"the summary's exits of L1 are not what it says they are together\n{text[-3000:]}")
    return exits | totals


# Column -> what measures it, kind by kind. L1 is Linux with KVM in each, and without L0 in the first.
COLUMNS = {"L0 none": measure_bare, "L0 Nestor": measure_nestor, "L0 KVM": measure_kvm}
