"""A Debian of debootstrap on a disk image. Needs root, loop devices and debootstrap."""
import os
import shutil
import subprocess
import tempfile
import uuid

from lib_full import FULL
from nestorlib import debian
from nestorlib.errors import RunnerError

SUITE = "bookworm"


def run(*command, **more):
    return debian.run(list(command), **more)


def missing(*programs):
    """The thing that this machine lacks, or ""."""
    if os.geteuid():
        return "it needs root"
    for program in ("debootstrap", *programs):
        if not shutil.which(program, path="/usr/sbin:/sbin:" + os.environ["PATH"]):
            return f"{program} is missing: apt-get install debootstrap fdisk dosfstools"
    return "" if os.path.exists("/dev/loop-control") else "this kernel has no loop devices"


def make_base(name, packages):
    """Runs debootstrap with those packages, once. Returns the archive's path."""
    archive = os.path.join(FULL, name)
    if os.path.exists(archive):
        return archive
    os.makedirs(FULL, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="debootstrap.") as folder:
        system = os.path.join(folder, "system")
        try:
            run("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, system, debian.mirror())
        finally:    # what a failed one leaves mounted must not be deleted
            for place in ("sys", "proc"):
                subprocess.run(["umount", "-q", os.path.join(system, place)], check=False)
        run("tar", "-C", system, "--exclude=./var/cache/apt/*", "--exclude=./proc/*", "--exclude=./sys/*",
            "-cf", archive + ".new", ".")
    os.rename(archive + ".new", archive)
    return archive


class Tree:
    """A mounted root file system."""

    def __init__(self, root):
        self.root = root

    def path(self, name):
        return os.path.join(self.root, name)

    def inside(self, *command):
        done = subprocess.run(["chroot", self.root, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})
        return done.returncode, done.stdout

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def append(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "a", encoding="utf-8") as file:
            file.write(text)


# grub-probe looks behind a loop device, at a file that does not exist inside. This is what it says where the image is a
# disk.
GRUB_PROBE = """\
#!/bin/sh
case "$*" in
*fs_uuid*) echo {uuid} ;;
*partuuid*) exit 1 ;;
*target=device*) echo {device} ;;
*target=fs* | *-t\\ fs*) echo ext2 ;;
*compatibility_hint*) echo {drive} ;;
*hint*) echo --hint={drive} ;;
*drive*) echo "({drive})" ;;
esac
"""


class GptDisk(Tree):
    """A whole disk, as an installer leaves it: GPT, EFI system partition, ext4. Within `with` the latter is mounted.
    Nothing here needs a kernel that knows FAT or reads partition tables."""
    SECTOR = 512
    ESP = (2048, 65536)
    CORE = ("part_gpt", "ext2", "search_fs_uuid", "normal", "configfile", "echo")
    LOAD = "search.fs_uuid {uuid} root\nset prefix=($root)/boot/grub\n"

    def __init__(self, work, sectors):
        super().__init__(os.path.join(work, "root"))
        self.image, self.uuid, self.work = os.path.join(work, "disk.img"), str(uuid.uuid4()), work
        os.mkdir(self.root)
        self.place = (sum(self.ESP), sectors - sum(self.ESP) - 2048)
        run("truncate", "-s", str(sectors * self.SECTOR), self.image)
        rows = [f"start={start},size={size},type={kind}"
                for (start, size), kind in ((self.ESP, "uefi"), (self.place, "linux"))]
        subprocess.run(["sfdisk", "-q", self.image], input="\n".join(["label: gpt", *rows, ""]), text=True, check=True)
        run("mkfs.ext4", "-q", "-U", self.uuid, "-E", f"offset={self.place[0] * self.SECTOR}", self.image,
            f"{self.place[1] // 2}k")
        run("mformat", "-i", self.partition(), "-T", str(self.ESP[1]), "-h", "64", "-s", "32", "::")

    def partition(self):
        """The EFI system partition, for mtools."""
        return f"{self.image}@@{self.ESP[0] * self.SECTOR}"

    def __enter__(self):
        run("mount", "-o", f"loop,offset={self.place[0] * self.SECTOR}", self.image, self.root)
        return self

    def __exit__(self, *_):
        run("umount", self.root)

    def must(self, *command):
        status, text = self.inside(*command)
        if status:
            raise RunnerError(f"{' '.join(command)}: {text}")

    def finish(self):
        """The initramfs, GRUB's configuration, and GRUB as grub-install --removable puts it."""
        probe = self.path("usr/sbin/grub-probe")
        os.rename(probe, probe + ".real")
        self.append("usr/sbin/grub-probe", GRUB_PROBE.format(uuid=self.uuid, device="/dev/sda2", drive="hd0,gpt2"))
        os.chmod(probe, 0o755)
        run("mount", "--bind", "/proc", self.path("proc"))
        try:
            self.must("update-initramfs", "-u")
            self.must("update-grub")
        finally:
            run("umount", self.path("proc"))
        os.rename(probe + ".real", probe)
        shutil.copytree(self.path("usr/lib/grub/x86_64-efi"), self.path("boot/grub/x86_64-efi"))
        self.append("tmp/load.cfg", self.LOAD.format(uuid=self.uuid))
        self.must("grub-mkimage", "-O", "x86_64-efi", "-c", "/tmp/load.cfg", "-p", "/boot/grub", "-o", "/tmp/core.efi",
                  *self.CORE)
        run("mmd", "-i", self.partition(), "::/EFI", "::/EFI/BOOT")
        run("mcopy", "-i", self.partition(), self.path("tmp/core.efi"), "::/EFI/BOOT/BOOTX64.EFI")
