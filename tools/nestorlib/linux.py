"""How Linux is booted as L1: the images and the command line."""
import os

from nestorlib.paths import BUILD

KERNEL = os.path.join(BUILD, "linux", "vmlinuz")
INITRD = os.path.join(BUILD, "initramfs-l1.cpio")

# An emulated CPU makes boot work dear that no real machine notices. These words leave out self
# tests, tracing's tables and BPF's type information, nothing that VMX meets: the crypto tests
# alone are 760 M ticks. L2 boots with the same (through the initramfs).
SKIPPED_INITCALLS = (
    "load_system_certificate_list", "trace_eval_init", "init_kprobe_trace", "slab_sysfs_init",
    "ftrace_check_for_weak_functions", "cubictcp_register", "bpf_prog_test_run_init",
    "bpf_tcp_ca_kfunc_init", "bpf_key_sig_kfuncs_init", "kfunc_init", "bpf_rstat_kfunc_init")

# loglevel=6 is the least that still shows the kernel's banner.
COMMON_ARGS = ("console=ttyS0,115200 loglevel=6 nokaslr mitigations=off no_timer_check audit=0 cryptomgr.notests "
               "initcall_blacklist=" + ",".join(SKIPPED_INITCALLS))

# Bochs 2.7 reports the real part's TSC rate, though its TSC counts instructions, and a size of
# the compacted XSAVE area that Linux finds wrong.
BOCHS_ARGS = "tsc_early_khz={khz} clearcpuid=xsaves,xsavec"


def l1_args(machine, ips, ept=1, stop=None, cpus=1):
    """L1's command line. stop=init or kvm ends the run before L2."""
    words = [COMMON_ARGS]
    if machine == "bochs":
        words.append(BOCHS_ARGS.format(khz=ips // 1000))
    words.append(f"kvm_intel.ept={ept}")
    if cpus > 1:
        words.append(f"L2_CPUS={cpus}")
    if stop:
        words.append(f"L1_STOP={stop}")
    return " ".join(words)


def shell_args(machine, ips, cpus=1):
    """L1's command line for `make shell`: the same, with a kernel that keeps quiet once it runs."""
    return l1_args(machine, ips, cpus=cpus).replace("loglevel=6", "loglevel=4")


def l2_args():
    """L2's command line. cmos_init would wait a second for a clock that L2 does not have."""
    return COMMON_ARGS + ",cmos_init"
