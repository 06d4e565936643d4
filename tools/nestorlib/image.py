"""The image to boot: L1's kind, the GRUB configuration, and the ISO made of both."""
import os
import shutil
import struct
from dataclasses import dataclass, field

from nestorlib import emulators
from nestorlib.errors import RunnerError
from nestorlib.paths import BUILD
from nestorlib.process import run_quietly

GRUB_DIRS = {"bios": "/usr/lib/grub/i386-pc", "uefi": "/usr/lib/grub/x86_64-efi"}
PARTITIONS = "acorn amiga apple bsd dfly dvh gpt msdos plan sun sunpc"  # the rescue image asks for them all
GRUB_MODULES = {
    "bios": "normal multiboot multiboot2 linux halt iorw serial all_video test echo sleep search search_fs_uuid " +
            "ext2 gzio part_msdos",
    "uefi": "normal multiboot multiboot2 linux halt iorw test echo sleep search search_fs_uuid all_video ext2 gzio " +
            "chain wrmsr efi_gop video_bochs video_cirrus " +
            " ".join("part_" + name for name in PARTITIONS.split()),
}
GRUB_FAILED_PORT = 0xF5     # GRUB writes there when it cannot load something
MULTIBOOT1_MAGIC = 0x1BADB002
MULTIBOOT2_MAGIC = 0xE85250D6


@dataclass
class BootPlan:
    """The GRUB commands, the files they name on the ISO, and the COM port for GRUB's complaints."""
    com_unit: int = 0
    commands: list = field(default_factory=list)
    files: dict = field(default_factory=dict)
    config: str = None      # a file that takes the place of the commands
    program: str = None     # a file that the firmware starts in the place of GRUB

    def load(self, command, name, path, args):
        """Add one GRUB command that loads the file as /name with that string."""
        self.files[name] = path
        self.commands.append(f"{command} /{name} {quote_args(args)}".rstrip())

    def run_before(self, program):
        """The UEFI program is run before the other commands; it must return."""
        self.files["before.efi"] = program
        self.commands[:0] = ["chainloader /before.efi", "boot"]


def detect_kind(path):
    """Return linux, multiboot1, multiboot2 or None for the file's content."""
    with open(path, "rb") as image:
        head = image.read(32768)
    if head[0x202:0x206] == b"HdrS":
        return "linux"
    if has_magic(head[:8192], MULTIBOOT1_MAGIC, 4):
        return "multiboot1"
    if has_magic(head, MULTIBOOT2_MAGIC, 8):
        return "multiboot2"
    return None


def has_magic(head, magic, step):
    """A multiboot header: the magic, two words, and a checksum that makes zero."""
    for offset in range(0, len(head) - 15, step):
        words = struct.unpack_from("<4I", head, offset)
        if words[0] != magic:
            continue
        summed = words[:3] if magic == MULTIBOOT1_MAGIC else words
        if sum(summed) & 0xFFFFFFFF == 0:
            return True
    return False


def split_args(args):
    """Cut at spaces outside double quotes, which are removed."""
    words, word, quoted = [], "", False
    for char in args:
        if char == '"':
            quoted = not quoted
        elif char == " " and not quoted:
            words.append(word)
            word = ""
        else:
            word += char
    if quoted:
        raise RunnerError(f"unbalanced quotes in: {args}")
    return words + [word]


def quote_args(args):
    """Quote for GRUB's parser; GRUB itself puts quotes around words with spaces."""
    if any(char in args for char in "'\\\n"):
        raise RunnerError(f"GRUB cannot pass on quotes, backslashes or newlines: {args}")
    return " ".join(f"'{word}'" for word in split_args(args)) if args else ""


def split_module(text):
    """FILE[=ARGS]; a file whose own name contains = is found too."""
    path = text
    while not os.path.exists(path) and "=" in path:
        path = path.rsplit("=", 1)[0]
    if not os.path.exists(path):
        path = text.split("=", 1)[0]
    return require_file(path), text[len(path) + 1:]


def require_file(path):
    if not os.path.isfile(path):
        ours = os.path.abspath(path).startswith(os.path.join(BUILD, ""))
        raise RunnerError(f"no such file: {path}" + (": run make, which builds it" if ours else ""))
    return path


def l1_string(kind, path, args):
    """A multiboot 1 image finds its name in argv[0]; others get the bare arguments, as GRUB 2 gives them."""
    if kind != "multiboot1":
        return args
    return f"{os.path.basename(path)} {args}".rstrip()


def plan_boot(opts):
    plan = plan_commands(opts)
    for text in opts.file:
        name, _, path = text.partition("=")
        plan.files[name] = require_file(path)
    if opts.before:
        plan.run_before(require_file(opts.before))
    plan.config, plan.program = opts.grub_config, opts.efi
    return plan


def plan_commands(opts):
    modules = [split_module(text) for text in opts.module]
    if opts.l1 == "none":
        if opts.bare and not (opts.efi or opts.grub_config):
            raise RunnerError("--bare needs an L1 image")
        if opts.bare:
            return BootPlan()
        kind = None
    else:
        kind = detect_kind(require_file(opts.l1))
    if opts.bare:
        return plan_bare(opts, kind, modules)
    return plan_nestor(opts, kind, modules)


def plan_bare(opts, kind, modules):
    if kind is None:
        raise RunnerError(f"{opts.l1} is neither a Linux bzImage nor a multiboot image")
    load, load_module = {"linux": ("linux", "initrd"), "multiboot1": ("multiboot", "module"),
                         "multiboot2": ("multiboot2", "module2")}[kind]
    plan = BootPlan()
    plan.load(load, "l1", opts.l1, l1_string(kind, opts.l1, opts.l1_args))
    if kind == "linux" and modules:
        plan.files.update((f"mod{i}", path) for i, (path, _) in enumerate(modules))
        plan.commands.append("initrd " + " ".join(f"/mod{i}" for i in range(len(modules))))
        return plan
    for i, (path, args) in enumerate(modules):
        plan.load(load_module, f"mod{i}", path, args)
    return plan


def plan_nestor(opts, kind, modules):
    plan = BootPlan(com_unit=1)
    protocol = f"console=com2 on-exit={'halt' if opts.resets else opts.machine} debug-exit=0xf4"
    if opts.machine == "bochs":
        protocol += " " + emulators.nestor_options(emulators.choose(opts.emulator))
    plan.load("multiboot2", "nestor.elf", require_file(opts.nestor_elf),
              f"{protocol} {opts.nestor}".rstrip())
    if opts.l1 == "none":
        return plan
    plan.load("module2", "l1", opts.l1, l1_string(kind, opts.l1, opts.l1_args))
    for i, (path, args) in enumerate(modules):
        plan.load("module2", f"mod{i}", path, args)
    return plan


def grub_config(plan, firmware):
    if plan.config:
        with open(plan.config, encoding="utf-8") as source:
            return source.read()
    return made_config(plan, firmware)


def made_config(plan, firmware):
    """Boot. If a command fails, try again with GRUB's complaint on a serial port (opening the
    port first would put control characters before L1's text), and tell the runner."""
    # Behind the last command: multiboot2 sets the video mode that the image wishes.
    ready = "set gfxpayload=text; " if firmware == "bios" else ""
    chain = "if " + "; then if ".join(plan.commands) + f"; then {ready}boot; " + "fi; " * len(plan.commands)
    chain = chain.rstrip("; ")
    console = f"serial_com{plan.com_unit}"
    before = {"bios": ("set gfxpayload=text",), "uefi": ("insmod all_video", "set gfxpayload=keep")}[firmware]
    # OVMF shows its console, and so GRUB's complaint, on both serial ports by itself.
    retry = {"bios": (f"serial --unit={plan.com_unit} --speed=115200", f"terminfo {console} dumb",
                      f"terminal_output {console}", chain), "uefi": ()}[firmware]
    return "\n".join(("set timeout=0", *before, chain, *retry, f"outb {GRUB_FAILED_PORT:#x} 1", "halt", ""))


def link_or_copy(source, target):
    """xorriso keeps symbolic links as such, and hard links end at a file system's edge."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def make_program_iso(plan, rundir):
    """A CD whose EFI system partition has the program as what a firmware starts, and the files beside it."""
    tree = os.path.join(rundir, "iso")
    partition, folder = os.path.join(tree, "esp.img"), "::/EFI/BOOT/"
    files = {"BOOTX64.EFI": require_file(plan.program), **plan.files}
    sectors = sum(os.path.getsize(path) // 512 + 8 for path in files.values()) + 2048
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(tree)
    run_quietly(["mformat", "-i", partition, "-C", "-T", str(sectors), "-h", "64", "-s", "32", "::"], tmpdir=rundir)
    run_quietly(["mmd", "-i", partition, "::/EFI", "::/EFI/BOOT"], tmpdir=rundir)
    for name, path in files.items():
        run_quietly(["mcopy", "-i", partition, path, folder + name], tmpdir=rundir)
    iso = os.path.join(rundir, "boot.iso")
    run_quietly(["xorriso", "-as", "mkisofs", "-e", "esp.img", "-no-emul-boot", "-o", iso, tree], tmpdir=rundir)
    shutil.rmtree(tree)
    return iso


def make_iso(plan, rundir, firmware="bios"):
    """Make rundir/boot.iso."""
    if plan.program:
        return make_program_iso(plan, rundir)
    grub = GRUB_DIRS[firmware]
    if not os.path.isdir(grub) or not shutil.which("grub-mkrescue"):
        raise RunnerError(f"grub-mkrescue or its modules in {grub} are missing: run tools/setup")
    tree = os.path.join(rundir, "iso")
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, "boot", "grub"))
    for name, path in plan.files.items():
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        link_or_copy(os.path.realpath(path), os.path.join(tree, name))
    with open(os.path.join(tree, "boot", "grub", "grub.cfg"), "w", encoding="utf-8") as config:
        config.write(grub_config(plan, firmware))
    iso = os.path.join(rundir, "boot.iso")
    run_quietly(["grub-mkrescue", "-d", grub, "-o", iso, "--fonts=", "--locales=", "--themes=",
                 f"--install-modules={GRUB_MODULES[firmware]}", tree], tmpdir=rundir)
    shutil.rmtree(tree)
    return iso
