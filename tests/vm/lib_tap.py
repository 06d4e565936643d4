"""TAP for the VM tests in Python, and the runner as a function."""
import os
import re
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
RUNNER = os.path.join(ROOT, "tools", "nestor-run")
STACK = os.path.join(ROOT, "tools", "run-stack")

# The tests expect this version where versions differ; tests/vm/cpus.t has the others.
os.environ.setdefault("NESTOR_EMULATOR", "2.7")


class Tap:
    """Counts as it goes; the plan comes last. done() is the script's exit status."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def ok(self, passed, title, *diagnostics):
        self.count += 1
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.count} - {title}")
        if not passed:
            for text in diagnostics:
                for line in str(text).splitlines():
                    print("# " + line)
                    if os.environ.get("HARNESS_ACTIVE"):    # prove shows what goes to stderr alone
                        print("# " + line, file=sys.stderr)
        sys.stdout.flush()
        return passed

    def equal(self, got, wanted, title, *diagnostics):
        return self.ok(got == wanted, title, f"got    {got!r}", f"wanted {wanted!r}", *diagnostics)

    def comment(self, text):
        print("# " + text, flush=True)

    def done(self):
        print(f"1..{self.count}", flush=True)
        return 1 if self.failed else 0


def heed_sigint():
    """A shell starts what it puts in the background with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Run:
    """The runner with these arguments: start it, then wait() for status, out and err."""

    def __init__(self, *args, env=None, program=RUNNER):
        self.process = subprocess.Popen([program, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace",
                                        preexec_fn=heed_sigint,
                                        env=dict(os.environ, **(env or {})))
        self.out = self.err = ""
        self.status = None

    def wait(self):
        self.out, self.err = self.process.communicate()
        self.status = self.process.returncode
        return self


SCENARIO_RESULT = re.compile(r"^(not )?ok \d+ - (\S+?)( # SKIP .*)?$", re.M)
SCENARIO_LINE = re.compile(r"^(?:not ok .*|# guests.*)$", re.M)


def run_scenarios(tap, subject, emulator, cpu, words, kinds, bare_faults=()):
    """These scenarios on a CPU model, bare and on Nestor's build CHECKED=1 with the options of each kind ({"name":
    "options"}). All must pass and none be skipped; `bare_faults` may fail bare. A dict of the runs by name, each with
    the names of its scenarios in run.names; empty, with one line, where that emulator was not fetched."""
    sys.path.insert(0, os.path.join(ROOT, "tools"))
    from nestorlib import emulators, errors  # pylint: disable=import-outside-toplevel
    try:
        emulators.choose(emulator)
    except errors.RunnerError as error:
        tap.ok(True, f"{subject} # SKIP {error}")
        return {}
    common = ["--emulator", emulator, "--cpu", cpu, "--memory", "256", "--timeout", "300",
              "--l1", os.path.join(ROOT, "build", "guests", "scenarios.elf"), "--l1-args", " ".join(words)]
    checked = os.path.join(ROOT, "build", "checked", "nestor.elf")
    runs = {"bare": Run("--bare", *common)}
    for kind, options in kinds.items():
        runs[kind] = Run("--nestor-elf", checked, "--nestor", options, *common)
    for kind, run in runs.items():
        run.wait()
        results = SCENARIO_RESULT.findall(run.out)
        run.names = [name for _, name, _ in results]
        excused = bare_faults if kind == "bare" else ()
        tap.equal([name for failed, name, _ in results if failed and name not in excused], [],
                  f"{kind}: {subject} do what the SDM says", *SCENARIO_LINE.findall(run.out), run.err[-1500:])
        tap.equal([name for _, name, skipped in results if skipped], [], f"{kind}: none was skipped")
    return runs
