"""Examine csrc: both compilers with every warning an error, gcc's analyzer, clang-tidy, cppcheck.

    tools/analyse.py CLANG_TIDY

Each file in both builds, with recvmmsg and without. What was examined is not examined again until
a file of csrc or .clang-tidy changes.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig

from c_tests import ROOT, WARNINGS

SOURCES = sorted((ROOT / "csrc").rglob("*.c"))
INCLUDE = [f"-I{ROOT}/csrc", "-isystem", sysconfig.get_path("include")]
DONE = ROOT / "build/lint"
BUILDS = [[], ["-DIPV4BATCH_NO_MMSG=1"]]


def state(path: pathlib.Path, shared: bytes) -> str:
    """Tell what the result for a file depends on."""
    return hashlib.sha256(path.read_bytes() + shared).hexdigest()


def check(commands: list[list[str]]) -> str:
    """Run commands up to the first that fails; return what that one printed."""
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return ""


def of_file(path: pathlib.Path, clang_tidy: str) -> list[list[str]]:
    """Return the commands for a file; the second build if it is another one."""
    builds = BUILDS if "IPV4B_HAVE_" in path.read_text() else BUILDS[:1]
    commands = []
    for build in builds:
        flags = [*shlex.split(WARNINGS), "-O2", *build, *INCLUDE, "-c", "-o", os.devnull]
        commands += [
            ["gcc", *flags, "-fanalyzer", str(path)],
            ["clang", *flags, str(path)],
            [clang_tidy, "--quiet", str(path), "--", "-std=c11", *build, *INCLUDE],
        ]
    return commands


CPPCHECK = [
    *("cppcheck", "--quiet", "--std=c11", "--library=posix,gnu,python"),
    *("--enable=warning,performance,portability", "--suppress=toomanyconfigs"),
    *("--inline-suppr", "--error-exitcode=1", f"-I{ROOT}/csrc", str(ROOT / "csrc")),
]


def main() -> None:
    """Examine what has changed."""
    for tool in ("gcc", "clang", "cppcheck"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is needed for lint")
    for path in (ROOT / "csrc/core").glob("*.[ch]"):
        if "Python.h" in path.read_text():
            sys.exit(f"{path}: the core never includes Python.h")
    shared = (ROOT / ".clang-tidy").read_bytes()
    for header in sorted((ROOT / "csrc").rglob("*.h")):
        shared += header.read_bytes()
    everything = shared + b"".join(path.read_bytes() for path in SOURCES)
    jobs = {path: (state(path, shared), of_file(path, sys.argv[1])) for path in SOURCES}
    jobs[ROOT / "cppcheck"] = (hashlib.sha256(everything).hexdigest(), [CPPCHECK])
    DONE.mkdir(parents=True, exist_ok=True)
    failed = False
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {}
        for path, (wanted, commands) in jobs.items():
            stamp = DONE / str(path.relative_to(ROOT)).replace("/", "-")
            if not stamp.exists() or stamp.read_text() != wanted:
                running[pool.submit(check, commands)] = (stamp, wanted)
        for done in concurrent.futures.as_completed(running):
            stamp, wanted = running[done]
            if done.result():
                print(done.result())
                failed = True
            else:
                stamp.write_text(wanted)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
