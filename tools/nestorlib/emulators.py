"""The builds of Bochs: which are here, what each can do, and which one is taken."""
import json
import os
import re
import shutil
from dataclasses import dataclass

from nestorlib import emulator_check, emulator_mend, process
from nestorlib.errors import RunnerError
from nestorlib.paths import BUILD

FOLDER = os.path.join(BUILD, "emulators")       # what tools/fetch-emulators unpacked
SEEN = os.path.join(FOLDER, "seen.json")
SYSTEM_SHARE = "/usr/share/bochs"
VARIABLE = "NESTOR_EMULATOR"                    # what --emulator is when it is not given

NO_VERSION = "?"
BANNER = re.compile(r"Bochs x86 Emulator (\d+\.\d+)")


@dataclass(frozen=True)
class Known:
    """The abilities of a version. docs/TESTING.md has the same table, and tests/host/docs.t compares."""
    suite: str          # the Debian release that has it
    models: str         # CPU models that no earlier version has
    x2apic: str         # x2APIC mode can be left, and L1 has it
    init_exits: str     # INIT and start-up IPIs are VM exits that work
    trap_flag: str      # the monitor trap flag works
    uefi: str           # it has the fw_cfg device that OVMF asks for
    arithmetic: str     # what Debian's build computes
    nestor: str         # options that Nestor needs there, as no trial could tell
    multi: tuple = ()   # arguments for more processors than one


# The debugger's loop is the only one of 2.7. The other of 3.0 and 3.1 keeps, with more processors than one, RIP and RSP
# as they were before an exception until the handler's first instruction is done: an exit or a fault of that one goes
# back to those.
DEBUGGER_LOOP = ("-debugger",)

# Of `nestor`, what a mended one does not need.
MENDED = ("virtual-vectoring=svi", "posted-interrupts=0")

FACTS = (("suite", "Debian"), ("models", "newest models"), ("x2apic", "x2APIC"), ("init_exits", "INIT and SIPI exits"),
         ("trap_flag", "monitor trap flag"), ("uefi", "UEFI"), ("arithmetic", "64-bit IDIV"))

KNOWN = {
    "2.7": Known("bookworm", "up to tigerlake", "no", "no", "no", "no", "right",
                 "apic-disable=0 x2apic=0 virtual-vectoring=svi"),
    "3.0": Known("trixie", "up to tigerlake", "yes", "no", "yes", "no", "right",
                 "apic-disable=0 virtual-vectoring=svi", DEBUGGER_LOOP),
    "3.1": Known("forky", "sapphire_rapids, arrow_lake, wildcat_lake", "yes", "yes", "yes", "yes", "mended",
                 "apic-disable=0 virtual-vectoring=svi posted-interrupts=0", DEBUGGER_LOOP),
}
PREFERRED = ("3.1", "2.7", "3.0")


def table():
    """The rows of KNOWN, a line each, headings first."""
    rows = [("Bochs", *(heading for _, heading in FACTS))]
    rows += [(version, *(getattr(known, name) for name, _ in FACTS)) for version, known in KNOWN.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


@dataclass(frozen=True)
class Emulator:
    """A program that takes Bochs's arguments, and the folder of its ROM images."""
    program: str
    share: str

    def said(self):
        """Its own words about itself: its version and its CPU models."""
        return process.run_quietly([self.program, "--help", "cpu"])

    def version(self):
        banner = BANNER.search(self.said())
        return banner.group(1) if banner else NO_VERSION

    def cpu_models(self):
        """Names of CPU models: the lines of one word."""
        return [line for line in self.said().splitlines() if re.fullmatch(r"\w+", line)]

    def binary(self):
        """Debian's /usr/bin/bochs is a script that starts another file."""
        return next(path for path in (self.program + "-bin", self.program) if os.path.exists(path))

    def stamp(self):
        """Changes when the program does."""
        status = os.stat(self.binary())
        return [status.st_mtime_ns, status.st_size]


def of_program(path):
    """The emulator of that program. ROM images beside it, as tools/fetch-emulators lays them, are its own."""
    beside = os.path.join(os.path.dirname(os.path.realpath(path)), "share")
    own = os.path.exists(os.path.join(beside, "BIOS-bochs-latest"))
    return Emulator(os.path.abspath(path), beside if own else SYSTEM_SHARE)


def read_seen():
    try:
        with open(SEEN, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def seen(emulator, key, look):
    """The finding of look() for the emulator, remembered under the key until the program changes."""
    stamp = emulator.stamp()
    entry = read_seen().get(emulator.program, {})
    if entry.get("stamp") == stamp and key in entry:
        return entry[key]
    value = look()
    everything = read_seen()
    entry = everything.get(emulator.program, {})
    everything[emulator.program] = {**(entry if entry.get("stamp") == stamp else {}), "stamp": stamp, key: value}
    os.makedirs(FOLDER, exist_ok=True)
    with open(f"{SEEN}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump(everything, file, indent=1)
    os.replace(file.name, SEEN)
    return value


def version_of(emulator):
    """Its version, as it says it."""
    return seen(emulator, "version", emulator.version)


def fault_of(emulator):
    """The instruction that it computes wrongly, in words, or ""."""
    return seen(emulator, "fault", lambda: emulator_check.run(emulator))


def present():
    """Version -> emulator, for all that are here. A fetched one goes before the system's of the same version."""
    found = {}
    system = shutil.which("bochs")
    if system:
        emulator = of_program(system)
        found[version_of(emulator)] = emulator
    for version in sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else ():
        program = os.path.join(FOLDER, version, "bochs")
        if os.access(program, os.X_OK):
            found[version] = of_program(program)
    return found


def best():
    """The first of PREFERRED that is here and computes rightly; then any other that does."""
    found = present()
    order = [version for version in PREFERRED if version in found] + sorted(set(found) - set(PREFERRED), reverse=True)
    faults = []
    for version in order:
        fault = fault_of(found[version])
        if not fault:
            return found[version]
        faults.append(f"Bochs {version} {fault}")
    raise RunnerError("; ".join(faults + ["no Bochs here that can be used: run tools/setup"]))


def choose(name):
    """The emulator that --emulator names: a version, a program's path, or "" for the best."""
    name = name or os.environ.get(VARIABLE, "")
    if not name:
        return best()
    if os.path.sep in name:
        if not os.access(name, os.X_OK):
            raise RunnerError(f"no program {name}")
        emulator = of_program(name)
        if version_of(emulator) == NO_VERSION:
            raise RunnerError(f"{name} is not Bochs")
        return emulator
    found = present()
    if name in found:
        return found[name]
    advice = f"run tools/fetch-emulators {name}" if name in KNOWN else f"known are {', '.join(KNOWN)}, or give a path"
    raise RunnerError(f"no Bochs {name} here: {advice}")


def known(emulator):
    """An unknown version is taken for the newest."""
    return KNOWN.get(version_of(emulator), KNOWN[max(KNOWN)])


def virtual_interrupts_right(emulator):
    """True if virtual and posted interrupts are mended there."""
    key = "virtual interrupts " + emulator_mend.PATCHES_STAMP
    return seen(emulator, key, lambda: emulator_mend.is_mended(emulator.binary()))


def to_be_mended(version, emulator):
    """True if tools/fetch-emulators has more to do there."""
    return bool(fault_of(emulator)) or KNOWN[version].arithmetic == "mended" and not virtual_interrupts_right(emulator)


def nestor_options(emulator):
    """The options that tell Nestor of it."""
    options = known(emulator).nestor.split()
    return " ".join(word for word in options if word not in MENDED or not virtual_interrupts_right(emulator))


def list_cpus():
    """The CPU models of each emulator that is here, as text."""
    lines = []
    for version, emulator in sorted(present().items()):
        fault = fault_of(emulator)
        lines.append(f"Bochs {version} ({emulator.program}){': ' + fault if fault else ''}")
        lines += ["  " + model for model in emulator.cpu_models()]
    return "\n".join(lines)
