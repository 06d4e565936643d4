"""Linux KVM as L0: Debian's kernel with an initramfs that runs guests/bench as L1 under QEMU."""
import os

from nestorlib import initramfs, linux
from nestorlib.paths import BUILD

INITRD = os.path.join(BUILD, "bench", "initramfs-kvm.cpio")
FIRMWARE = {"bios-microvm.bin": "/usr/share/seabios/bios-microvm.bin",      # QEMU's usual one boots no multiboot image
            "multiboot_dma.bin": "/usr/share/qemu/multiboot_dma.bin"}
# A clock interrupt of L0 is 4 M ticks from the next then, and most batches of the benchmark are free of them.
IPS = 1000000000
OFF, DEFAULT = "off", "default"     # mitigations


def build_initrd(image):
    """L1's usual archive with another init."""
    overlay = initramfs.Archive()
    overlay.add_file("init", initramfs.read(os.path.join(initramfs.SOURCES, "bench-init.sh")), 0o755)
    for applet in ("grep", "pidof", "sleep", "taskset"):
        overlay.add_link("bin/" + applet, "busybox")
    overlay.add_file("bench.elf", initramfs.read(image))
    for name, source in FIRMWARE.items():
        overlay.add_file("seabios/" + name, initramfs.read(source))
    initramfs.write_over(linux.INITRD, overlay, INITRD)


def l0_args(mitigations, cpus, words):
    args = linux.l1_args("bochs", IPS).replace("loglevel=6", "quiet")
    if mitigations == DEFAULT:
        args = args.replace("mitigations=off ", "")
    return " ".join((args, f"cpus={cpus}", *words))


def run_arguments(mitigations, cpus, *words):
    """Of nestor-run; L0 and L1 have so many processors, and the words are guests/bench's."""
    return ["--bare", "--memory", "1536", "--timeout", "600", "--ips", str(IPS), "--cpus", str(cpus), "--l1",
            linux.KERNEL, "--module", INITRD, "--l1-args", l0_args(mitigations, cpus, words)]
