"""Check what the sdist and the wheel in a folder carry, and that the wheel works."""

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path


def check(condition: object, text: str) -> None:
    """End with a line of text unless the condition holds."""
    if not condition:
        sys.exit("check_dist: " + text)


# What of a checkout stays out of the sdist: what only serves the repository itself.
REPOSITORY_ONLY = {".ci/run", ".gitignore"}
GENERATED = {"PKG-INFO", "setup.cfg"} | {
    f"ipv4batch.egg-info/{name}"
    for name in (
        *("PKG-INFO", "SOURCES.txt", "dependency_links.txt", "entry_points.txt"),
        *("requires.txt", "top_level.txt"),
    )
}
METADATA = {
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "top_level.txt",
}


def compare(what: str, got: set[str], expected: set[str]) -> None:
    """End with the names of files that are missing or too many."""
    check(got >= expected, f"{what} lacks {sorted(expected - got)}")
    check(got <= expected, f"{what} carries {sorted(got - expected)}")


def check_sdist(sdist: Path, tracked: set[str]) -> None:
    """An sdist is the checkout: all that building, tests and pages need, and nothing else."""
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[-1] for member in archive if not member.isdir()}
        links = [member.name for member in archive if not (member.isfile() or member.isdir())]
    check(not links, f"{sdist.name} carries {links}, which are no files")
    compare(sdist.name, names, (tracked - REPOSITORY_ONLY) | GENERATED)


def check_wheel(wheel: Path, tracked: set[str]) -> None:
    """A wheel is the package, its one module in C, and what installers read."""
    package, version = wheel.name.split("-")[:2]
    module = "ipv4batch/_ipv4batch" + sysconfig.get_config_var("EXT_SUFFIX")
    ours = {name for name in tracked if name.startswith("ipv4batch/")}
    metadata = {f"{package}-{version}.dist-info/{name}" for name in METADATA}
    compare(wheel.name, set(zipfile.ZipFile(wheel).namelist()), ours | {module} | metadata)


def main(folder: Path) -> None:
    """Check the two files in the folder, which were made from the checkout that this is part of."""
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    root = Path(__file__).parent.parent
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, text=True)
    tracked = {name for name in listed.split("\0") if name}
    check_sdist(sdist, tracked)
    check_wheel(wheel, tracked)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = Path(scratch, "bin", "python")
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", wheel.resolve()])
        subprocess.check_call(
            [python, "-P", "-m", "ipv4batch", "info"], cwd=scratch, stdout=subprocess.DEVNULL
        )
    print(f"{sdist.name} and {wheel.name} carry what they should, and the wheel works")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
