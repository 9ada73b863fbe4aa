"""Every Python block of the documentation, run as it stands, and its tables against the package.

A page's blocks run in order and share their names. A block prints exactly what stands behind it
under ``It prints::``, or nothing. A block of class ``needs-raw`` opens raw sockets.
"""

import ast
import contextlib
import io
import pathlib
import re
import struct
import textwrap
import tomllib
from typing import Any, NamedTuple

import pytest

import ipv4batch
from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    ICMPFilter,
    Message,
    MTUDiscover,
    PacketConn,
    QueuedError,
    capabilities,
    new_control_message,
)

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGES = {path.name: path for path in [*sorted(ROOT.glob("docs/*.rst")), ROOT / "README.rst"]}

PRINTED = "It prints::"
_PYTHON = re.compile(r"\.\. code-block:: python")
_OPTION = re.compile(r" +:([\w-]+): *(.*)")


class Block(NamedTuple):
    """A block of Python, from the line after its options on, and what it promises to print."""

    options: dict[str, str]
    line: int
    text: str
    prints: str


def indented(lines: list[str], start: int) -> tuple[str, int]:
    """The indented lines from `start` on, and the number of the line after them."""
    stop = start
    while stop < len(lines) and (not lines[stop] or lines[stop].startswith(" ")):
        stop += 1
    return textwrap.dedent("\n".join(lines[start:stop])).rstrip() + "\n", stop


def blocks_of(page: str) -> list[Block]:
    lines = PAGES[page].read_text().splitlines()
    found = []
    for number, line in enumerate(lines):
        if not _PYTHON.fullmatch(line.strip()):
            continue
        assert line[0] == ".", f"{page}, line {number + 1}: blocks of Python stand at the margin"
        start = number + 1
        options = {}
        while option := _OPTION.fullmatch(lines[start]):
            options[option[1]] = option[2]
            start += 1
        text, after = indented(lines, start)
        prints = ""
        if after < len(lines) and lines[after] == PRINTED:
            prints = indented(lines, after + 2)[0]
        found.append(Block(options, start, text, prints))
    return found


def is_raw(block: Block) -> bool:
    return block.options.get("class") == "needs-raw"


def run(page: str, with_raw: bool) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if is_raw(block) and not with_raw:
            continue
        # Empty lines in front, so that a traceback names the line of the page.
        code = compile("\n" * block.line + block.text, str(PAGES[page]), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == block.prints, f"{page}, line {block.line}"


WITH_PYTHON = [page for page in PAGES if blocks_of(page)]
WITH_RAW = [page for page in PAGES if any(map(is_raw, blocks_of(page)))]


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_blocks_of_a_page_run(page: str) -> None:
    if page == "polling.rst":
        pytest.importorskip("trio")
    run(page, with_raw=False)


@pytest.mark.parametrize("page", WITH_RAW)
def test_the_blocks_of_a_page_run_with_raw_sockets(page: str, needs_raw: None) -> None:
    run(page, with_raw=True)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_prints_follows_a_block(page: str) -> None:
    promises = PAGES[page].read_text().splitlines().count(PRINTED)
    assert sum(bool(block.prints) for block in blocks_of(page)) == promises


# The tables


def attributes(kind: type) -> set[str]:
    """The public attributes of a type and its bases that are no methods."""
    return {
        name for name in dir(kind) if not name.startswith("_") and not callable(getattr(kind, name))
    }


def rows(page: str) -> set[str]:
    """The names at the margin, where the rows of a simple table begin."""
    return set(re.findall(r"(?m)^``(\w+)", PAGES[page].read_text()))


STRUCTSEQ = {"n_fields", "n_sequence_fields", "n_unnamed_fields"}
OPTIONS = attributes(PacketConn) - {
    *("local_addr", "remote_addr", "timeout"),  # connections.rst
    *("control_flags", "gso_error", "gso_refusals", "pending", "gso", "gro"),
    "busy_poll",  # deadlines
    *("last_read", "last_written"),  # control-messages, offload, batches
}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("messages.rst", attributes(Message)),
        ("headers.rst", attributes(Header)),
        ("options.rst", OPTIONS),
        ("errors.rst", attributes(QueuedError) - STRUCTSEQ),
        ("filters.rst", {f for f in dir(ICMPFilter) if not f.startswith("_")}),
        ("groups.rst", {f for f in dir(PacketConn) if f.endswith("_group")}),
        ("deadlines.rst", {f for f in dir(PacketConn) if f.endswith("deadline")} | {"timeout"}),
        ("options.rst", {each.name for each in MTUDiscover}),
        ("portability.rst", {*capabilities()}),
    ],
)
def test_a_page_has_a_row_for_each(page: str, names: set[str]) -> None:
    assert names - rows(page) == set()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    re.findall(r"(?m)^``(\w+)`` +(\d+) to (\d+) (?!bytes)", PAGES["headers.rst"].read_text()),
)
def test_the_ranges_of_a_header(name: str, low: str, high: str) -> None:
    header = Header()
    for value in (int(low), int(high)):
        setattr(header, name, value)
        assert getattr(header, name) == value
    for value in (int(low) - 1, int(high) + 1):
        with pytest.raises(ValueError, match=f"{name}: {value} is out of range, {low} to {high}"):
            setattr(header, name, value)


def control_rows() -> list[tuple[str, str, str]]:
    """Attribute, flag and bytes of each item in the table of control messages."""
    table = PAGES["control-messages.rst"].read_text().partition(".. list-table::")[2]
    row = r"   \* - ``(\w+)``\n     - ``(\w+)``\n(?:     - .*\n){3}     - (\d+)\n"
    return re.findall(row, table)


def test_the_table_of_control_messages_is_whole() -> None:
    found = control_rows()
    assert {flag for _, flag, _ in found} == {each.name for each in ControlFlags}
    assert {name for name, _, _ in found} == attributes(ControlMessage) - {"ecn", "dscp"}


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="the sizes are those of 64-bit systems")
@pytest.mark.parametrize(("name", "flag", "size"), control_rows())
def test_the_bytes_of_a_control_message(name: str, flag: str, size: str) -> None:
    assert len(new_control_message(ControlFlags[flag])) == int(size)
    sent = ControlMessage(**{name: "127.0.0.1" if name in ("src", "dst") else 1}).marshal()
    never = name in ("dst", "timestamp_ns", "drops")
    assert len(sent) == (0 if never else int(size))


def test_the_reference_has_every_public_name() -> None:
    text = PAGES["api.rst"].read_text()
    assert sorted(re.findall(r"(?m)^\.\. auto\w+:: (\w+)$", text)) == sorted(ipv4batch.__all__)


def test_the_examples_and_their_privileges_are_listed() -> None:
    row = r"   \* - ``(\w+\.py)``\n     - (.*)\n"
    found = dict(re.findall(row, PAGES["examples.rst"].read_text()))
    scripts = {path.name: path.read_text() for path in ROOT.glob("examples/[!_]*.py")}
    assert found.keys() == scripts.keys()
    for name, source in scripts.items():
        needed = set(re.findall(r"CAP_\w+", source.split('"""')[1]))
        assert set(re.findall(r"CAP_\w+", found[name])) == needed, name


# The guarantees

# Runs are no guarantees.
GUARANTEED = PAGES["reliability.rst"].read_text().partition("\nRuns\n")[0]
GUARANTEES = [
    (row.partition("\n     - ")[0], re.findall(r"``(\w+/test_\w+\.py)::(\w+)``", row))
    for row in re.split(r"\n   \* - ", GUARANTEED)[1:]
    if not row.startswith("Guarantee\n")
]


def functions_of(name: str) -> set[str]:
    """The functions of a file of tests that pytest collects."""
    tree = ast.parse((ROOT / "tests" / name).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    ("guarantee", "tests"), GUARANTEES, ids=[guarantee for guarantee, _ in GUARANTEES]
)
def test_a_guarantee_names_tests_that_exist(guarantee: str, tests: list[tuple[str, str]]) -> None:
    assert tests != [], guarantee
    for file, name in tests:
        assert name.startswith("test_")
        assert name in functions_of(file), f"{guarantee}: tests/{file} has no {name}"


def test_no_reference_to_a_test_is_overlooked() -> None:
    text = PAGES["reliability.rst"].read_text()
    assert text.count("::test_") == sum(len(tests) for _, tests in GUARANTEES) > 0


def sessions() -> set[str]:
    """The names of nox's sessions, which make runs by the same names."""
    text = (ROOT / "noxfile.py").read_text()
    blocks = re.findall(r"^@nox\.session(.*)\ndef (\w+)", text, re.MULTILINE)
    named = [(re.search(r'name="([\w-]+)"', options), function) for options, function in blocks]
    return {name[1] if name else function for name, function in named}


def test_make_runs_every_session() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    listed = re.search(r"^SESSIONS = (.*)$", text, re.MULTILINE)
    assert listed is not None
    assert {*listed[1].split(), "test"} == sessions()
    assert len(text.splitlines()) <= 80


def test_every_target_of_make_that_is_named_is_there() -> None:
    targets = sessions() | {"help", "clean", "NAME"}
    named: set[str] = set()
    pages = [*PAGES.values(), ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", ROOT / "CHANGES.rst"]
    for page in pages:
        text = page.read_text()
        named |= set(re.findall(r"``make (?:-\S+ )?(?:[A-Z]+=\S+ )?([A-Za-z-]+)", text))
        named |= set(re.findall(r"``(?:[A-Z_]+=\S+ )?nox -s ([a-z-]+)", text))
    assert len(named) > 20
    assert named <= targets


def test_the_formatters_are_those_that_lint_uses() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extra = dict(
        name.split("==")
        for name in pinned["project"]["optional-dependencies"]["lint"]
        if "==" in name
    )
    found = dict(re.findall(r"/(?:mirrors-)?(ruff|clang-format)[\w-]*\n\s+rev: v(\S+)", hooks))
    assert found == {name: extra[name] for name in ("ruff", "clang-format")}
