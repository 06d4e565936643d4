"""QEMU with KVM as the machine: the same images on a real CPU's VT-x."""
import os

from nestorlib.errors import RunnerError

DEVICE = "/dev/kvm"
NESTED = "/sys/module/kvm_intel/parameters/nested"
DEBUG_EXIT_PORT = 0xF4
POWER_OFF_TRACE = "qemu_system_shutdown_request"    # a reset has another trace point


class Qemu:
    """One virtual machine under KVM."""

    def __init__(self, opts, rundir):
        self.opts = opts
        self.rundir = rundir
        self.ticks = 0      # a real CPU has no count of them
        self.powered_off = False

    @staticmethod
    def check():
        if not os.path.exists(DEVICE):
            raise RunnerError(f"{DEVICE} is not there, so no virtual machine here can have VT-x.\n"
                              "Load KVM (modprobe kvm_intel; dmesg says why not: often VT-x is off in the firmware, or "
                              "in the hypervisor that this machine runs on), or take --machine bochs, an emulator")
        if not os.access(DEVICE, os.R_OK | os.W_OK):
            raise RunnerError(f"{DEVICE} is there and may not be used by this user, so no virtual machine can be "
                              "started.\nJoin its group (adduser $USER kvm, then log in anew), or run this as root")
        try:
            with open(NESTED, encoding="ascii") as parameter:
                nested = parameter.read().strip()
        except OSError:
            raise RunnerError("this machine's KVM is not the one for VT-x (kvm_intel is not loaded), so its guests "
                              "have none.\nLoad it (modprobe kvm_intel; dmesg says why not: it is for Intel CPUs), or "
                              "take --machine bochs, an emulator") from None
        if nested not in ("Y", "1"):
            raise RunnerError("this machine's KVM has nested VMX switched off (kvm_intel.nested=0), so its guests "
                              "have no VT-x.\nWith no guest running: modprobe -r kvm_intel && "
                              "modprobe kvm_intel nested=1")

    def command(self, iso, com1, com2, log):
        command = ["qemu-system-x86_64", "-enable-kvm", "-cpu", self.opts.cpu or "host",
                   "-smp", str(self.opts.cpus), "-m", str(self.opts.memory), "-nodefaults",
                   "-display", "none", "-vga", "std", "-no-reboot", "-boot", "d", "-cdrom", iso,
                   "-d", f"trace:{POWER_OFF_TRACE}", "-D", log]
        console = "serial" if self.opts.interactive else "file"
        for name, path, kind in (("com1", com1, console), ("com2", com2, "file")):
            command += ["-chardev", f"{kind},id={name},path={path}", "-serial", f"chardev:{name}"]
        if self.opts.bare:
            command += ["-device", f"isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=4"]
        return command

    @staticmethod
    def environment():
        return None

    @staticmethod
    def picture(_path):
        raise RunnerError("--picture is for Bochs")

    @staticmethod
    def close():
        """Nothing was started beside the machine."""

    def read_log(self, line):
        if POWER_OFF_TRACE in line:
            self.powered_off = True

    @staticmethod
    def read_output(_line):
        return None

    def status_of_exit(self, returncode):
        """isa-debug-exit ends QEMU with 2 * value + 1; a power-off and a reset end it with 0."""
        if not self.opts.bare or returncode < 0:
            return None
        if returncode == 0:
            return (0, "L1 powered off") if self.powered_off else (None, "the machine was reset")
        if returncode & 1:
            return returncode >> 1, "L1 wrote to port 0xf4"
        return None

    @staticmethod
    def lost_its_port(_reason):
        return False

    @staticmethod
    def death(_output):
        return None

    @staticmethod
    def where(_output, _log, _sinks, _levels):
        """QEMU does not tell."""
        return []

    @staticmethod
    def last_lines(_log, output):
        return output[-10:]
