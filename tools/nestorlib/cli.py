"""Command line of nestor-run, and the life of one run from directory to status."""
import argparse
import os
import re
import shutil
import signal
import sys
import tempfile

from nestorlib import emulators, image
from nestorlib.bochs import Bochs
from nestorlib.errors import RunnerError, STATUS_INTERRUPTED, STATUS_USAGE
from nestorlib.paths import BUILD, ROOT
from nestorlib.process import run_quietly
from nestorlib.qemu import Qemu
from nestorlib.session import Session, Sinks

EPILOG = """\
L1 image kinds, found by content:
  Linux bzImage   the first --module is its initrd
  multiboot 1, 2  ELF (or flat with load addresses); --module files are its modules
  none            boot Nestor without any L1

Exit status:
  N    what L1 wrote to the debug-exit port 0xf4 (0 when it powered off by ACPI)
  2    wrong arguments, or this machine lacks something
  124  timeout
  125  the emulator or Nestor died; the last lines of its log are shown
  130  interrupted

Emulators, of those that tools/fetch-emulators can get:
{emulators}

Argument strings go through GRUB: words are separated by single spaces, and
double quotes may enclose words ("a b"); single quotes and backslashes are refused.

Examples:
  nestor-run --l1 build/guests/demo.elf
  nestor-run --bare --l1 vmx.flat --l1-args "vmx_controls_test" --module env.txt
  nestor-run --memory 1536 --l1 build/linux/vmlinuz --module build/initramfs.cpio \\
             --l1-args "console=ttyS0" --l0-log nestor.log
  nestor-run --cpu core2_penryn_t9600 --l1 none --nestor "log=dbg"
  nestor-run --emulator 3.1 --cpu wildcat_lake --l1 build/guests/demo.elf
"""


def parse_args(argv):
    parser = argparse.ArgumentParser(
        prog="nestor-run", description="Boot L1 under Nestor (or bare) on the Bochs emulator "
        "or under QEMU/KVM. L1's console (COM1) goes to stdout, Nestor's log (COM2) to stderr.",
        epilog=EPILOG.format(emulators="\n".join("  " + line for line in emulators.table())),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--machine", choices=("bochs", "qemu"), default="bochs", help="default: bochs")
    add("--emulator", default="", metavar="WHICH",
        help=f"Bochs: {', '.join(emulators.KNOWN)} (tools/fetch-emulators fetches it), or a program's path; default: "
        f"{emulators.VARIABLE} of the environment, or the best that is here")
    add("--firmware", choices=("bios", "uefi"), default="bios",
        help="Bochs: uefi is OVMF, with a screen (needs Bochs 3.1; default: bios)")
    add("--picture", action="append", default=[], metavar="PATTERN=FILE",
        help="with --firmware uefi: write the screen as a PNG file, soon after a console line matches; may be repeated")
    add("--list-cpus", action=ListCpus, help="name the CPU models of each Bochs that is here, and end")
    add("--cpu", metavar="MODEL", default=os.environ.get("NESTOR_CPU"),
        help="CPU model; default: NESTOR_CPU of the environment, or corei7_skylake_x on Bochs, host on QEMU. Bochs: "
        "features may be added, as wildcat_lake+msr_imm")
    add("--cpus", type=int, default=1, metavar="N", help="number of processors (default 1)")
    add("--memory", type=int, default=1024, metavar="MB", help="guest memory (default 1024)")
    add("--host-memory", type=int, default=0, metavar="MB",
        help="Bochs: how much of it is real memory (default: up to 2048)")
    add("--timeout", type=float, default=300, metavar="S", help="seconds before the run is ended (default 300)")
    add("--bare", action="store_true", help="boot L1 directly, without Nestor")
    add("--nestor", default="", metavar="OPTIONS", help="options for Nestor's command line")
    add("--nestor-elf", metavar="FILE", default=os.path.join(BUILD, "nestor.elf"),
        help="another build of Nestor (default: build/nestor.elf)")
    add("--l1", required=True, metavar="FILE", help="L1's kernel image, or none")
    add("--l1-args", default="", metavar="STR", help="L1's command line, without argv[0]")
    add("--module", action="append", default=[], metavar="FILE[=ARGS]", help="a module for L1; may be repeated")
    add("--interactive", action="store_true",
        help="L1's console is this terminal, typed into (Ctrl-A x leaves); Nestor's log goes to --l0-log or nowhere")
    add("--iso", metavar="FILE", help="boot this image instead of a made one")
    add("--disk", metavar="FILE", help="Bochs: the first hard disk; the machine still boots from the CD")
    add("--cd", metavar="FILE", help="Bochs: another CD; the machine boots what it would from the CD as a hard disk")
    add("--panic-ends", action="store_true", help="end with status 125 as soon as L1's kernel (Linux, Xen) panics")
    add("--version", action="version", version=f"nestor-run of Nestor {nestor_version()}")
    add("--until", metavar="PATTERN", help="end with status 0 as soon as a line of L1's console matches")
    add("--grub-config", metavar="FILE", help="boot by this GRUB configuration instead of a made one")
    add("--efi", metavar="FILE",
        help="the firmware starts this program from the CD instead of GRUB, with each --file beside it")
    add("--before", metavar="FILE", help="with --firmware uefi: GRUB has the firmware run this program before all else")
    add("--file", action="append", default=[], metavar="NAME=FILE",
        help="put a file on the boot image; may be repeated")
    add("--l0-log", metavar="FILE", help="write Nestor's log there instead of to stderr")
    add("--l1-log", metavar="FILE", help="write L1's console there instead of to stdout")
    add("--symbols", metavar="FILE",
        help="name the code at rip= in Nestor's log by this ELF file or System.map (default: L1's image, if it is ELF)")
    add("--keep", metavar="DIR", help="keep the image, configuration and logs of the run in DIR")
    add("--ips", type=int, default=20000000, metavar="N",
        help="Bochs: instructions per emulated second (default 20000000)")
    add("--gdb", type=int, default=0, metavar="PORT",
        help="Bochs: wait for gdb on this TCP port of this machine (docs/DEBUG.md)")
    add("--trace", metavar="FILE",
        help="write what each processor did when as a Perfetto trace there (ui.perfetto.dev opens it); "
             "FILE.html: as a page, FILE.json: as Chrome's JSON")
    add("--resets", type=int, default=0, metavar="N",
        help="so many times L1 may reset the machine, and the run goes on")
    add("--stats", metavar="FILE", help="write 'ticks=N seconds=S status=N' there")
    add("--verbose", action="store_true", help="say what is started and how it ended")
    opts = parser.parse_args(argv)
    if opts.cpus < 1 or opts.memory < 1 or opts.timeout <= 0 or opts.ips < 1:
        parser.error("--cpus, --memory, --timeout and --ips must be positive")
    if opts.interactive and opts.l1_log:
        parser.error("--interactive shows L1's console: it takes no --l1-log")
    if opts.trace and not re.search(r"\btrace=", opts.nestor):
        opts.nestor = f"{opts.nestor} trace={TRACE_RECORDS}".strip()
    if opts.gdb:
        opts.nestor = f"{opts.nestor} gdb=com:{GDB_UART:#x}".strip()
    if opts.interactive and not opts.l0_log:
        opts.l0_log = os.devnull
    opts.picture = [tuple(wish.rsplit("=", 1)) for wish in opts.picture]
    if any(len(wish) != 2 for wish in opts.picture):
        parser.error("--picture wants PATTERN=FILE")
    if opts.gdb and (opts.machine == "qemu" or opts.bare):
        parser.error("--gdb is for Nestor on Bochs; QEMU has -gdb of its own")
    if opts.firmware == "uefi" and opts.machine == "qemu":
        parser.error("--firmware uefi is for Bochs")
    if (opts.efi or opts.before) and opts.firmware != "uefi":
        parser.error("--efi and --before want --firmware uefi")
    return opts


def nestor_version():
    with open(os.path.join(ROOT, "kernel", "version.h"), encoding="ascii") as file:
        return re.search(r'NESTOR_VERSION "([^"]+)"', file.read()).group(1)


class ListCpus(argparse.Action):
    """Ends the program, as --help does."""
    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        print(emulators.list_cpus())
        parser.exit()


def say(text):
    print("nestor-run: " + text, file=sys.stderr, flush=True)


def raise_interrupt(signum, _frame):
    """SIGTERM and SIGHUP unwind as Ctrl-C does, so that nothing is left behind."""
    raise KeyboardInterrupt(signum)


START_TRIES = 5
GDB_UART = 0x3e8            # COM3, which nothing else uses
TRACE_RECORDS = 131072      # of each processor, for --trace
NESTORCTL = os.path.join(BUILD, "nestorctl", "nestorctl")


def write_stats(path, result):
    with open(path, "w", encoding="ascii") as out:
        out.write(f"ticks={result.ticks} seconds={result.seconds:.2f} status={result.status}\n")


def write_trace(opts, raw, rundir):
    """nestorctl makes the trace of the raw records; Bochs's time-stamp counter counts instructions."""
    if not raw:
        say("no trace: Nestor told no records, as its run did not end by itself")
        return
    path = os.path.join(rundir, "records.raw")
    with open(path, "wb") as out:
        out.write(raw)
    if not os.path.exists(NESTORCTL):
        raise RunnerError(f"{NESTORCTL} is missing: run make nestorctl")
    told = run_quietly([NESTORCTL, "trace", "-f", path, "-k", str(opts.ips // 1000), "-o", os.path.abspath(opts.trace)])
    for line in told.splitlines():
        say(line)


def run_in(opts, rundir):
    boot = image.plan_boot(opts)
    machine = Bochs if opts.machine == "bochs" else Qemu
    machine(opts, rundir).check()
    iso = os.path.abspath(opts.iso) if opts.iso else image.make_iso(boot, rundir, opts.firmware)
    for _ in range(START_TRIES):
        with Sinks(opts) as sinks:
            session = Session(opts, machine(opts, rundir), rundir, sinks)
            result = session.run(iso)
        if not machine.lost_its_port(result.reason):
            break
    if opts.trace:
        write_trace(opts, session.raw_records(), rundir)
    if opts.stats:
        write_stats(opts.stats, result)
    if result.reason and (opts.verbose or result.is_failure or result.reason == "interrupted"):
        say(result.reason)
    if opts.verbose:
        say(f"status {result.status} after {result.seconds:.1f} s, {result.ticks} ticks")
    for line in result.last_lines:
        print("  " + line, file=sys.stderr)
    return result.status


def main(argv):
    opts = parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, raise_interrupt)
    rundir = None
    try:
        if opts.keep:
            rundir = os.path.abspath(opts.keep)
            os.makedirs(rundir, exist_ok=True)
        else:
            rundir = tempfile.mkdtemp(prefix="nestor-run.")
        return run_in(opts, rundir)
    except RunnerError as error:
        say(str(error))
        return error.status
    except OSError as error:
        say(str(error))
        return STATUS_USAGE
    except KeyboardInterrupt:
        say("interrupted")
        return STATUS_INTERRUPTED
    finally:
        if rundir and not opts.keep:
            shutil.rmtree(rundir, ignore_errors=True)
