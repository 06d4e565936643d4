#!/usr/bin/env python3
"""The walls of the sources hold, and tools/check-layers sees each kind of breach: in a copy of the sources with one
line more. And tools/check-text finds the openers of comments that it is there for.

Usage: tests/host/layers.t
"""
import importlib.machinery
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECK = ROOT / "tools" / "check-layers"
FOLDERS = ("boot", "kernel", "mm", "l1", "vmx", "nested", "start")

# (what is tried, file, line to append, words of the fault)
BREACHES = [
    ("vmx/ includes nested/", "vmx/run.c", '#include "nested/nested.h"', "vmx/ may not include nested/nested.h"),
    ("mm/ includes vmx/", "mm/page.c", '#include "vmx/vcpu.h"', "mm/ may not include vmx/vcpu.h"),
    ("l1/ includes vmx/", "l1/l1_load.c", '#include "vmx/vmcs.h"', "l1/ may not include vmx/vmcs.h"),
    ("nested/bitmap/ includes nested/", "nested/bitmap/merged.c", '#include "nested/slot.h"',
     "may not include nested/slot.h"),
    ("nested/ includes start/", "nested/nested.c", '#include "start/machine.h"',
     "nested/ may not include start/machine.h"),
    ("nested/rules/ includes VMREAD", "nested/rules/decide.c", '#include "vmx/vmcs.h"', "vmx/vmcs.h is not pure"),
    ("nested/rules/ includes RDMSR", "nested/rules/check.c", '#include "kernel/x86.h"', "kernel/x86.h is not pure"),
    ("nested/rules/ includes L1's memory", "nested/rules/merge.c", '#include "mm/gmem.h"', "mm/gmem.h is not pure"),
    ("nested/rules/ reaches the per-CPU block through a pure header", "vmx/vmcs_table.h", '#include "kernel/percpu.h"',
     "vmx/vmcs_table.h -> kernel/percpu.h: kernel/percpu.h is not pure"),
    ("a pure header gets an instruction", "vmx/vmx_bits.h",
     'static inline void stop(void) { __asm__ volatile("hlt"); }', "vmx/vmx_bits.h: has an instruction in it"),
    ("two files call each other", "vmx/event.c", "void circle(struct vcpu *vcpu) { vcpu_run(vcpu); }",
     "a circle of files: "),
    ("a file without a header of its name is declared in two", "vmx/event.h", "void exit_io(struct vcpu *vcpu);",
     "vmx/exit_io.c: vmx/event.h, vmx/exit_handlers.h declare what is in it"),
    ("a new file without a header of its name", "vmx/novel.c", "", "vmx/novel.c: it has no header of its name"),
    ("a part that has a header by now", "vmx/exit_io.h", "", "vmx/exit_io.c: it has a header of its name"),
    ("two files have one name", "vmx/page.c", "", "mm/page.c has the same name"),
]

# (line of nested/x.c and guests/x.h, whether it is a fault)
OPENERS = [
    ("/* What is left to do. */", True),
    ("    int x; /* Whether it is so. */", True),
    ("/* The same; most are empty. */", True),
    ("/* All but for the last. */", True),
    ("/* Whatever L1 says. */", False),
    ("/* L1 learns what it is, and whether. */", False),
    ('    log("the last but for one: %u", x);', False),
    ("/* The same of the other. */", False),
]


OPENERS_PYTHON = [
    ('    """' 'What is left to do."""', True),
    ("#" " Whether it is so.", True),
    ("    x = 1     #" " What it is.", True),
    ("    # All but for the last.", True),
    ('    """Tells what is left to do."""', False),
    ('    tap.ok(x, "Of what a title says")', False),
]


def text_faults(name, line):
    loader = importlib.machinery.SourceFileLoader("check_text", str(ROOT / "tools" / "check-text"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_text", loader))
    loader.exec_module(module)
    return list(module.faults_of(name, line + "\n"))


def check_function_length(number):
    """40 lines pass, 41 do not; of a test any number does."""
    texts = ["static int f(int x,\n             int y)\n{\n" + "    x++;\n" * lines + "}" for lines in (40, 41)]
    found = [len(text_faults("nested/x.c", text)) for text in texts] + [len(text_faults("tests/host/x.c", texts[1]))]
    good = found == [0, 1, 0]
    print(f"{'ok' if good else 'not ok'} {number} - a function that is too long is seen")
    if not good:
        print(f"# {found}")
    return not good


def check_openers(number):
    wrong = [line for line, fault in OPENERS if bool(text_faults("nested/x.c", line)) != fault]
    wrong += [line for line, fault in OPENERS if bool(text_faults("guests/lib/x.h", line)) != fault]
    wrong += [line for line, fault in OPENERS_PYTHON if bool(text_faults("tests/vm/x.t", line)) != fault]
    wrong += [line for line, _ in OPENERS if text_faults("docs/x.md", line)]
    print(f"{'not ok' if wrong else 'ok'} {number} - openers of comments are told apart")
    print("".join(f"# {line}\n" for line in wrong), end="")
    return bool(wrong)


def check(root):
    done = subprocess.run([CHECK, root], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def breach(file, line):
    """The words of the check on a copy with the line at the file's end."""
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, root / folder)
        with open(root / file, "a", encoding="utf-8") as out:
            out.write(f"\n{line}\n")
        return check(root)


def main():
    print(f"1..{len(BREACHES) + 3}")
    status, output = check(ROOT)
    failed = status != 0
    print(f"{'not ok' if failed else 'ok'} 1 - the walls hold")
    print("".join(f"# {line}\n" for line in output.splitlines()), end="")
    for number, (title, file, line, words) in enumerate(BREACHES, 2):
        status, output = breach(file, line)
        good = status == 1 and words in output
        failed |= not good
        print(f"{'ok' if good else 'not ok'} {number} - seen: {title}")
        if not good:
            print("".join(f"# {text}\n" for text in (f"status {status}, wanted: {words}", *output.splitlines())),
                  end="")
    failed |= check_openers(len(BREACHES) + 2)
    return check_function_length(len(BREACHES) + 3) or failed


sys.exit(main())
