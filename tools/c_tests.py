"""Build the C core and its tests without Python, and run them: with recvmmsg and without.

    tools/c_tests.py                       by $CC, under ASan and UBSan
    tools/c_tests.py --msan                by clang, under MemorySanitizer
    tools/c_tests.py --flags FLAGS FOLDER  with other flags, in build/c/FOLDER

What has passed is not built again until a source, the compiler or a flag changes.
"""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARNINGS = "-std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
ASAN = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"
MSAN = "-O1 -fsanitize=memory -fsanitize-memory-track-origins"
BUILDS = {"mmsg": [], "nommsg": ["-DIPV4BATCH_NO_MMSG=1"]}

CORE = sorted((ROOT / "csrc/core").glob("*.c"))
TESTS = sorted((ROOT / "tests/core").glob("test_*.c"))


def digest(*extra: str) -> str:
    """Tell the state of the sources, and of what else matters."""
    found = hashlib.sha256("\0".join(extra).encode())
    for folder in ("csrc/core", "tests/core"):
        for path in sorted((ROOT / folder).glob("*.[ch]")):
            found.update(path.read_bytes())
    return found.hexdigest()


def run(compile_command: list[str], folder: pathlib.Path) -> None:
    """Build and run every test in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.check_call([*compile_command, "-c", *map(str, CORE)], cwd=folder)
    objects = [f"{path.stem}.o" for path in CORE]
    for test in TESTS:
        command = [*compile_command, "-o", test.stem, str(test), *objects, "-lpthread"]
        subprocess.check_call(command, cwd=folder)
        subprocess.check_call([f"./{test.stem}"], cwd=folder)


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--msan", action="store_true")
    parser.add_argument("--flags", default=ASAN)
    parser.add_argument("folder", nargs="?")
    arguments = parser.parse_args()
    compiler = "clang" if arguments.msan else os.environ.get("CC", "cc")
    flags = MSAN if arguments.msan else arguments.flags
    name = arguments.folder or ("msan" if arguments.msan else pathlib.Path(compiler).name)
    if shutil.which(shlex.split(compiler)[0]) is None:
        sys.exit(f"the tests in C need {compiler} (Debian: clang libclang-rt-dev, or gcc)")
    folder = ROOT / "build/c" / name
    passed = folder / "passed"
    state = digest(compiler, flags)
    if passed.exists() and passed.read_text() == state:
        return
    include = [f"-I{ROOT}/csrc/core", f"-I{ROOT}/tests/core"]
    command = [*shlex.split(compiler), *shlex.split(WARNINGS), "-g", *shlex.split(flags), *include]
    with concurrent.futures.ThreadPoolExecutor(len(BUILDS)) as pool:
        for done in [
            pool.submit(run, [*command, *macros], folder / build)
            for build, macros in BUILDS.items()
        ]:
            done.result()
    passed.write_text(state)
    print(f"{len(TESTS)} C tests passed by {compiler}, with recvmmsg and without")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
