"""Run the whole suite on several Pythons, on both builds, and print a line for each of them.

    tools/test_pythons.py PYTHON [VERSION...]

PYTHON is the interpreter at hand, left out where versions are named. The others are Debian's: each
one's root is made by tools/make_root.sh when it is not there yet, and entered by tools/in_root.sh,
so this is for root.
The suite is that of make test and make test-nommsg, whose builds take no warning; nothing is
skipped for a lack of privileges. What they print is kept in build/pythons. The exit status is 0
when all passed, and 1 otherwise.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
LOGS = TREE / "build" / "pythons"

SUITES = {"trixie": ("3.13",), "forky": ("3.14", "3.15")}
"""The suites of Debian, and which of their Pythons are tested."""

TARGETS = ("test", "test-nommsg")

SUMMARY = re.compile(r"^=+ (\d.*) in [\d.]+s.* =+$", re.MULTILINE)
"""The last line of pytest."""


def enter(version: str) -> list[str]:
    """The start of a command in the root that has a version of Python, which is made if need be."""
    suite, versions = next(item for item in SUITES.items() if version in item[1])
    made = subprocess.run(
        [TREE / "tools" / "make_root.sh", suite, *versions], stdout=subprocess.PIPE, text=True
    )
    if made.returncode != 0:
        sys.exit(1)
    return [str(TREE / "tools" / "in_root.sh"), made.stdout.strip()]


def run(target: str, python: str, prefix: Sequence[str]) -> tuple[bool, str]:
    """Make a target with an interpreter; whether all passed, and what there is to say of it."""
    log = LOGS / f"{Path(python).name}-{target}.log"
    start = time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(
            [*prefix, "make", f"PYTHON={python}", target],
            cwd=TREE,
            env=os.environ | {"IPV4BATCH_REQUIRE_PRIVILEGED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    found = SUMMARY.findall(log.read_text(errors="replace"))
    passed = done.returncode == 0 and len(found) == 1
    counts = found[-1] if found else "no tests"
    told = f"{counts}, {time.monotonic() - start:.0f} s"
    return passed, told if passed else f"FAILED ({told}), see {log.relative_to(TREE)}"


def name(python: str, prefix: Sequence[str]) -> str:
    """The full version of an interpreter."""
    code = "import platform; print(platform.python_version())"
    return subprocess.check_output([*prefix, python, "-c", code], text=True).strip()


def main(python: str, versions: Sequence[str]) -> int:
    """Run everything; how the process is to end."""
    LOGS.mkdir(parents=True, exist_ok=True)
    known = [version for suite in SUITES.values() for version in suite]
    pythons = [(f"python{version}", enter(version)) for version in versions or known]
    if not versions:
        pythons.insert(0, (python, []))
    failed = False
    for interpreter, prefix in pythons:
        results = [run(target, interpreter, prefix) for target in TARGETS]
        failed = failed or not all(passed for passed, _ in results)
        said = "; ".join(
            f"{target}: {told}" for target, (_, told) in zip(TARGETS, results, strict=True)
        )
        print(f"Python {name(interpreter, prefix)}: {said}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
