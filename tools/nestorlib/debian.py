"""Debian's packages: fetched and unpacked, of this system's release or another's, and never installed."""
import glob
import os
import re
import shutil
import subprocess

from nestorlib.errors import RunnerError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR_VARIABLE = "NESTOR_DEBIAN_MIRROR"

APT_CONFIG = """\
Dir::Etc::SourceList "{work}/sources.list";
Dir::Etc::SourceParts "{work}/none";
Dir::State::Lists "{work}/lists";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
APT::Architecture "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "";
"""


def run(command, **kwargs):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **kwargs)
    if done.returncode:
        raise RunnerError(f"{' '.join(command[:3])} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def mirror():
    """Where this system gets Debian from; the variable names another place."""
    if MIRROR_VARIABLE in os.environ:
        return os.environ[MIRROR_VARIABLE]
    if not shutil.which("apt-get"):
        raise RunnerError("no apt-get here to fetch Debian's packages with")
    lines = run(["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"]).splitlines()
    for line in lines:
        label, _, address = line.partition("|")
        if label == "Debian":
            return address
    raise RunnerError(f"apt has no lists of Debian: run apt-get update, or set {MIRROR_VARIABLE} to a mirror's address")


class Apt:
    """apt of one release of Debian, with all that it knows in the folder `work`; without a release the system's own."""

    def __init__(self, work, suite=None):
        self.work = work
        self.environment = dict(os.environ)
        if not suite:
            return
        for folder in ("none", "lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(work, folder))
        self.write("status", "")
        self.write("sources.list", f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
        self.write("apt.conf", APT_CONFIG.format(work=work))
        self.environment["APT_CONFIG"] = os.path.join(work, "apt.conf")

    def write(self, name, text):
        with open(os.path.join(self.work, name), "w", encoding="utf-8") as file:
            file.write(text)

    def get(self, *words, cwd=None):
        return run(["apt-get", "-q", "-y", *words], env=self.environment, cwd=cwd)

    def depends(self, package):
        """Names of the packages that it depends on itself; none if it is not known."""
        done = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True, check=False,
                              env=self.environment)
        return re.findall(r"^ *(?:Pre)?Depends: (\S+)", done.stdout, re.M)

    def closure(self, packages):
        """Names of the packages and of all that they need, on a system that has nothing."""
        plan = self.get("--simulate", "install", *packages)
        return re.findall(r"^Inst (\S+) ", plan, re.M)

    def unpack(self, packages, target):
        """Fetches exactly these, and unpacks them over each other."""
        folder = os.path.join(self.work, "debs")
        os.makedirs(folder, exist_ok=True)
        self.get("download", *packages, cwd=folder)
        for package in sorted(glob.glob(os.path.join(folder, "*.deb"))):
            run(["dpkg-deb", "-x", package, target])


def kernel_of(apt, meta):
    """The kernel that linux-image-amd64 or another such package stands for now, or None."""
    return next((name for name in apt.depends(meta) if re.match(r"linux-image-\d", name)), None)


def fetch_kernel(apt, meta, target):
    """The kernel as target/vmlinuz and its modules as target/modules; target/package names it. Returns that name."""
    package = kernel_of(apt, meta)
    if not package:     # the lists of a new machine are empty or old
        apt.get("update")
        package = kernel_of(apt, meta)
    if not package:
        raise RunnerError(f"apt knows no {meta} (a package of Debian)")
    files = os.path.join(apt.work, "files")
    try:
        apt.unpack(kernel_packages(apt, package), files)
    except RunnerError:
        apt.get("update")
        package = kernel_of(apt, meta)
        apt.unpack(kernel_packages(apt, package), files)
    release = package.removeprefix("linux-image-")
    new = target + ".new"
    shutil.rmtree(new, ignore_errors=True)
    os.makedirs(new)
    shutil.move(place(files, f"boot/vmlinuz-{release}", f"usr/lib/modules/{release}/vmlinuz"),
                os.path.join(new, "vmlinuz"))
    shutil.move(place(files, f"usr/lib/modules/{release}/kernel", f"lib/modules/{release}/kernel"),
                os.path.join(new, "modules"))
    with open(os.path.join(new, "package"), "w", encoding="utf-8") as file:
        file.write(package + "\n")
    shutil.rmtree(target, ignore_errors=True)
    os.rename(new, target)
    return package


def kernel_packages(apt, package):
    """From Debian 14 on linux-image-X is empty: kernel and modules are packages of their own."""
    parts = [name for name in apt.depends(package) if re.match(r"linux-(binary|modules)-\d", name)]
    return parts or [package]


def place(files, *paths):
    """The first of these paths that is there."""
    for path in paths:
        if os.path.exists(os.path.join(files, path)):
            return os.path.join(files, path)
    raise RunnerError(f"the packages have none of {', '.join(paths)}")
