"""Build a free-threaded CPython, once, and print where its interpreter is.

    python3 tools/build_freethreaded.py plain
    python3 tools/build_freethreaded.py tsan    with ThreadSanitizer, by clang

The source is that of a source package of Debian, from the mirror that this system's apt is set up
for and checked with the distribution's keys: Python 3.14's or, where the mirror does not have that,
3.13's. The system's own sources and packages stay as they are. The build is kept in
${XDG_CACHE_HOME:-~/.cache}/ipv4batch/freethreaded, and what is there already is not built again.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("python3.14", "python3.13")
SUITES = ("unstable", "testing", "stable")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ipv4batch/freethreaded"

BUILDS = {
    "plain": ("gcc", ["--disable-gil"]),
    "tsan": ("clang", ["--disable-gil", "--with-thread-sanitizer"]),
}

NEEDED = {  # what the standard library's C modules include, and what unpacks and builds
    "/usr/include/openssl/ssl.h": "libssl-dev",
    "/usr/include/zlib.h": "zlib1g-dev",
    "/usr/include/bzlib.h": "libbz2-dev",
    "/usr/include/lzma.h": "liblzma-dev",
    "/usr/include/sqlite3.h": "libsqlite3-dev",
    "/usr/bin/make": "make",
    "/usr/bin/xz": "xz-utils",
    KEYRING: "debian-archive-keyring",
}
NEEDED_FOR = {
    "plain": {"/usr/bin/gcc": "gcc"},
    "tsan": {"/usr/bin/clang": "clang", "/usr/bin/llvm-symbolizer": "llvm"},
}


def say(text: str) -> None:
    print(f"build_freethreaded: {text}", file=sys.stderr, flush=True)


def check_needed(build: str) -> None:
    """End with one line that names the packages to install, if some are missing."""
    needed = {**NEEDED, **NEEDED_FOR[build]}
    missing = [package for path, package in needed.items() if not os.path.exists(path)]
    # libffi's header is in a folder of the architecture.
    if not list(Path("/usr/include").glob("**/ffi.h")):
        missing.append("libffi-dev")
    if build == "tsan" and not list(Path("/usr/lib").glob("llvm-*/lib/clang/*/lib/linux/*tsan-*")):
        missing.append("libclang-rt-dev")
    if missing:
        sys.exit(f"build_freethreaded: missing: apt-get install {' '.join(missing)}")


class Apt:
    """apt with sources of its own, in a folder that goes with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sources.d", "lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        lines = [f"deb-src [signed-by={KEYRING}] {self.mirror()} {suite} main" for suite in SUITES]
        (folder / "sources.list").write_text("\n".join(lines) + "\n")
        # A folder of root's own is closed to the user that apt downloads as.
        options = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": folder / "sources.d",
            "Dir::State::Lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            "APT::Sandbox::User": "root",
        }
        self.options = [f"-o{name}={value}" for name, value in options.items()]
        subprocess.run(["apt-get", *self.options, "-qq", "update"], check=True, stdout=sys.stderr)

    @staticmethod
    def mirror() -> str:
        """The archive that the system's packages come from."""
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
        filters = ["Created-By: Packages", "Origin: Debian", "Label: Debian"]
        output = subprocess.run([*command, *filters], check=True, capture_output=True, text=True)
        if not output.stdout:
            sys.exit("build_freethreaded: apt knows no archive of Debian's: apt-get update")
        return output.stdout.split()[0]

    def versions(self, package: str) -> list[str]:
        """The versions of a source package, the newest first."""
        output = subprocess.run(
            ["apt-cache", *self.options, "showsrc", "--only-source", package],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        found = {line.split()[1] for line in output.splitlines() if line.startswith("Version: ")}
        return sorted(found, key=lambda v: [int(n) for n in v.split("-")[0].split(".")])[::-1]

    def fetch(self, package: str, version: str) -> Path | None:
        """The source that the distribution's package starts from, checked; None if not there."""
        fetched = subprocess.run(
            ["apt-get", *self.options, "-qq", "source", "--download-only", f"{package}={version}"],
            cwd=self.folder, stdout=sys.stderr, check=False,
        )  # fmt: skip
        archives = list(self.folder.glob(f"{package}_*.orig.tar.xz"))
        if fetched.returncode or not archives:
            say(f"the mirror does not have the source of {package} {version}")
            return None
        return archives[0]


def fetch_source(folder: Path) -> Path:
    """Unpack the newest source that the mirror has, without the distribution's changes, which are
    for its own folders and take pip away."""
    apt = Apt(folder / "apt")
    for package in PACKAGES:
        for version in apt.versions(package):
            archive = apt.fetch(package, version)
            if archive:
                say(f"{package} {version}")
                subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
                return next(folder.glob("Python-*"))
    sys.exit(f"build_freethreaded: the mirror has the source of none of {', '.join(PACKAGES)}")


def build(name: str, prefix: Path) -> None:
    compiler, options = BUILDS[name]
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="build-") as temporary:
        source = fetch_source(Path(temporary))
        log_path = CACHE / f"{name}.log"
        say(f"building {name}, some minutes; the log is {log_path}")
        shutil.rmtree(prefix, ignore_errors=True)
        with open(log_path, "w") as log:
            for command in (
                ["./configure", f"--prefix={prefix}", "--disable-test-modules", *options],
                ["make", f"-j{os.cpu_count()}"],
                ["make", "install"],
            ):
                done = subprocess.run(
                    command, cwd=source, check=False, stdout=log, stderr=subprocess.STDOUT,
                    env={**os.environ, "CC": compiler, "MAKEFLAGS": ""},
                )  # fmt: skip
                if done.returncode:
                    sys.exit(f"build_freethreaded: {command[0]} failed, see {log_path}")
        suppressions = source / "Tools/tsan/suppressions_free_threading.txt"
        shutil.copy(suppressions, prefix / "tsan.supp")
        (prefix / "complete").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a free-threaded CPython, once.")
    parser.add_argument("build", choices=BUILDS)
    name = parser.parse_args().build
    prefix = CACHE / name
    if not (prefix / "complete").exists():
        check_needed(name)
        build(name, prefix)
    print(prefix / "bin/python3")


if __name__ == "__main__":
    main()
