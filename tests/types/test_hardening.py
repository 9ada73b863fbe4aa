"""The built module as a file: hardened as distributions expect, and silent about who built it."""

import os
import pathlib
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable

import pytest

from ipv4batch import _ipv4batch

MODULE = pathlib.Path(_ipv4batch.__file__)
CONTENT = MODULE.read_bytes()
pytestmark = [
    pytest.mark.skipif(
        any(name in CONTENT for name in (b"__asan_", b"__tsan_", b"__gcov_")),
        reason="a build with sanitizers or counters is for our own machines",
    ),
    pytest.mark.skipif(not CONTENT.startswith(b"\x7fELF"), reason="no ELF file"),
]


@pytest.fixture
def readelf(require: Callable[[str], None]) -> Callable[..., list[str]]:
    """The lines that readelf prints of the module."""
    if shutil.which("readelf") is None:
        require("readelf is needed (Debian: binutils)")

    def run(*options: str) -> list[str]:
        done = subprocess.run(
            ["readelf", "--wide", *options, MODULE],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        return done.stdout.splitlines()

    return run


def test_what_the_loader_writes_is_read_only_when_code_runs(
    readelf: Callable[..., list[str]],
) -> None:
    dynamic = "\n".join(readelf("--dynamic"))
    assert "BIND_NOW" in dynamic
    assert "TEXTREL" not in dynamic
    assert any("GNU_RELRO" in line for line in readelf("--program-headers"))


def test_no_segment_is_writable_and_executable(readelf: Callable[..., list[str]]) -> None:
    flags = {}
    for line in readelf("--program-headers"):
        words = line.split()
        # Type, offset, two addresses, two sizes, flags in one to three words, alignment.
        if len(words) > 6 and words[0] in ("LOAD", "GNU_STACK"):
            flags[words[0], words[1]] = "".join(words[6:-1])
    assert len(flags) >= 3
    assert not [segment for segment, found in flags.items() if "W" in found and "E" in found]
    (stack,) = (found for (kind, _), found in flags.items() if kind == "GNU_STACK")
    assert stack == "RW"


def test_no_library_is_needed_but_that_of_c_and_none_is_looked_for_elsewhere(
    readelf: Callable[..., list[str]],
) -> None:
    lines = readelf("--dynamic")
    needed = {line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line}
    assert needed
    assert all(name.startswith(("libc.", "libpthread.", "ld-linux")) for name in needed), needed
    assert not [line for line in lines if "RPATH" in line or "RUNPATH" in line]


def symbols(lines: list[str]) -> tuple[set[str], set[str]]:
    """Names of dynamic symbols: defined here, and wanted from elsewhere."""
    defined, wanted = set(), set()
    for words in (line.split() for line in lines):
        # Number, value, size, type, binding, visibility, section, name.
        if len(words) >= 8 and words[4] in ("GLOBAL", "WEAK"):
            (wanted if words[6] == "UND" else defined).add(words[7].split("@")[0])
    return defined, wanted


def test_one_symbol_is_exported(readelf: Callable[..., list[str]]) -> None:
    defined, _ = symbols(readelf("--dyn-syms"))
    assert defined == {"PyInit__ipv4batch"}


def test_the_stack_is_guarded(readelf: Callable[..., list[str]]) -> None:
    _, wanted = symbols(readelf("--dyn-syms"))
    assert "__stack_chk_fail" in wanted


def test_no_path_of_the_build_is_inside() -> None:
    include = sysconfig.get_path("include")
    for path in (os.getcwd(), str(pathlib.Path.home()), tempfile.gettempdir(), include):
        if len(path) > 2:  # the home of a service may be /
            assert os.fsencode(path) + b"/" not in CONTENT, path
