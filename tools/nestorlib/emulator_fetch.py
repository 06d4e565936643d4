"""Fetches Debian's builds of Bochs, each with the libraries of its own release, and lays them under build/emulators.

apt gets a list of sources and state folders of its own, so nothing of the system changes; the programs are run by the
ld.so that came with them."""
import glob
import os
import re
import shutil
import subprocess
import tempfile

from nestorlib import emulator_check, emulator_mend, emulators
from nestorlib.errors import RunnerError

PACKAGES = ("bochs", "bochs-x", "bochsbios", "vgabios")
WANTED = re.compile(r"^(lib|zlib|bochs|vgabios)")     # of the packages that these bring along: programs are no use
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR_VARIABLE = "NESTOR_DEBIAN_MIRROR"
MACHINE = "x86_64-linux-gnu"

APT_CONFIG = """\
Dir::Etc::SourceList "{work}/sources.list";
Dir::Etc::SourceParts "{work}/none";
Dir::State::Lists "{work}/lists";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "";
"""

WRAPPER = """\
#!/bin/sh
# Bochs {version} of Debian {suite}, run by its own ld.so and with its own libraries and plugins.
here=$(dirname "$(readlink -f "$0")")
export LTDL_LIBRARY_PATH="$here/plugins" BXSHARE="$here/share"
exec "$here/lib/ld-linux-x86-64.so.2" --library-path "$here/lib:$here/plugins" "$here/bochs-bin" "$@"
"""


def run(command, **kwargs):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **kwargs)
    if done.returncode:
        raise RunnerError(f"{' '.join(command[:3])} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def mirror():
    """Where this system gets Debian from; the variable names another place."""
    if MIRROR_VARIABLE in os.environ:
        return os.environ[MIRROR_VARIABLE]
    if not shutil.which("apt-get"):
        raise RunnerError("no apt-get here to fetch Debian's packages with")
    lines = run(["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"]).splitlines()
    for line in lines:
        label, _, address = line.partition("|")
        if label == "Debian":
            return address
    raise RunnerError(f"apt has no lists of Debian: run apt-get update, or set {MIRROR_VARIABLE} to a mirror's address")


class Apt:
    """apt-get for one release of Debian, with all it knows in the folder `work`."""

    def __init__(self, work, suite):
        self.work = work
        for folder in ("none", "lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(work, folder))
        self.write("status", "")
        self.write("sources.list", f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
        self.write("apt.conf", APT_CONFIG.format(work=work))
        self.environment = dict(os.environ, APT_CONFIG=os.path.join(work, "apt.conf"))

    def write(self, name, text):
        with open(os.path.join(self.work, name), "w", encoding="utf-8") as file:
            file.write(text)

    def get(self, *words, cwd=None):
        return run(["apt-get", "-q", "-y", *words], env=self.environment, cwd=cwd)

    def closure(self, packages):
        """Names of the packages and of all that they need."""
        plan = self.get("--simulate", "install", *packages)
        return re.findall(r"^Inst (\S+) ", plan, re.M)

    def unpack(self, packages, target):
        """Fetches exactly these, and unpacks them over each other."""
        folder = os.path.join(self.work, "debs")
        os.makedirs(folder)
        self.get("download", *packages, cwd=folder)
        for package in sorted(glob.glob(os.path.join(folder, "*.deb"))):
            run(["dpkg-deb", "-x", package, target])


def find_library(files, name):
    for folder in (f"usr/lib/{MACHINE}", f"lib/{MACHINE}", f"usr/lib/{MACHINE}/pulseaudio"):
        path = os.path.join(files, folder, name)
        if os.path.exists(path):
            return path
    raise RunnerError(f"the packages have no {name}")


def needed_by(path):
    """Names of the libraries that the ELF file asks for."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run(["readelf", "-dW", path]))


def copy_libraries(files, programs, target):
    """ld.so, and what the programs need, and what that needs."""
    os.makedirs(target)
    names, wanted = {"ld-linux-x86-64.so.2"}, [name for program in programs for name in needed_by(program)]
    while wanted:
        name = wanted.pop()
        if name not in names:
            names.add(name)
            wanted += needed_by(find_library(files, name))
    for name in names - set(os.path.basename(program) for program in programs):
        shutil.copy(find_library(files, name), os.path.join(target, name))


def lay_out(files, target):
    """The program, its plugins, libraries and ROM images out of the unpacked packages."""
    os.makedirs(os.path.join(target, "share"))
    shutil.copy(os.path.join(files, "usr/bin/bochs-bin"), target)
    shutil.copytree(os.path.join(files, f"usr/lib/{MACHINE}/bochs/plugins"), os.path.join(target, "plugins"),
                    symlinks=True)
    for name, source in (("BIOS-bochs-latest", "bochs/BIOS-bochs-latest"),
                         ("VGABIOS-lgpl-latest", "vgabios/vgabios.bin")):
        shutil.copy(os.path.join(files, "usr/share", source), os.path.join(target, "share", name))
    shutil.copytree(os.path.join(files, "usr/share/bochs/keymaps"), os.path.join(target, "share/keymaps"))
    plugins = [path for path in glob.glob(os.path.join(target, "plugins", "*.so")) if os.path.exists(path)]
    copy_libraries(files, [os.path.join(target, "bochs-bin"), *plugins], os.path.join(target, "lib"))


def fetch(version, say):
    """Lays Bochs of that version under build/emulators, unless it is there, and mends its division if need be."""
    target = os.path.join(emulators.FOLDER, version)
    if os.path.exists(target):
        return
    suite = emulators.KNOWN[version].suite
    os.makedirs(emulators.FOLDER, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=emulators.FOLDER, prefix=".fetch.") as work:
        say(f"fetching Bochs {version} of Debian {suite}, with its libraries")
        apt = Apt(os.path.join(work, "apt"), suite)
        apt.get("update")
        files, new = os.path.join(work, "files"), os.path.join(work, "new")
        apt.unpack([name for name in apt.closure(PACKAGES) if WANTED.match(name)], files)
        lay_out(files, new)
        program = os.path.join(new, "bochs")
        with open(program, "w", encoding="utf-8") as file:
            file.write(WRAPPER.format(version=version, suite=suite))
        os.chmod(program, 0o755)
        prove(emulators.of_program(program), version, say)
        os.rename(new, target)


def prove(emulator, version, say):
    """It is the version that was asked for, and its arithmetic is right, if need be after mending."""
    if emulator.version() != version:
        raise RunnerError(f"Debian has Bochs {emulator.version()} there now, not {version}")
    fault = emulator_check.run(emulator)
    if fault:
        say(f"it {fault}; mending that")
        emulator_mend.mend(emulator.program + "-bin")
        fault = emulator_check.run(emulator)
        if fault:
            raise RunnerError(f"Bochs {version} is mended, and still {fault}")
    say(f"Bochs {version} is in build/emulators/{version}, and passes the check of its arithmetic")
