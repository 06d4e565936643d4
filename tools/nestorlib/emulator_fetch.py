"""Fetches Debian's builds of Bochs, each with the libraries of its own release, and lays them under build/emulators.

apt gets a list of sources and state folders of its own, so nothing of the system changes; the programs are run by the
ld.so that came with them."""
import glob
import os
import re
import shutil
import tempfile

from nestorlib import emulator_check, emulator_mend, emulators
from nestorlib.debian import Apt, run
from nestorlib.errors import RunnerError

PACKAGES = ("bochs", "bochs-x", "bochsbios", "vgabios")
WANTED = re.compile(r"^(lib|zlib|bochs|vgabios)")     # of the packages that these bring along: programs are no use
MACHINE = "x86_64-linux-gnu"

WRAPPER = """\
#!/bin/sh
# Bochs {version} of Debian {suite}, run by its own ld.so and with its own libraries and plugins.
here=$(dirname "$(readlink -f "$0")")
export LTDL_LIBRARY_PATH="$here/plugins" BXSHARE="$here/share"
exec "$here/lib/ld-linux-x86-64.so.2" --library-path "$here/lib:$here/plugins" "$here/bochs-bin" "$@"
"""


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
    """Lays Bochs of that version under build/emulators, unless it is there, and mends it if need be."""
    target = os.path.join(emulators.FOLDER, version)
    if os.path.exists(target):
        complete(emulators.of_program(os.path.join(target, "bochs")), version, say)
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


def complete(emulator, version, say):
    """One that was fetched before gets what is mended since."""
    if emulators.to_be_mended(version, emulator):
        emulator_mend.mend_more(emulator.binary())
        say(f"Bochs {version}, which was here, has its virtual interrupts mended, too")


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
