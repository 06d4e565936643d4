#!/usr/bin/env python3
"""nestor-run --trace: the demo's run as a Perfetto trace and as Chrome's JSON, with every exit and entry of it.

The Perfetto file is read by the numbers of protobuf's fields, with code that shares nothing with its writer.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

DEMO = os.path.join(ROOT, "build", "guests", "demo.elf")
NESTORCTL = os.path.join(ROOT, "build", "nestorctl", "nestorctl")
BEGIN, END, INSTANT = 1, 2, 3


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """[(number, value)] of a message; only the two kinds that the format uses."""
    at, found = 0, []
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
            assert len(value) == size
        else:
            raise ValueError(f"wire type {key & 7}")
        found.append((key >> 3, value))
    return found


def read_perfetto(path):
    """The tracks' names, and the events as (track, time, kind, name, annotation names)."""
    with open(path, "rb") as trace:
        packets = [dict(fields(packet)) for number, packet in fields(trace.read()) if number == 1]
    tracks, events = {}, []
    for packet in packets:
        if 60 in packet:
            descriptor = dict(fields(packet[60]))
            tracks[descriptor[1]] = descriptor[2].decode()
        elif 11 in packet:
            event = fields(packet[11])
            values = dict(event)
            names = [dict(fields(value))[10].decode() for number, value in event if number == 4]
            events.append((values[11], packet[8], values[9], values.get(23, b"").decode(), names))
    return tracks, events


def check_order(tap, tracks, events):
    last, depth, faults = {}, {}, []
    for track, time, kind, name, _ in events:
        if track not in tracks:
            faults.append(f"no track {track}")
        if time < last.get(track, 0):
            faults.append(f"{name} of {tracks.get(track)} goes back in time")
        last[track] = time
        depth[track] = depth.get(track, 0) + {BEGIN: 1, END: -1, INSTANT: 0}[kind]
        if depth[track] not in (0, 1):
            faults.append(f"{depth[track]} slices are open on {tracks.get(track)}")
    tap.ok(not faults and not any(depth.values()),
           "slices begin and end in turn, in order of time, on tracks that have names", *faults[:9])


def total(log, name):
    return int(re.search(rf"\| {re.escape(name)} +(\d+) \|", log).group(1))


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix="trace.") as work:
        path, keep = os.path.join(work, "demo.pftrace"), os.path.join(work, "run")
        run = Run("--l1", DEMO, "--trace", path, "--keep", keep, "--timeout", "240").wait()
        if not tap.ok(run.status == 0 and os.path.exists(path), "the demo runs with --trace", run.err[-2000:]):
            return tap.done()
        tracks, events = read_perfetto(path)
        tap.equal(sorted(tracks.values()),
                  ["L0 (Nestor) of processor 0", "L1 of processor 0", "L2 of processor 0", "processor 0"],
                  "the tracks are there")
        check_order(tap, tracks, events)
        for level in ("L1", "L2"):
            exits = sum(kind == BEGIN and f"rip of {level}" in names for _, _, kind, _, names in events)
            # The summary counts nothing after the last record; the exit that ends the run is in both.
            tap.equal(exits, total(run.err, f"exits of {level}"),
                      f"each exit of {level} in the summary is a slice of L0's")
        runs = sum(kind == BEGIN and name == "L2" for _, _, kind, name, _ in events)
        tap.ok(runs >= total(run.err, "nested entries (VMLAUNCH and VMRESUME of L1)"),
               "each nested entry is a slice of L2's", runs)
        marks = [name for _, _, kind, name, _ in events if kind == INSTANT]
        tap.equal(marks.count("store to a traced page"), total(run.err, "write faults on traced pages"),
                  "each store to a traced page is marked")
        tap.equal(marks.count("MSR bitmap merged"), total(run.err, "MSR bitmap merges"), "and each merge")
        chrome = os.path.join(work, "demo.json")
        subprocess.run([NESTORCTL, "trace", "-f", os.path.join(keep, "records.raw"), "-k", "20000", "-j", "-o", chrome],
                       check=True,
                       stdout=subprocess.DEVNULL)
        with open(chrome, encoding="utf-8") as file:
            shown = [event for event in json.load(file)["traceEvents"] if event["ph"] in "BEi"]
        tap.equal(len(shown), len(events), "Chrome's JSON has the same events")
        with open(os.path.join(keep, "records.raw"), "rb") as raw:
            half = raw.read()[:1000]
        cut = os.path.join(work, "cut.raw")
        with open(cut, "wb") as out:
            out.write(half)
        done = subprocess.run([NESTORCTL, "trace", "-f", cut, "-k", "1", "-o", os.path.join(work, "none")],
                              capture_output=True,
                              text=True, check=False)
        tap.ok(done.returncode == 1 and "cut short" in done.stderr, "a file that is cut short is refused in words",
               done.stderr)
    return tap.done()


sys.exit(main())
