#!/usr/bin/env python3
"""The runner's own behaviour: statuses, strings, files, signals, and what it leaves behind."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib.bochs import Bochs  # noqa: E402
from nestorlib.symbols import Symbols  # noqa: E402
from nestorlib.where import NOT_READ, Where  # noqa: E402

NESTOR = os.path.join(ROOT, "build", "nestor.elf")

WHERE = re.compile(r"^  processor 0 was at rip=[0-9a-f]+: \S+", re.M)


def bare(work, *args, env=None):
    return Run("--bare", "--l1", os.path.join(work, "probe"), "--memory", "32", "--timeout", "60", *args, env=env)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [int(child) for child in children.read().split()]


def is_gone(pid):
    for _ in range(50):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as state:
                if state.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def wait_for_emulator(run):
    """The runner's child that is the emulator (GRUB's tools are its children before)."""
    for _ in range(100):
        for child in children_of(run.process.pid):
            try:
                with open(f"/proc/{child}/comm", encoding="ascii") as name:
                    if name.read().startswith(("bochs", "ld-linux")):    # a fetched one is run by its ld.so
                        time.sleep(0.5)
                        return child
            except FileNotFoundError:
                continue
        time.sleep(0.1)
    return None


def check_wrong_input(tap, work):
    run = bare(work, "--module", "/no/such/file").wait()
    tap.ok(run.status == 2 and "/no/such/file" in run.err and run.err.count("\n") == 1,
           "a missing module: one line, status 2", run.err)
    run = Run("--bare", "--l1", __file__).wait()
    tap.ok(run.status == 2 and run.err.count("\n") == 1, "a file that is no kernel: one line, status 2", run.err)
    run = Run("--bare", "--l1", "none").wait()
    tap.equal(run.status, 2, "--bare without an image: status 2", run.err)
    run = Run("--l1", "none", "--nestor-elf", "/no/such/nestor").wait()
    tap.ok(run.status == 2 and "/no/such/nestor" in run.err, "no Nestor: status 2", run.err)
    run = Run("--l1", "none", "--nestor-elf", __file__).wait()
    tap.ok(run.status == 125 and "no multiboot header" in run.err, "what GRUB cannot load: its words, status 125",
           run.err)
    run = bare(work, "--cpu", "no_such_cpu", "--l1-args", "0").wait()
    tap.ok(run.status == 2 and "no_such_cpu" in run.err, "an unknown CPU model is named", run.err)
    for name, words in (("1.0", "known are"), ("/no/such/bochs", "/no/such/bochs"), ("/bin/true", "/bin/true")):
        run = bare(work, "--emulator", name).wait()
        tap.ok(run.status == 2 and words in run.err and run.err.count("\n") == 1,
               f"emulator {name}: one line, status 2",
               run.err)


def check_statuses(tap, work):
    for ending, wanted, title in (("7", 7, "L1's status"), ("0", 0, "L1's success"), ("p", 0, "ACPI power-off"),
                                  ("t", 125, "a triple fault")):
        run = bare(work, "--l1-args", ending).wait()
        tap.equal(run.status, wanted, f"{title}: status {wanted}", run.err)
    tap.ok("exception" in run.err, "the emulator's last words are shown", run.err)
    begin = time.monotonic()
    run = bare(work, "--l1-args", "h", "--timeout", "4").wait()
    tap.equal(run.status, 124, "a hang: status 124", run.err)
    tap.ok(time.monotonic() - begin < 12, "and it ends near its time")
    tap.ok(WHERE.search(run.err), "it says where the processor was", run.err)
    run = bare(work, "--l1-args", "Kernel panic - not syncing: h", "--panic-ends").wait()
    tap.equal(run.status, 125, "a panic of L1 ends the run with --panic-ends", run.err)
    tap.ok("L1 panicked: [probe Kernel panic" in run.err and WHERE.search(run.err), "and says what and where", run.err)


def check_where(tap):
    """A place in Nestor's own code, one behind its end, and one in a guest, as Bochs's debugger tells of them."""
    table = subprocess.run(["nm", NESTOR], stdout=subprocess.PIPE, text=True, check=True).stdout
    handler, end = (int(re.search(rf"^(\w+) \w {name}$", table, re.M).group(1), 16)
                    for name in ("vcpu_handle_exit", "image_text_end"))
    lines = [f"({i}) [0x000000001000] 0008:{rip:016x} (unk. ctxt): hlt                       ; f4"
             for i, rip in enumerate((handler + 2, end + 0x100, 0x401000))]
    sinks = SimpleNamespace(symbols=Symbols("/nonexistent"), nestor=Symbols(NESTOR))
    tap.equal(Bochs.where(lines, [], sinks, ["L1", "L1", "L2"]),
              [f"processor 0 was in Nestor (L0) at rip={handler + 2:x} <vcpu_handle_exit+0x2>: hlt "
               "(physical address 1000)",
               f"processor 1 was in L1 at rip={end + 0x100:x}: hlt (physical address 1000)",
               "processor 2 was in L2 at rip=401000: hlt (physical address 1000)"], "the end says whose code it was in")
    dumped = ["00171922832i[CPU0  ] | RIP=0000000000401002 (0000000000401000)",
              "00171922832i[CPU0  ] 0x0000000000401000>> jmp .-2  (0x00401000) : EBFE"]
    tap.equal(Bochs.where([], dumped, sinks, []), ["processor 0 was at rip=401000: jmp .-2 (0x00401000)"],
              "so does an emulator without debugger")
    other = subprocess.Popen(["sleep", "60"])
    found = Where(other.pid, "Nestor's carve-out at 3d600000", sinks.nestor)
    other.kill()
    other.wait()
    tap.equal((found.levels, found.lines), ([], [NOT_READ]), "a process without Nestor's image is said to be that")


def check_strings(tap, work):
    module = os.path.join(work, "a=b")
    with open(module, "w", encoding="ascii") as file:
        file.write("x")
    run = bare(work, "--l1-args", '$a;b "c d" {e} #7', "--module", module, "--module", f"{module}=f $g").wait()
    tap.equal(run.out.splitlines(), ['[probe $a;b "c d" {e} #7]', "[]", "[f $g]"],
              "L1's strings arrive as given, after argv[0]")
    tap.equal(run.status, 7, "and its status with them", run.err)


def check_files(tap, work):
    keep, log, stats = (os.path.join(work, name) for name in ("keep", "l1.log", "stats"))
    os.mkdir(keep)
    with open(os.path.join(keep, "boot.iso.lock"), "w", encoding="ascii") as lock:
        lock.write("1\n")
    run = bare(work, "--l1-args", "7", "--keep", keep, "--l1-log", log, "--stats", stats).wait()
    tap.equal(run.status, 7, "a stale lock file does not matter", run.err)
    tap.ok({"boot.iso", "bochsrc", "machine.log", "com1.log"} <= set(os.listdir(keep)),
           "--keep keeps image, configuration and logs", os.listdir(keep))
    with open(log, encoding="ascii") as file:
        tap.equal((file.read(), run.out), ("[probe 7]\n", ""), "--l1-log takes the console")
    with open(stats, encoding="ascii") as file:
        fields = dict(pair.split("=") for pair in file.read().split())
    tap.ok(int(fields["ticks"]) > 10_000_000 and fields["status"] == "7", "--stats tells ticks and status", fields)


def check_parallel(tap, work):
    runs = [bare(work, "--l1-args", str(i)) for i in (3, 4)]
    for i, run in zip((3, 4), runs):
        run.wait()
        tap.equal((run.status, run.out), (i, f"[probe {i}]\n"), f"parallel run {i} has its own output", run.err)


def check_emulators(tap, work):
    run = Run("--list-cpus").wait()
    tap.ok(run.status == 0 and "corei7_skylake_x" in run.out, "--list-cpus names CPU models", run.err)
    for version in re.findall(r"^Bochs (\S+)", run.out, re.M):
        listed = bare(work, "--l1-args", "7", "--emulator", version).wait()
        tap.equal((listed.status, listed.out), (7, "[probe 7]\n"), f"--emulator {version} runs it", listed.err)
        twice = bare(work, "--l1-args", "d", "--emulator", version, "--cpus", "2").wait()
        tap.equal(twice.status, 8,
                  f"{version}: with two processors a fault of a handler's first instruction has its address", twice.err)


def check_spaces(tap, work):
    """The tree lies where a path has spaces, and so do the emulator's own files."""
    fetched = os.path.join(ROOT, "build", "emulators")
    versions = [name for name in sorted(os.listdir(fetched)) if os.path.exists(os.path.join(fetched, name, "bochs"))]
    if not versions:
        tap.ok(True, "the runner in a path with spaces # SKIP no emulator was fetched into this tree")
        return
    tree = os.path.join(work, "a tree of mine")
    for part in ("tools", "kernel", os.path.join("build", "emulators", versions[-1])):
        shutil.copytree(os.path.join(ROOT, part), os.path.join(tree, part))
    run = Run("--bare", "--l1", shutil.copy(os.path.join(work, "probe"), tree), "--l1-args", "7", "--memory", "32",
              "--timeout", "60", "--keep", os.path.join(tree, "kept files"), "--emulator", versions[-1],
              program=os.path.join(tree, "tools", "nestor-run")).wait()
    tap.equal(run.status, 7, "the runner in a path with spaces", run.err)


def check_lost_port(tap, work):
    """Bochs listens for a viewer. Of two that start at the same moment one may find no port, and is started again."""
    library, once = (os.path.join(work, name) for name in ("listen.so", "once"))
    source = os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib_listen.c")
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source], check=True)
    with open(once, "w", encoding="ascii"):
        pass
    run = bare(work, "--l1-args", "3", env={"LD_PRELOAD": library, "LISTEN_FAILS": once}).wait()
    tap.ok(not os.path.exists(once), "the emulator's first listen() failed")
    tap.equal((run.status, run.out), (3, "[probe 3]\n"), "and it is started again", run.err)


def check_signals(tap, work):
    temporary = os.path.join(work, "tmp")
    os.mkdir(temporary)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
        run = bare(work, "--l1-args", "h", env={"TMPDIR": temporary})
        emulator = wait_for_emulator(run)
        run.process.send_signal(number)
        run.wait()
        tap.equal(run.status, status, f"{number.name}: status {status}", run.err)
        tap.ok(emulator and is_gone(emulator), f"{number.name}: no emulator is left")
        if number == signal.SIGINT:
            tap.ok("nestor-run: interrupted" in run.err, "SIGINT: that is said", run.err)
        if number != signal.SIGKILL:
            tap.equal(os.listdir(temporary), [], f"{number.name}: no file is left")


def check_nestor(tap, work):
    if not os.path.exists(NESTOR):
        tap.ok(True, "under Nestor # SKIP build/nestor.elf is not built")
        return
    run = Run("--l1", os.path.join(work, "probe"), "--l1-args", '$a "c d" 7', "--module", f"{work}/probe=f $g").wait()
    l1_lines = [line for line in run.out.splitlines() if not line.startswith("nestor: ")]
    tap.equal(l1_lines, ['[probe $a "c d" 7]', "[f $g]"], "under Nestor the same strings arrive", run.err)
    tap.equal(run.status, 7, "and the same status comes back", run.err)
    tap.ok("nestor| " in run.err, "Nestor's log is on stderr, prefixed", run.err)


NOISE = re.compile(r"^  \d{11}[a-z]\[", re.M)


def check_ends(tap, work):
    """An end that is not Nestor's own doing tells the level, the place, the last events and the summary."""
    run = Run("--l1", os.path.join(work, "probe"), "--l1-args", "Kernel panic - not syncing: h", "--panic-ends",
              "--timeout", "60").wait()
    tap.equal(run.status, 125, "a panic under Nestor", run.err)
    tap.ok("processor 0 was in L1 at rip=" in run.err and "Nestor's summary" in run.err and not NOISE.search(run.err),
           "it says where, and the summary, without the emulator's words", run.err)
    run = Run("--l1", os.path.join(work, "probe"), "--l1-args", "t", "--timeout", "60").wait()
    tap.equal(run.status, 125, "a triple fault under Nestor", run.err)
    tap.ok("L1 shut down by a triple fault" in run.err and not NOISE.search(run.err),
           "Nestor tells of it, and the emulator nothing", run.err)
    for version in ("2.7", "3.1"):
        run = Run("--l1", os.path.join(ROOT, "build", "guests", "mini.elf"), "--l1-args", "endless-guest",
                  "--emulator", version, "--memory", "256", "--timeout", "20").wait()
        if run.status == 2:
            tap.ok(True, f"{version} # SKIP it is not here")
            continue
        tap.equal(run.status, 124, f"{version}: an L2 that hangs", run.err)
        for pattern in (r"  processor 0 was in L2 at rip=[0-9a-f]+ <guest\+0x[0-9a-f]+>: jmp",
                        r"    L2 exits: 10 \(CPUID\) at rip=[0-9a-f]+ <guest\+0x[0-9a-f]+>",
                        r"  \|  10 CPUID +\d+ +1 \|", r"  \| nested entries \(VMLAUNCH and VMRESUME of L1\) +2 \|"):
            tap.ok(re.search(f"^{pattern}", run.err, re.M), f"{version}: it says {pattern}", run.err[-4000:])
        tap.ok(not NOISE.search(run.err), f"{version}: and nothing of the emulator", run.err)


def main():
    tap = Tap()
    work = tempfile.mkdtemp(prefix="runner-test.")
    try:
        source = os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib_probe.asm")
        subprocess.run(["nasm", "-f", "bin", "-o", os.path.join(work, "probe"), source], check=True)
        for check in (check_wrong_input, check_statuses, check_strings, check_files, check_parallel, check_emulators,
                      check_spaces, check_lost_port, check_signals, check_nestor, check_ends):
            check(tap, work)
        check_where(tap)
    finally:
        shutil.rmtree(work)
    return tap.done()


sys.exit(main())
