#!/usr/bin/env python3
"""The cost of Nestor to a Linux that boots to init and does no virtualization: ticks under Nestor over ticks bare."""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import STACK, Run, Tap  # noqa: E402  (the path must be set first)

GOAL = 1.02
LIMIT = 1.05        # the test's own: a goal that is nearly met is no failure
TIMEOUT_S = "400"
IPS = "20000000"    # the kernel's own time has two decimals
UPTIME = re.compile(r"init runs on Linux .* ([\d.]+) s after the kernel's start")
TICKS = re.compile(r"status 0 after .*, (\d+) ticks")


def main():
    tap = Tap()
    runs = {"bare": Run("--stop", "init", "--timeout", TIMEOUT_S, "--ips", IPS, "--verbose", "--bare", program=STACK),
            "nestor": Run("--stop", "init", "--timeout", TIMEOUT_S, "--ips", IPS, "--verbose", program=STACK)}
    figures = {}
    for name, run in runs.items():
        run.wait()
        uptime, ticks = UPTIME.search(run.out), TICKS.search(run.out)
        tap.ok(uptime and ticks, f"{name}: Linux boots to init and powers off", run.err, run.out[-3000:])
        if uptime and ticks:
            figures[name] = float(uptime.group(1)), int(ticks.group(1))
            tap.comment(f"{name}: {ticks.group(1)} ticks in all, {uptime.group(1)} s of the kernel's own time")
    if len(figures) == 2:
        kernel, whole = (figures["nestor"][i] / figures["bare"][i] for i in (0, 1))
        tap.comment(f"ratio {kernel:.4f} for the kernel's boot, {whole:.4f} with BIOS and GRUB (goal {GOAL})")
        tap.ok(kernel <= LIMIT, f"the kernel's boot takes at most {LIMIT} times the ticks", f"it takes {kernel:.4f}")
    return tap.done()


sys.exit(main())
