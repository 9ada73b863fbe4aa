"""Check what the sdist and the wheel in a folder carry, and that the wheel works."""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path


def check(condition: object, text: str) -> None:
    """End with a line of text unless the condition holds."""
    if not condition:
        sys.exit("check_dist: " + text)


def main(folder: Path) -> None:
    """Check the two files in the folder."""
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for needed in ("csrc/core/sysdep.h", "csrc/python/state.h", "tests/conftest.py", "Makefile"):
        check(needed in names, f"{sdist.name} lacks {needed}")
    contents = zipfile.ZipFile(wheel).namelist()
    check("ipv4batch/py.typed" in contents, "the wheel lacks py.typed")
    check("ipv4batch/_ipv4batch.pyi" in contents, "the wheel lacks _ipv4batch.pyi")
    for name in contents:
        check(name.startswith(("ipv4batch/", "ipv4batch-")), f"the wheel carries {name}")
        check(not name.endswith((".c", ".h")), f"the wheel carries {name}")
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = Path(scratch, "bin", "python")
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", wheel.resolve()])
        subprocess.check_call(
            [python, "-P", "-m", "ipv4batch", "info"], cwd=scratch, stdout=subprocess.DEVNULL
        )
    print(f"{sdist.name} and {wheel.name} are complete, and the wheel works")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
