#!/usr/bin/env python3
"""Each .c of nested/ and vmx/ is linked into some host test, or listed here with the reason why not. The list only
shrinks: a file that a test links by now, or that is gone, may not stand in it.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "vm"))

from lib_tap import Tap  # noqa: E402

SOURCES = re.compile(r"/\* *sources:([^*]*)\*/")
INSTRUCTIONS = "it is VMX instructions and privileged registers from end to end; the scenarios see it"
NOT_LINKED = {
    "nested/entry_log.c": "it only prints; tests/vm/entry-log.t reads each kind of line",
    "nested/ept_log.c": "it only prints; tests/vm/mistakes.t reads each kind of line",
    "nested/host_state.c":
        "vmcs01 field by field; the themes state and exit of the scenarios compare it with the bare CPU",
    "nested/insn_fields.c": "the themes field and shadow of the scenarios try each field and form",
    "nested/lint.c": "it only prints; tests/vm/mistakes.t reads each kind of line",
    "nested/msr_area.c": "the theme msrarea of the scenarios",
    "nested/summary.c": "it only prints",
    "nested/vmcs12_dump.c": "it only prints",
    "vmx/cr.c": "the themes l1-registers and l1-modes of the scenarios",
    "vmx/dump.c": "it only prints",
    "vmx/event.c": "the themes inject and nmi of the scenarios, tests/vm/broken-events.t",
    "vmx/exit_cr.c": "the themes l1-registers and l1-modes of the scenarios",
    "vmx/exit_io.c": "the theme l1-io of the scenarios",
    "vmx/exit_msr.c": "the theme exit-msr of the scenarios, tests/vm/msr-forms.t",
    "vmx/mmio.c": "loads and stores of devices; the theme l1-memory of the scenarios",
    "vmx/measure.c": "VMX instructions and RDTSC; tests/vm/measure.t reads the table",
    "vmx/probe.c": INSTRUCTIONS,
    "vmx/probe_guest.c": INSTRUCTIONS,
    "vmx/task_switch_exit.c": "vmx/task_switch.c, which decides, is linked; the themes l1-task of the scenarios",
    "vmx/vmcs_present.c": "VMX instructions on the state of a running processor; tests/vm/efi.t",
    "vmx/vmcs_setup.c": INSTRUCTIONS,
    "vmx/refusal.c": "it only prints; tests/vm/refusals.t reads each kind of line",
    "vmx/shutdown.c": "it only prints; tests/vm/mistakes.t has a shutdown of each level",
    "vmx/trace_words.c": "it only prints; tests/vm/log.t reads it",
    "vmx/vmx_values.c": "constants for assembly, which the build reads from it; it is linked nowhere",
}


def main():
    tap = Tap()
    linked = set()
    for path in (ROOT / "tests" / "host").glob("test_*.c"):
        for match in SOURCES.finditer(path.read_text(encoding="utf-8")[:4000]):
            linked.update(match.group(1).split())
    files = {str(path.relative_to(ROOT)) for folder in ("nested", "vmx") for path in (ROOT / folder).rglob("*.c")}
    missing = sorted(files - linked - set(NOT_LINKED))
    tap.equal(missing, [], "each file of nested/ and vmx/ is in some host test, or listed with a reason")
    listed = sorted(set(NOT_LINKED) & linked) + sorted(set(NOT_LINKED) - files)
    tap.equal(listed, [], "the list has no file that a host test links, and none that is gone")
    tap.comment(f"{len(files & linked)} of {len(files)} files are linked")
    return tap.done()


sys.exit(main())
