#!/usr/bin/env python3
"""nestor.efi: the firmware goes on as L1 and starts GRUB's other entry, a Linux with KVM, by itself.

GRUB, started by OVMF, chainloads nestor.efi and then boots a kernel that knows nothing of Nestor. Bochs 3.1 is needed.
Usage: tests/vm/efi.t [stack|smp|menu|refusal|signed|shim] ...
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from lib_console import Console  # noqa: E402  (the path must be set first)
from lib_ovmf import console_until  # noqa: E402
from lib_tap import ROOT, RUNNER, Run, Tap  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tools"))
from nestorlib import emulators, image, linux  # noqa: E402

NESTOR = os.path.join(ROOT, "build", "nestor.efi")
SNAKEOIL = "/usr/share/ovmf/PkKek-1-snakeoil"
SECURE_BOOT = ".snakeoil"
SHIM = "shim-unsigned"      # Debian's package
MENU, CURSOR_DOWN = "Boot Maintenance Manager", "\x1b[B"
IPS = 50000000
BACK = "GRUB: back"
REFUSED = "nestor: not started: "
IS_L1 = "nestor: this system goes on as L1 of Nestor"


def options(cpus):
    known = emulators.nestor_options(emulators.choose("3.1"))
    return f"console=com2 on-exit=bochs debug-exit=0xf4 inspect=0xea4 {known}" + (" startup=trap" if cpus > 1 else "")


def grub_config(words, stop=None, cpus=1, then_linux=True):
    lines = ["set timeout=0", "insmod all_video", "set gfxpayload=keep"]
    lines += [f"chainloader /nestor.efi {words}", "boot", f'echo "{BACK}"']
    if then_linux:
        arguments = linux.l1_args("bochs", IPS, "1", stop, cpus)
        lines += [f"linux /vmlinuz {arguments}", "initrd /initrd", "boot"]
    return "\n".join([*lines, "outb 0xf4 3", "halt", ""])


def write(work, name, text):
    path = os.path.join(work, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def run(work, config, *more, cpus=1):
    path = write(work, "grub.cfg", config)
    return Run("--emulator", "3.1", "--firmware", "uefi", "--cpus", str(cpus), "--ips", str(IPS), "--timeout", "850",
               "--grub-config", path, "--file", f"nestor.efi={NESTOR}", "--file", f"vmlinuz={linux.KERNEL}",
               "--file", f"initrd={linux.INITRD}", "--l1", "none", *more)


def check_linux(tap, work, cpus, stop, further):
    """The kernel's own lines say what L1 is; GRUB is between it and nestor.efi."""
    stack = run(work, grub_config(options(cpus), stop, cpus), cpus=cpus).wait()
    last = "\n".join(stack.out.splitlines()[-30:]) + stack.err[-2000:]
    tap.equal(stack.status, 0, f"{cpus}: L1 powers off with status 0", last)
    for pattern in (re.escape(IS_L1), BACK, r"L1: EFI of 64 bits", *further):
        tap.ok(re.search(pattern, stack.out), f"{cpus}: {pattern}", last)
    tap.ok(re.search(r"exit status 0 ", stack.err), f"{cpus}: Nestor saw the power-off", stack.err[-2000:])


def check_stack(tap, work):
    check_linux(tap, work, 1, None, [r"L2: hello from init"])


def check_smp(tap, work):
    check_linux(tap, work, 2, "kvm", [r"L1: processors online: 0-1", r"L1: processor 1 is back: 0-1"])


def check_refused(tap, name, out, why):
    tap.ok(re.search(re.escape(REFUSED) + ".*" + why, out), f"{name}: the firmware's console says {why}", out[-2000:])
    tap.ok(BACK in out, f"{name}: GRUB goes on", out[-2000:])


def start_by_firmware(work, words, sign):
    """The firmware's own boot manager starts it, with its options in the file beside it. What is seen up to the sign.
    """
    text = write(work, "nestor.txt", words)
    console = Console([RUNNER, "--emulator", "3.1", "--firmware", "uefi", "--ips", str(IPS), "--timeout", "400", "--l1",
                       "none", "--efi", NESTOR, "--file", f"nestor.txt={text}", "--interactive"], 400)
    return console, console.expect(sign) or ""


def check_menu(tap, work):
    """The menu goes on where it was: its entry Continue boots what was booted."""
    console, seen = start_by_firmware(work, options(1), MENU)
    tap.ok(IS_L1 in seen, "menu: nestor.efi starts, and the firmware's menu comes", (seen or console.seen)[-2000:])
    tap.ok(console.type(CURSOR_DOWN * 4 + "\r", "already under Nestor"), "menu: it can be used", console.seen[-2000:])
    console.leave()
    console, seen = start_by_firmware(work, options(1) + " log=loud", "Shell> ")
    tap.ok(REFUSED + "a bad option value" in seen and re.search("failed to start .*Unsupported", seen),
           "menu: it refuses, and the firmware goes on to its next entry, the shell", (seen or console.seen)[-2000:])
    console.leave()


def check_refusal(tap, work):
    """A CPU without VMX, on another emulator."""
    path = write(work, "grub.cfg", grub_config("", then_linux=False))
    plan = image.BootPlan(files={"nestor.efi": NESTOR}, config=path)
    check_refused(tap, "refusal", console_until(plan, BACK), "this CPU lacks VMX")


def run_quietly(*command):
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def firmware_key(work):
    """The key that OVMF's package has for tests."""
    key = os.path.join(work, "key.pem")
    run_quietly("openssl", "pkey", "-in", SNAKEOIL + ".key", "-passin", "pass:snakeoil", "-out", key)
    return key


def sign(key, certificate):
    run_quietly("make", "-s", "sign", f"KEY={key}", f"CERT={certificate}")
    return os.path.join(ROOT, "build", "nestor.signed.efi")


def check_signed(tap, work):
    """Secure Boot is on: what is signed by a key that the firmware knows runs, as far as a CPU without VMX lets it."""
    if not shutil.which("sbsign"):
        tap.comment("signed: skipped, sbsign is missing (Debian's package sbsigntool)")
        return
    program = sign(firmware_key(work), SNAKEOIL + ".pem")
    signed = console_until(image.BootPlan(program=program), "this CPU lacks VMX", SECURE_BOOT)
    tap.ok(REFUSED + "this CPU lacks VMX" in signed, "signed: it runs", signed[-2000:])
    unsigned = console_until(image.BootPlan(program=NESTOR), "Access Denied", SECURE_BOOT)
    tap.ok(re.search(r"failed to load .*: Access Denied", unsigned), "signed: unsigned it does not", unsigned[-2000:])
    tap.ok(REFUSED not in unsigned, "signed: not even begun")


def fetch_shim(work):
    """Debian's, signed by the key that the firmware knows, as Microsoft's signs it for machines that are sold."""
    run_quietly("sh", "-c", f"cd {work} && apt-get download {SHIM} && dpkg -x {SHIM}_*.deb .")
    shim = os.path.join(work, "shim.efi")
    run_quietly("sbsign", "--key", firmware_key(work), "--cert", SNAKEOIL + ".pem", "--output", shim,
                os.path.join(work, "usr", "lib", "shim", "shimx64.efi"))
    return shim


def make_owner_key(work):
    key, pem, der = (os.path.join(work, "mok." + kind) for kind in ("key", "crt", "der"))
    run_quietly("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj",
                "/CN=a machine owner key of a test/", "-keyout", key, "-out", pem)
    run_quietly("openssl", "x509", "-in", pem, "-outform", "DER", "-out", der)
    return key, pem, der


def check_shim(tap, work):
    """Secure Boot is on, and the machine's owner has enrolled a key: shim starts what that key has signed."""
    try:
        shim = fetch_shim(work)
    except (OSError, subprocess.CalledProcessError):
        tap.comment(f"shim: skipped, sbsign is missing or Debian's {SHIM} cannot be had")
        return
    key, certificate, der = make_owner_key(work)
    plan = image.BootPlan(program=shim, files={"grubx64.efi": sign(key, certificate)})
    started = console_until(plan, "this CPU lacks VMX", SECURE_BOOT, der)
    tap.ok(REFUSED + "this CPU lacks VMX" in started, "shim: it runs", started[-2000:])
    stranger = console_until(plan, "Verification failed", SECURE_BOOT)
    tap.ok("Verification failed" in stranger, "shim: not where the key is not enrolled", stranger[-2000:])
    tap.ok(REFUSED not in stranger, "shim: there it is not even begun", stranger[-2000:])


KINDS = {"stack": check_stack, "smp": check_smp, "menu": check_menu, "refusal": check_refusal,
         "signed": check_signed, "shim": check_shim}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []])
    tap = Tap()
    for kind in parser.parse_args().kinds or KINDS:
        with tempfile.TemporaryDirectory(prefix="efi.") as work:
            KINDS[kind](tap, work)
    return tap.done()


sys.exit(main())
