"""Child processes that never outlive the runner."""
import ctypes
import os
import signal
import subprocess

from nestorlib.errors import RunnerError

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number=signal.SIGKILL):
    """In the child: even a parent killed by SIGKILL takes it along."""
    LIBC.prctl(PR_SET_PDEATHSIG, number)


def start(command, **kwargs):
    """Start in a session of its own: the terminal's Ctrl-C reaches only the runner."""
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True,
                                preexec_fn=die_with_parent, **kwargs)
    except FileNotFoundError as error:
        raise RunnerError(f"{command[0]} is not installed: run tools/setup") from error


def stop(process, *signals):
    """Send each signal in turn, to the whole session, until the process is gone."""
    for number, patience in signals:
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run_quietly(command, tmpdir=None):
    """Run to the end and return what it said; say it all when it failed."""
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    env=dict(os.environ, TMPDIR=tmpdir) if tmpdir else None)
    try:
        output, _ = process.communicate()
    finally:
        stop(process, (signal.SIGTERM, 2), (signal.SIGKILL, 5))
    if process.returncode != 0:
        raise RunnerError(f"{command[0]} failed:\n" + output.decode(errors="replace"))
    return output.decode(errors="replace")


def output_of(command, timeout):
    """The output of the program within that many seconds, whatever its status; then it is ended."""
    child = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
    finally:
        stop(child, (signal.SIGTERM, 2), (signal.SIGKILL, 5))
    return output.decode(errors="replace")
