"""TAP for the VM tests in Python, and the runner as a function."""
import os
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
RUNNER = os.path.join(ROOT, "tools", "nestor-run")
STACK = os.path.join(ROOT, "tools", "run-stack")

# What the tests expect is this version's where they differ; tests/vm/cpus.t has the others.
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
