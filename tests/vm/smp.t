#!/usr/bin/env python3
"""Two processors: the guest smp, which starts, restarts, races and interrupts the second one, and shares VMCSs with it.

Usage: tests/vm/smp.t [ROUNDS], a multiple of 4
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "smp.elf")
# The build that asserts the order of locks: `make nestor CHECKED=1`.
CHECKED = os.path.join(ROOT, "build", "checked", "nestor.elf")
PLAIN = os.path.join(ROOT, "build", "nestor.elf")
COMMON = ["--cpus", "2", "--ips", "4000000", "--memory", "256", "--nestor-elf", CHECKED]
RESULT = re.compile(r"^(not )?ok \d+ - (\S+)$", re.M)
COUNTS = re.compile(r"^# (\d+) rounds, \d+ entries, (\d+) lost, \d+ seen before the signal, (\d+) NMIs", re.M)
KICKS = re.compile(r"processors kicked to pass an INVEPT +(\d+)")
STORES = re.compile(r"^# (\d+) rounds of L2's stores, twice: (\d+) and (\d+) lost", re.M)
LISTS = re.compile(r"^# (\d+) rounds of stores of lists: (\d+) lost, (\d+) wrong", re.M)
BARE = re.compile(r"^# (\d+) entries without L0's bits", re.M)
STARTUP_TESTS = ["start", "restart", "init_in_l2", "init_in_root", "init_before_l2", "wait_for_sipi", "wait_drops_init"]
TESTS = STARTUP_TESTS + ["race", "race_of_l2", "race_of_lists", "restart_again", "migration", "travel", "shared_vmcs"]
FAULTS = {"skip-kick": "without kicks", "read-first": "when the page is read before it is protected"}


def run(rounds, options, stores=500, elf=CHECKED):
    return Run(*COMMON, "--nestor-elf", elf, "--timeout", str(200 + rounds // 5), "--nestor", f"stats=0xf8 {options}",
               "--l1", IMAGE, "--l1-args", f"rounds={rounds} stores={stores}").wait()


def check_all(tap, rounds):
    done = run(rounds, "")
    results = {name: not failed for failed, name in RESULT.findall(done.out)}
    for name in TESTS:
        tap.ok(results.get(name), f"two processors: {name}", done.out[-2000:], done.err[-3000:])
    tap.equal(done.status, 0, "the run ends with status 0", done.err[-2000:])
    counts = COUNTS.search(done.out)
    tap.equal(counts and counts.groups(), (str(rounds), "0", str(rounds // 2)),
              "all rounds ran, no store was lost, each NMI came once")
    bare = BARE.search(done.out)
    tap.equal(bare and bare.group(1), "0", "every entry had L0's bits")
    tap.comment(counts.group(0)[2:] if counts else "")
    stores = STORES.search(done.out)
    tap.equal(stores and stores.groups()[1:], ("0", "0"), "no store of an L2 through EPT12 was lost")
    tap.comment(stores.group(0)[2:] if stores else "")
    lists = LISTS.search(done.out)
    tap.equal(lists and lists.groups(), (str(rounds), "0", "0"), "no store of a list of MSRs was lost")
    kicks = KICKS.search(done.err)
    tap.ok(kicks and int(kicks.group(1)) >= rounds, "the second processor was kicked in each round", done.err[-2000:])


def check_faults(tap):
    """The second processor stores past the trace, or before it: the race must show it."""
    for fault, meaning in FAULTS.items():
        done = run(100, f"fault={fault}", 4)
        counts = COUNTS.search(done.out)
        tap.ok(counts and int(counts.group(2)) > 0, f"{meaning} stores are lost", done.out[-2000:], done.err[-2000:])
        tap.equal(done.status, 1, "and the run fails")
    lists = LISTS.search(run(100, "quiet-fault=untold", 4).out)
    tap.ok(lists and int(lists.group(2)) > 0, "when nobody is told of them, stores of lists of MSRs are lost")
    done = run(4, "fault=early-generation", 100)
    tap.ok("ledger: processor 1 was told" in done.err, 
           "the ledger of flushes sees a generation that moves before EPT02 loses W",
           done.err[-2000:])
    done = run(4, "fault=early-generation", 100, PLAIN)
    stores = STORES.search(done.out)
    tap.ok(stores and int(stores.group(2)) > 90, "stores of L2 are lost when the generation moves before EPT02 loses W",
           done.out[-2000:], done.err[-2000:])


def check_limit(tap):
    done = Run(*COMMON, "--nestor", "cpus=1", "--l1", os.path.join(os.path.dirname(IMAGE), "demo.elf")).wait()
    tap.ok("1 further processors are hidden" in done.err, "cpus=1 hides the second processor", done.err[-2000:])
    tap.equal(done.status, 0, "and L1 runs on one", done.out[-500:])


def check_apic_off(tap):
    """The page of an APIC that is off takes stores of every width, beside another processor's that is on."""
    done = Run(*COMMON, "--nestor", "stats=0xf8 msr-policy=0xea0", "--l1",
               os.path.join(os.path.dirname(IMAGE), "scenarios.elf"), "--l1-args",
               "l1-registers-apic-off-stores").wait()
    tap.ok("ok 1 - l1-registers-apic-off-stores\n" in done.out.replace("\r", ""),
           "stores to the page of an APIC that is off are lost", done.out[-500:], done.err[-2000:])


def check_exits(tap):
    """startup=exit needs a CPU that makes VM exits of INIT and start-up IPIs: the outer Nestor's L1 has one."""
    done = Run("--cpus", "2", "--ips", "4000000", "--timeout", "400", "--", IMAGE, "startup=1",
               program=os.path.join(ROOT, "tools", "run-nested"), env={"INNER": "startup=exit"}).wait()
    results = {name: not failed for failed, name in RESULT.findall(done.out.replace("\r", ""))}
    for name in STARTUP_TESTS:
        tap.ok(results.get(name), f"startup=exit, in an inner Nestor: {name}", done.out[-2000:], done.err[-3000:])
    tap.equal(done.status, 0, "and status 0 comes through all levels")


def main():
    tap = Tap()
    check_all(tap, int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    check_faults(tap)
    check_limit(tap)
    check_apic_off(tap)
    check_exits(tap)
    return tap.done()


sys.exit(main())
