"""QEMU with KVM as the machine: the same images on a real CPU's VT-x."""
import os

from nestorlib.errors import RunnerError

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
        if not os.path.exists("/dev/kvm"):
            raise RunnerError("--machine qemu needs /dev/kvm, which is not there")
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise RunnerError("--machine qemu needs access to /dev/kvm")
        try:
            with open(NESTED, encoding="ascii") as parameter:
                nested = parameter.read().strip()
        except OSError:
            raise RunnerError("this machine's KVM has no VT-x (kvm_intel is not loaded)") from None
        if nested not in ("Y", "1"):
            raise RunnerError("this machine's KVM has nested VMX switched off (kvm_intel.nested=0)")

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
