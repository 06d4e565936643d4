"""Bochs as the machine: its configuration, its command, and what its log tells."""
import os
import re

from nestorlib import emulators
from nestorlib.display import Display
from nestorlib.errors import RunnerError
from nestorlib.image import GRUB_FAILED_PORT

MAX_HOST_MEMORY = 2048      # Bochs 2.7 refuses more

PORT_WRITE = re.compile(r"(?:unmapped:|\[UNMAP \]) (?:8|16|32)-bit write to ([0-9a-f]{4}) = ([0-9a-f]+)")
TICKS = re.compile(r"^(\d{11,})[a-z]\[")
DEBUGGER_TICKS = re.compile(r"^ptime: (\d+)")
GUEST_EXIT = re.compile(r"^guest-exit (\d+)")
GRUB_FAILED = f"write to {GRUB_FAILED_PORT:04x} ="
RESET = "bx_pc_system_c::Reset(HARDWARE) called"
EXIT_MESSAGE = "Bochs is exiting with the following message:"
BOOTING = "[BIOS  ] Booting from"
# The debugger, once it is interrupted: processor, physical address, CS:RIP, instruction.
STOPPED = re.compile(r"^\((\d+)\)\.?(?:\[\d+\])? \[0x([0-9a-f]+)\] [0-9a-f]{4}:([0-9a-f]+) \([^)]*\): "
                     r"([^;]*)")
# The same where the emulator runs without its debugger.
DUMPED = re.compile(r"\[CPU(\d+) *\] (?:\| [RE]IP=[0-9a-f]+ \(([0-9a-f]+)\)|0x[0-9a-f]+>> ([^:]*) :)")
POWER_OFF = "ACPI control: soft power off"

FIRMWARE = {
    "bios": """\
display_library: rfb, options="timeout=0"
romimage: file="{share}/BIOS-bochs-latest", options=fastboot
""",
    # Without the last line a processor that halts for good opens a dialogue that nobody answers.
    # A picture that is new twenty times in an emulated second, on a card that OVMF knows.
    "uefi": """\
display_library: x, options="hideIPS"
romimage: file="{ovmf}", address={ovmf_at:#x}
fw_cfg: enabled=1
pci: enabled=1, chipset=i440fx, slot1=pcivga
vga: extension=vbe, update_freq=20, realtime=0
warn: action=report
""",
}
OVMF = "/usr/share/ovmf/OVMF.fd"

CONFIG = """\
config_interface: textconfig
cpu: model={cpu}{features}, count={cpus}, ips={ips}, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={memory}, host={host}
vgaromimage: file="{share}/VGABIOS-lgpl-latest"
{disks}
com1: enabled=1, mode={com1_mode}, dev="{com1}"
com2: enabled=1, mode=file, dev="{com2}"
{com3}
log: "{log}"
port_e9_hack: enabled=1
clock: sync=none
sound: driver=dummy
speaker: enabled=0
panic: action=fatal
info: action=report
{errors}
debug: action=ignore, unmapped=report
"""


COM3 = 'com3: enabled=1, mode=socket-server, dev="localhost:{port}"'
CDROM = 'ata{channel}-master: type=cdrom, path="{path}", status=inserted'
DISK = 'ata{channel}-{unit}: type=disk, path="{path}", mode=flat, cylinders=0'


def disks_config(iso, disk, cd):
    """The made image boots, as a CD or, where there is another CD, as the first hard disk."""
    if cd:
        lines = [DISK.format(channel=0, unit="master", path=iso), CDROM.format(channel=1, path=os.path.abspath(cd)),
                 "boot: disk"]
    else:
        lines = [CDROM.format(channel=0, path=iso), "boot: cdrom"]
    if disk:
        lines.append(DISK.format(channel=0, unit="slave", path=os.path.abspath(disk)))
    return "\n".join(lines)


class Bochs:
    """One emulated machine. Its log is read as it grows, for the signs of an end."""

    def __init__(self, opts, rundir):
        self.opts = opts
        self.rundir = rundir
        self.emulator = emulators.choose(opts.emulator)
        self.ticks = 0
        self.resets = 0
        self.display = None

    def path(self, name):
        return os.path.join(self.rundir, name)

    def check(self):
        """The CPU model exists. A lock left by a killed run is of no use."""
        model = self.cpu()[0]
        if self.opts.cpu and model not in self.emulator.cpu_models():
            raise RunnerError(f"Bochs {self.emulator.version()} has no CPU model {model}; see --list-cpus")
        if self.opts.firmware == "uefi":
            self.check_uefi()
        for name in os.listdir(self.rundir):
            if name.endswith(".lock"):
                os.unlink(self.path(name))

    def cpu(self):
        """The model, and the features to be added to it."""
        model, *features = (self.opts.cpu or "corei7_skylake_x").split("+")
        return model, features

    def check_uefi(self):
        """The build has the device that OVMF asks for the size of memory."""
        version = emulators.version_of(self.emulator)
        known = emulators.KNOWN.get(version)
        if known and known.uefi == "no":
            raise RunnerError(f"Bochs {version} has no UEFI: --emulator 3.1 (tools/fetch-emulators 3.1 fetches it)")
        if not os.path.exists(OVMF):
            raise RunnerError(f"{OVMF} is missing (Debian's package ovmf): run tools/setup")

    def firmware(self):
        size = os.path.getsize(OVMF) if self.opts.firmware == "uefi" else 0
        return FIRMWARE[self.opts.firmware].format(share=self.emulator.share, ovmf=OVMF, ovmf_at=(1 << 32) - size)

    def environment(self):
        """The screen is there before the emulator is."""
        if self.opts.firmware != "uefi":
            return None
        self.display = Display(self.rundir)
        return dict(os.environ, DISPLAY=self.display.name)

    def picture(self, path):
        if not self.display:
            raise RunnerError("--picture needs a screen: --firmware uefi")
        self.display.picture(path)

    def close(self):
        if self.display:
            self.display.close()

    def command(self, iso, com1, com2, log):
        cpus = self.opts.cpus
        model, features = self.cpu()
        text = self.firmware() + CONFIG.format(
            cpu=model, features=f', add_features="{" ".join(features)}"' if features else "", cpus=cpus,
                                               ips=self.opts.ips,
            memory=self.opts.memory, host=min(self.opts.memory, self.opts.host_memory or MAX_HOST_MEMORY),
            share=self.emulator.share, disks=disks_config(iso, self.opts.disk, self.opts.cd), com1=com1,
            com1_mode="term" if self.opts.interactive else "file",
            com2=com2, com3=COM3.format(port=self.opts.gdb) if self.opts.gdb else "", log=log,
            errors="\n".join(f"error: action=report, cpu{i:x}=ignore" for i in range(cpus)))   # one line holds few
        with open(self.path("bochsrc"), "w", encoding="utf-8") as config:
            config.write(text)
        with open(self.path("debugger.rc"), "w", encoding="ascii") as script:
            script.write("c\nptime\nq\n")
        loop = emulators.known(self.emulator).multi if cpus > 1 else ()
        return [self.emulator.program, "-q", *loop, "-f", self.path("bochsrc"), "-rc", self.path("debugger.rc")]

    def read_log(self, line):
        """Return (status, reason) if this line ends the run, or None."""
        ticks = TICKS.match(line)
        if ticks:
            self.ticks = max(self.ticks, int(ticks.group(1)))
        write = PORT_WRITE.search(line)
        if write:
            return self.read_port_write(int(write.group(1), 16), int(write.group(2), 16))
        if RESET in line:
            self.resets += 1
            if self.resets > 1 + self.opts.resets:
                return None, "the machine was reset"
        if self.opts.bare and POWER_OFF in line:
            return 0, "L1 powered off"
        return None

    def read_port_write(self, port, value):
        if port == GRUB_FAILED_PORT:
            return None, "GRUB could not load an image (see its message above)"
        if port == 0xF4 and self.opts.bare:
            return value & 0xFF, f"L1 wrote {value:#x} to port 0xf4"
        return None

    def read_output(self, line):
        """The debugger's console; it also carries what is written to port 0xe9."""
        ticks = DEBUGGER_TICKS.match(line)
        if ticks:
            self.ticks = int(ticks.group(1))
        status = GUEST_EXIT.match(line)
        if status and self.opts.bare:
            return int(status.group(1)), "L1 told its status on port 0xe9"
        return None

    def status_of_exit(self, _returncode):
        """Bochs's own exit status says nothing: only its log does."""
        return None

    @staticmethod
    def lost_its_port(reason):
        """Of two that start at the same moment one may lose the port of its display, before anything else happens."""
        return bool(reason) and "could not bind any port" in reason

    @staticmethod
    def death(output):
        """The message with which Bochs left, if it had one."""
        for index, line in enumerate(output[:-1]):
            if line.startswith(EXIT_MESSAGE):
                return "Bochs ended: " + output[index + 1].strip()
        return None

    @staticmethod
    def last_lines(log, output):
        """The panic with a little before it, without the register dump after it."""
        if any(GRUB_FAILED in line for line in log):
            return []
        booted = next((index for index, line in enumerate(log) if BOOTING in line), -1)
        log = [line for line in log[booted + 1:] if "d[UNMAP ]" not in line]
        for index, line in enumerate(log):
            if ">>PANIC<<" in line:
                return log[max(0, index - 5):index + 1]
        return log[-10:]

    @staticmethod
    def where(output, log, sinks, levels):
        """A line for each processor: its level, RIP, with the symbol of Nestor's or L1's if there is one, and the
        instruction. The debugger tells it, or the registers that the emulator logs when it is ended without one."""
        last = {int(found.group(1)): found.groups()[1:] for found in map(STOPPED.match, output) if found}
        dumped = {}
        for found in filter(None, map(DUMPED.search, log)):
            number, rip, instruction = found.groups()
            old = dumped.get(int(number), (None, "0", None))
            dumped[int(number)] = (None, rip or old[1], instruction)
        lines = []
        for number, (physical, rip, instruction) in sorted((last or dumped).items()):
            rip = int(rip, 16)
            own = sinks.nestor.name_inside(rip)
            name = own or sinks.symbols.name(rip)
            level = "Nestor (L0)" if own else levels[number] if number < len(levels) else None
            lines.append(f"processor {number} was {f'in {level} ' if level else ''}at "
                         f"rip={rip:x}{f' <{name}>' if name else ''}" +
                         (": " + " ".join(instruction.split()) if instruction else "") +
                         (f" (physical address {int(physical, 16):x})" if physical else ""))
        return lines
