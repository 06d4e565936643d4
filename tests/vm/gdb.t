#!/usr/bin/env python3
"""Debian's gdb on Nestor's stub (option gdb=): the walk of docs/DEBUG.md through a bug of an L1, which is told in the
page's own commands, and what the page does not show. The stub needs a monitor trap flag that works: Bochs 3.1.
"""
import os
import re
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
os.environ["NESTOR_EMULATOR"] = "3.1"
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

PAGE = os.path.join(ROOT, "docs", "DEBUG.md")
GUESTS = os.path.join(ROOT, "build", "guests")
SYMBOLS = os.path.join(GUESTS, "pages.elf64")
WALK = re.compile(r"^\(gdb\) (.*)$", re.M)


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def listens(port):
    """True if something does, without calling it."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(f":{port:04X} 00000000:0000 0A" in line for line in table)


def debug(commands, *arguments, image="pages.elf"):
    """The runner's end, and what gdb printed."""
    port = free_port()
    run = Run("--gdb", str(port), "--memory", "256", "--timeout", "60", *arguments, "--l1", os.path.join(GUESTS, image))
    until = time.monotonic() + 20
    while not listens(port) and time.monotonic() < until and run.process.poll() is None:
        time.sleep(0.1)
    command = ["gdb", "-batch", "-nx", "-ex", "set pagination off", "-ex", "set remotetimeout 60",
               "-ex", "set confirm off", "-ex", f"target remote localhost:{port}"]
    for text in commands:
        command += ["-ex", text]
    try:
        told = subprocess.run([*command, SYMBOLS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False, cwd=ROOT).stdout
    except subprocess.TimeoutExpired as hang:
        told = (hang.stdout or b"").decode() + "\ngdb did not end"
        run.process.terminate()
    return run.wait(), told


def in_order(text, patterns):
    """The first pattern that does not come behind those before it, or None."""
    at = 0
    for pattern in patterns:
        found = re.compile(pattern).search(text, at)
        if not found:
            return pattern
        at = found.end()
    return None


def follow_page(tap):
    """Commands and answers in the page's blocks; addresses differ from compiler to compiler."""
    with open(PAGE, encoding="utf-8") as file:
        blocks = re.findall(r"^```gdb\n(.*?)^```", file.read(), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [line[6:] for line in lines if line.startswith("(gdb) ")]
    answers = [re.sub(r"0x[0-9a-f]+|(?<==)[0-9a-f]{4,}", "\x00", line) for line in lines
               if not line.startswith("(gdb) ") and line.strip() not in ("", "...")]
    patterns = [re.sub("\x00", "(?:0x)?[0-9a-f]+", re.escape(line).replace("\\\x00", "\x00")) for line in answers]
    run, told = debug(commands)
    tap.ok(len(commands) > 8 and len(answers) > 8, "the page has a walk")
    tap.equal(in_order(told, patterns), None, "gdb answers what the page shows", told, run.err[-2000:])
    tap.equal(run.status, 1, "the run ends as the guest wants", run.err[-2000:])
    tap.ok("L2's sum is 131328, and should be 524800" in run.out, "the bug is there", run.out)


def see_all(tap):
    """Breakpoints in L1 and in L2, steps over an exit of L2, all levels, memory written, and `monitor`."""
    run, told = debug([
        "break l2_main", "break add_up", "continue",
        "stepi 4", "printf \"stepped %d\\n\", $pc > (unsigned long)l2_main", "info threads",
        "thread 2", "p $_thread", "p/x $cr0", "p $rip", "thread 1", "p/x $cs", "x/2xb $pc", "thread 3",
        "continue", "set var numbers[0] = 1000000", "p numbers[0]",
        "monitor vmcs02", "monitor bitmap", "monitor trace", "monitor counters", "monitor level l1",
        "monitor level any",
        "monitor vmcs12", "monitor nonsense",
        "delete", "hbreak vmx_stop", "continue", "p $_thread", "stepi", "stepi", "bt 1", "delete", "continue"],
        "--l1-args", "right")
    for pattern, title in (
            (r"Thread 3 hit Breakpoint 1, .*l2_main", "a breakpoint stops L2 at its first instruction"),
            (r"stepped 1\n", "four steps lead over L2's CPUID, which exits to L1"),
            (r"1 +Thread 1 \(L0, Nestor\).*\n +2 +Thread 2 \(L1, waits for L2\).*\n\* 3 +Thread 3 \(L2, runs\)",
             "the levels are threads"),
            (r"\$\d+ = 0x80\d+\n\$\d+ = .*<vm_enter_raw", "L1 stands at its VMRESUME"),
            (r"Switching to thread 1.*\n(?:.*\n)*?0xffffffff8[0-9a-f]+:\t0x..\t0x..\n", "Nestor's memory can be read"),
            (r"Thread 3 hit Breakpoint 2, .*add_up", "a second breakpoint stops L2"),
            (r"\$\d+ = 1000000\n", "memory of L2 is written"),
            (r"vmcs02 at hpa=[0-9a-f]+, of vmcs12 at gpa1=[0-9a-f]+:\n(?:.*\n)*?  GUEST_RIP = 4", "monitor vmcs02"),
            (r"merged MSR bitmaps.*\nbitmap-dump: page [0-9a-f]+\nbitmap-dump: l0 ", "monitor bitmap"),
            (r"nestor: trace: L2 exits: 10 \(CPUID\)", "monitor trace"),
            (r"\| exits by reason .* L1 +L2 \|\n", "monitor counters"),
            (r"breakpoints stop in: l1\nbreakpoints stop in: any", "monitor level"),
            (r"vmcs12 at gpa1=[0-9a-f]+, launch state launched:\n  controls\n", "monitor vmcs12"),
            (r'no monitor command "nonsense"; there are:\n(?:monitor .*\n)*monitor translate: ADDRESS: .*\n(?!Prot)',
             "an unknown one lists what there is"),
            (r"Thread 2 hit (?:Temporary )?[Bb]reakpoint 3, .*vmx_stop", "a hardware breakpoint stops L1"),
            (r"\$\d+ = 2\n(?:.*\n)*?#0 .*vmx_stop", "and steps"),
            (r"exited with code 01", "gdb learns the end")):
        tap.ok(re.search(pattern, told), title, told)
    tap.ok("L2's sum is 1524799, " in run.out, "what gdb wrote is what L2 read: the sum has it", run.out,
           run.err[-2000:])


def see_limits(tap):
    """More breakpoints than the CPU has registers; Ctrl-C and leaving; and Bochs 2.7, whose flag does nothing."""
    run, told = debug(["hbreak *1", "hbreak *2", "hbreak *3", "hbreak *4", "hbreak *5", "break add_up",
                       "continue", "bt 1", "detach"], "--l1-args", "right")
    tap.ok(re.search(r"Thread 3 hit Breakpoint \d, .*add_up", told), "six breakpoints: step by step", told)
    tap.equal((run.status, "L2's sum is 524800" in run.out), (0, True), "gdb leaves, and L1 goes on to its end",
              told, run.out, run.err[-2000:])
    run, told = debug(["p $rip", "stepi", "break l2_main", "continue"], "--emulator", "2.7", "--l1-args", "right")
    tap.ok("no steps and no breakpoints" in run.err, "without a monitor trap flag the log says what cannot be", run.err)


def main():
    tap = Tap()
    follow_page(tap)
    see_all(tap)
    see_limits(tap)
    return tap.done()


sys.exit(main())
