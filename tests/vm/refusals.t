#!/usr/bin/env python3
"""Whatever instruction of a guest's is refused, Nestor's log says which, why, and where the SDM has it: once for each
kind.

The rows are those of vmx/refusals.def; our scenarios make nearly all these mistakes on purpose.
"""
import collections
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_tap import ROOT, Run, Tap  # noqa: E402  (the path must be set first)

IMAGE = os.path.join(ROOT, "build", "guests", "scenarios.elf")
ROW = re.compile(r'^REFUSAL\((\w+), "([^"]+)", "((?:[^"\\]|\\.)*)", "((?:[^"\\]|\\.)*)"\)$', re.M)
LINE = re.compile(r"nested: ([\w' /-]+) at rip=[0-9a-f]+(?: <[^>]+>)? refused: (.*)$", re.M)

OF_MSR = re.compile(r"#GP\(0\): MSR [0-9a-f]+ = [0-9a-f]+: .+; SDM 3C 26\.1\.3$")     # vmx/msr_policy.def says why

# Refusals that no scenario of these themes can cause, and why.
UNSEEN = {
    "VMPTRLD_NO_PAGES": "Nestor's pool is not exhausted",
    "READ_ONLY_FIELD": "this CPU lets VMWRITE write all fields",
    "INVALIDATE_ABSENT": "this CPU has EPT and VPID",
    "WRONG_MODE": "the CPU itself raises it but for VMCALL, and VMXON before VMX operation",
    "VMXON_CR4": "with CR4.VMXE = 1 no CPU lets CR4 break the rule",
    "NOT_IN_CPU": "the CPU itself raises #UD for VMFUNC, and for GETSEC without SMX",
    "CR0_WP": "this CPU has no CET",
    "CR4_CET": "this CPU has no CET",
    "EVMCS_ADDRESS": "without evmcs=1; tests/vm/evmcs.t has it",
    "EVMCS_VERSION": "without evmcs=1; tests/vm/evmcs.t has it",
    "HYPERCALL": "without evmcs=1; tests/vm/evmcs.t has it",
    "HYPERCALL_CPL": "without evmcs=1; tests/host/test_hyperv.c has it",
    "MSR_LIST_NUMBER": "this CPU has no RDMSRLIST",
    "VMXON_FEATURE_CONTROL": "IA32_FEATURE_CONTROL is locked with VMX on",
}
# Parts that a line must have beyond its words: (row, instruction, values).
VALUES = [
    ("VMXON_REVISION", "VMXON", "revision identifier 4e737432, this CPU's is 4e737431"),
    ("NOT_CPL0", "VMREAD", "the CPL is 3"),
    ("ABSENT_FIELD", "VMWRITE", "no field 7fe"),
    ("INVALIDATE_TYPE", "INVEPT", "type 7 is not supported"),
]


def pattern_of(row):
    """The line's end as a pattern: numbers for the values."""
    _, outcome, text, citation = (part.replace('\\"', '"') for part in row)
    words = re.escape(f"{outcome}: {text}; {citation}")
    return re.compile(words.replace("%lx", "[0-9a-f]+").replace("%lu", r"\d+") + "$")


def main():
    tap = Tap()
    with open(os.path.join(ROOT, "vmx", "refusals.def"), encoding="utf-8") as file:
        rows = ROW.findall(re.sub(r",\n +", ", ", re.sub(r'"\n +"', "", file.read())))
    run = Run("--memory", "256", "--nestor", "stats=0xf8", "--timeout", "240", "--l1", IMAGE, "--l1-args",
              "insn field mode shadow l1-modes l1-registers vmfunc l1-task-bad-segments protect-written-by-l1").wait()
    tap.equal(run.status, 0, "the scenarios of refused instructions pass", run.out[-500:], run.err[-1000:])
    lines = LINE.findall(run.err)
    seen = collections.defaultdict(list)
    for instruction, text in lines:
        for row in rows:
            if pattern_of(row).match(text):
                seen[row[0]].append((instruction, text))
    for row in rows:
        if row[0] in UNSEEN:
            tap.ok(row[0] not in seen, f"{row[0]} is not seen: {UNSEEN[row[0]]}")
        else:
            tap.ok(seen[row[0]], f"{row[0]}: {row[1]} is said")
    for name, instruction, values in VALUES:
        tap.ok(any(line[0] == instruction and values in line[1] for line in seen[name]),
               f"{name} of {instruction}: {values}")
    msrs = [text for _, text in lines if OF_MSR.match(text)]
    tap.ok(msrs, "accesses to MSRs that L1 does not have are said")
    unknown = [text for _, text in lines if text not in msrs and not any(pattern_of(row).match(text) for row in rows)]
    tap.equal(unknown, [], "each line is a row of vmx/refusals.def")
    kinds = collections.Counter((name, line[0]) for name, found in seen.items() for line in found)
    tap.equal([kind for kind, times in kinds.items() if times > 1], [], "no kind is said twice of one instruction")
    return tap.done()


sys.exit(main())
