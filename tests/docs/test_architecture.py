"""docs/architecture.rst says how csrc is built; the includes and the calls say the same."""

import collections
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
CSRC = ROOT / "csrc"
PAGE = (ROOT / "docs" / "architecture.rst").read_text()


def unit(path: pathlib.Path) -> str:
    """A file and its header are one unit: "python/io/loop"."""
    return str(path.relative_to(CSRC).with_suffix(""))


def code(path: pathlib.Path) -> str:
    """The text of a file without its comments."""
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)


FILES = {path: code(path) for path in sorted(CSRC.rglob("*.[ch]"))}

DEFINED = {
    name: unit(path)
    for path, text in FILES.items()
    if path.suffix == ".c"
    for name in re.findall(
        r"^(?:[A-Za-z][\w ]*[ *])?(ipv4b_\w+)(?:\[\])?(?:\(| = |;)", text, re.MULTILINE
    )
}
"""Which unit defines a function or an object that others may use."""

# No more than the name of the module for CPython, by which the state is looked up from any layer.
del DEFINED["ipv4b_module"]


def uses(path: pathlib.Path, text: str) -> set[str]:
    """The units that a file includes, and those whose names it uses."""
    found = set()
    for name in re.findall(r'#include "([^"]+)"', text):
        place = CSRC / name if "/" in name else path.parent / name
        assert place.exists(), f"{path}: {name}"
        found.add(unit(place))
    found |= {DEFINED[name] for name in re.findall(r"\bipv4b_\w+", text) if name in DEFINED}
    return found - {unit(path)}


EDGES: dict[str, set[str]] = collections.defaultdict(set)
for _path, _text in FILES.items():
    EDGES[unit(_path)] |= uses(_path, _text)


def layers() -> list[list[str]]:
    """The folders of the picture, from the top down; those of a line are beside each other."""
    picture = PAGE.partition(".. code-block:: none\n")[2].partition("\n\n**")[0]
    lines = [re.findall(r"csrc/([\w/]+)", line) for line in picture.splitlines()]
    return [line for line in lines if line]


def files(folder: str) -> set[str]:
    return {path.stem for path in (CSRC / folder).glob("*.[ch]")}


def test_the_functions_that_files_share_are_found() -> None:
    assert DEFINED["ipv4b_conn_run"] == "python/io/loop"
    assert DEFINED["ipv4b_conn_spec"] == "python/types/conn"
    assert len(DEFINED) > 150
    assert "python/io/waiting" in EDGES["python/io/loop"]


def test_no_circle_of_files() -> None:
    """Taking away what uses nothing that is left, again and again, leaves nothing."""
    left = {name: set(used) for name, used in EDGES.items()}
    while True:
        done = {name for name, used in left.items() if not used & left.keys()}
        if not done:
            break
        left = {name: used for name, used in left.items() if name not in done}
    assert left == {}


def test_the_picture_has_every_folder() -> None:
    folders = {str(path.parent.relative_to(CSRC)) for path in FILES}
    assert sorted(folder for line in layers() for folder in line) == sorted(folders)


def test_no_folder_uses_one_above_it() -> None:
    level = {folder: at for at, line in enumerate(layers()) for folder in line}
    for name, used in EDGES.items():
        here = str(pathlib.PurePath(name).parent)
        for other in used:
            there = str(pathlib.PurePath(other).parent)
            assert there == here or level[there] > level[here], f"{name} uses {other}"


@pytest.mark.parametrize("folder", [folder for line in layers() for folder in line])
def test_the_paragraph_of_a_folder_names_its_files(folder: str) -> None:
    paragraph = re.search(rf"^\*\*csrc/{folder}\*\*.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert paragraph is not None, folder
    named = set(re.findall(r"``(\w+)``", paragraph[0]))
    assert files(folder) - named == set(), "not named"


def test_every_path_that_the_page_names_exists() -> None:
    for path in re.findall(r"``((?:csrc|tests|docs|ipv4batch|tools|benchmarks)/[\w./]+)``", PAGE):
        assert (ROOT / path).exists(), path


def test_a_connection_has_few_members() -> None:
    text = FILES[CSRC / "python/io/conn.h"]
    body = re.findall(r"typedef struct \{([^{}]*)\} ipv4b_conn_object;", text)
    assert len(body) == 1
    assert 5 <= body[0].count(";") <= 10
