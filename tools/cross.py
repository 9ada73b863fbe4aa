"""Build the C tests for other machines and run them here, with recvmmsg and without.

    tools/cross.py                all machines
    tools/cross.py i686 s390x     some of them

An x86 runs 32-bit programs by itself; for the rest there is qemu-user. It passes on less than the
kernel takes, so parts of the tests are left out there, and say so.
"""

import concurrent.futures
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from c_tests import BUILDS, CORE, ROOT, TESTS, WARNINGS

TIME_64 = "-D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64"
MACHINES = {
    "i686": ("i686-linux-gnu-gcc", "", ""),  # 32 bits
    "i686-64": ("i686-linux-gnu-gcc", "", TIME_64),  # 32 bits, with times of 64
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm", TIME_64),
    "s390x": ("s390x-linux-gnu-gcc", "qemu-s390x", ""),  # the highest byte first
    "powerpc": ("powerpc-linux-gnu-gcc", "qemu-ppc", ""),  # 32 bits, the highest byte first
}
PACKAGES = (
    "gcc-i686-linux-gnu gcc-arm-linux-gnueabihf gcc-s390x-linux-gnu gcc-powerpc-linux-gnu "
    "libc6-dev-i386-cross libc6-dev-armhf-cross libc6-dev-s390x-cross libc6-dev-powerpc-cross "
    "qemu-user"
)


def run_test(
    command: list[str], test: pathlib.Path, emulator: str, folder: pathlib.Path
) -> list[str]:
    """Build a test on the core's objects and run it; return what it left out."""
    objects = [f"{path.stem}.o" for path in CORE]
    link = ["-static", "-o", test.stem, str(test), *objects, "-lpthread"]
    subprocess.check_call([*command, *link], cwd=folder)
    environment = os.environ | ({"IPV4BATCH_TEST_EMULATED": "1"} if emulator else {})
    done = subprocess.run(
        [*shlex.split(emulator), f"./{test.stem}"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stderr}{test.stem} failed in {folder.name}")
    return re.findall(r"^left out.*$", done.stderr, re.MULTILINE)


def run_machine(machine: str) -> set[str]:
    """Run all tests of a machine; return what was left out."""
    compiler, emulator, flags = MACHINES[machine]
    for tool in filter(None, (compiler, emulator)):
        if shutil.which(tool) is None:
            sys.exit(f"test-cross needs {tool} (Debian: {PACKAGES})")
    left_out = set()
    for build, macros in BUILDS.items():
        folder = ROOT / "build/cross" / f"{machine}-{build}"
        folder.mkdir(parents=True, exist_ok=True)
        include = [f"-I{ROOT}/csrc/core", f"-I{ROOT}/tests/core"]
        options = [*shlex.split(WARNINGS), "-g", "-O1", *shlex.split(flags), *macros, *include]
        subprocess.check_call([compiler, *options, "-c", *map(str, CORE)], cwd=folder)
        for test in TESTS:
            for line in run_test([compiler, *options], test, emulator, folder):
                left_out.add(f"{test.stem}: {line}")
    return left_out


def main() -> None:
    """Run the machines that the arguments name."""
    machines = sys.argv[1:] or os.environ.get("CROSS", "").split() or list(MACHINES)
    if unknown := set(machines) - MACHINES.keys():
        sys.exit(f"no such machine: {', '.join(sorted(unknown))}; there are {', '.join(MACHINES)}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        left_out = set().union(*pool.map(run_machine, machines))
    print("\n".join(sorted(left_out)))
    names = " ".join(machines)
    print(f"{len(TESTS)} C tests passed on: {names}, with recvmmsg and without")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
