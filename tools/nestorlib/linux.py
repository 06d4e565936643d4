"""How Linux is booted as L1: the images and the command line."""
import os

from nestorlib.paths import BUILD

KERNEL = os.path.join(BUILD, "linux", "vmlinuz")
INITRD = os.path.join(BUILD, "initramfs-l1.cpio")

# An emulated CPU makes boot work dear that no real machine notices: these words leave out
# self tests and measurements (the crypto tests alone are 760 M ticks), nothing that VMX meets.
# loglevel=6 is the least that still shows the kernel's banner.
COMMON_ARGS = ("console=ttyS0,115200 loglevel=6 nokaslr mitigations=off no_timer_check cryptomgr.notests "
               "initcall_blacklist=load_system_certificate_list,trace_eval_init,init_kprobe_trace,slab_sysfs_init")

# Bochs 2.7 reports the real part's TSC rate, though its TSC counts instructions, and a size of
# the compacted XSAVE area that Linux finds wrong.
BOCHS_ARGS = "tsc_early_khz={khz} clearcpuid=xsaves,xsavec"


def l1_args(machine, ips, ept=1, stop=None):
    """L1's command line. stop=init or kvm ends the run before L2."""
    words = [COMMON_ARGS]
    if machine == "bochs":
        words.append(BOCHS_ARGS.format(khz=ips // 1000))
    words.append(f"kvm_intel.ept={ept}")
    if stop:
        words.append(f"L1_STOP={stop}")
    return " ".join(words)
