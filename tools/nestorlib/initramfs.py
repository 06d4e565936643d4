"""The parts of an initramfs of ours: the archive, and the programs, libraries and modules in it.

The archive is written here and not by cpio(1), so that it needs no root, has no
time stamps, and comes out the same from the same inputs.
"""
import lzma
import os
import re
import stat
import subprocess
import tempfile

from nestorlib.paths import TOOLS

SOURCES = os.path.join(TOOLS, "initramfs")
CFLAGS = ("-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-nostdlib", "-ffreestanding",
          "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-Wl,-z,noseparate-code",
          "-s")


class BuildError(Exception):
    """Something needed is missing."""


class Archive:
    """A cpio archive in the kernel's newc format."""

    def __init__(self):
        self.chunks = []
        self.inode = 0
        self.folders = set()

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
        self.chunks.append(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))

    def add_folders(self, name):
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in self.folders:
                self.folders.add(folder)
                self.add(folder, stat.S_IFDIR | 0o755)

    def add_file(self, name, data, mode=0o644):
        self.add_folders(name)
        self.add(name, stat.S_IFREG | mode, data)

    def add_link(self, name, target):
        self.add_folders(name)
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def add_console(self):
        """The kernel opens it for init before any file system is mounted."""
        self.add_folders("dev/console")
        self.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))

    def finish(self):
        self.add("TRAILER!!!", 0)
        data = b"".join(self.chunks)
        return data + bytes(-len(data) % 512)


def read(path):
    try:
        with open(path, "rb") as source:
            return source.read()
    except FileNotFoundError:
        raise BuildError(f"{path} is missing: run tools/setup linux") from None


def compile_program(source, workdir):
    """Compile one of our freestanding programs, as a static ELF of about 1 KB."""
    output = os.path.join(workdir, os.path.splitext(os.path.basename(source))[0])
    subprocess.run([os.environ.get("CC", "cc"), *CFLAGS, "-I", SOURCES, "-o", output, source], check=True)
    return read(output)


def shared_libraries(program):
    """The real paths that the dynamic linker will ask for, the linker included."""
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"(/\S+) \(0x", listing)))


def module_name(path):
    """kvm_intel, of .../kvm-intel.ko or, as from Debian 13 on, .ko.xz; None for another file."""
    found = re.fullmatch(r"(.+)\.ko(?:\.xz)?", os.path.basename(path))
    return found and found.group(1).replace("-", "_")


def read_module(path):
    return lzma.decompress(read(path)) if path.endswith(".xz") else read(path)


def strip_module(path, workdir):
    """Without type information and needless symbols, which the kernel parses and searches for
    700 M ticks. The signature goes too (the kernel says so in one line, and loads the module)."""
    plain, output = os.path.join(workdir, "module.ko"), os.path.join(workdir, "stripped.ko")
    with open(plain, "wb") as file:
        file.write(read_module(path))
    objcopy = os.environ.get("OBJCOPY", "objcopy")
    subprocess.run([objcopy, "--strip-unneeded", "--remove-section=.BTF", plain, output], check=True)
    return read(output)


def module_order(modules_dir, wanted):
    """Paths of the modules, words, and of all that they depend on, in the order to load them."""
    found = {}
    for folder, _, names in os.walk(modules_dir):
        for name in names:
            if module_name(name):
                found[module_name(name)] = os.path.join(folder, name)
    order = []

    def visit(name):
        if name not in found:
            raise BuildError(f"no module {name} under {modules_dir}")
        depends = re.search(rb"\0depends=([^\0]*)\0", read_module(found[name])).group(1).decode()
        for other in filter(None, depends.split(",")):
            visit(other.replace("-", "_"))
        if found[name] not in order:
            order.append(found[name])

    for name in wanted.split():
        visit(name)
    return order


def add_busybox(archive, applets):
    archive.add_file("bin/busybox", read("/bin/busybox"), 0o755)
    for applet in applets:
        archive.add_link("bin/" + applet, "busybox")


def add_libraries(archive, folder):
    """Libraries with their own ld.so, as emulator_fetch.copy_libraries() lays them out."""
    for library in sorted(os.listdir(folder)):
        place = "lib64/" if library.startswith("ld-linux") else "lib/x86_64-linux-gnu/"
        archive.add_file(place + library, read(os.path.join(folder, library)), 0o755)


def build_l2(workdir):
    """The archive of a guest that says that it runs, and powers off."""
    archive = Archive()
    archive.add_console()
    archive.add_file("init", compile_program(os.path.join(SOURCES, "l2-init.c"), workdir), 0o755)
    return archive.finish()


def add_modules(archive, kernel_dir, wanted, workdir, order="order"):
    """The modules, words, with all they need, and their order in that file of lib/modules."""
    paths = module_order(os.path.join(kernel_dir, "modules"), wanted)
    for path in paths:
        archive.add_file(f"lib/modules/{module_name(path)}.ko", strip_module(path, workdir))
    archive.add_file("lib/modules/" + order, "".join(module_name(path) + ".ko\n" for path in paths).encode())


def compress(data, workdir):
    """LZ4 in the kernel's format: GRUB's reading costs ten ticks a byte, this two."""
    plain, packed = os.path.join(workdir, "plain"), os.path.join(workdir, "packed")
    with open(plain, "wb") as output:
        output.write(data)
    subprocess.run(["lz4", "-l", "-9", "-q", "-f", plain, packed], check=True)
    return read(packed)


def write_over(base, overlay, output):
    """The archive of the file `base`, and behind it what replaces parts of it: a later archive wins."""
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="initramfs.") as workdir:
        data = read(base) + compress(overlay.finish(), workdir)
    with open(output + ".new", "wb") as out:
        out.write(data)
    os.replace(output + ".new", output)
