"""docs/porting-from-go.rst against the package: a row for every name of Go's, and each row true."""

import contextlib
import re

import pytest
import support.porting_conn
import support.porting_data  # noqa: F401
from support.porting import (
    _OTHERS,
    BOTH,
    CHECKS,
    GO_NAMES,
    OF_BOTH,
    PARAGRAPH_CHECKS,
    PARAGRAPHS,
    ROWS,
    Check,
    Ends,
    resolve,
)


def test_every_name_of_go_has_its_row() -> None:
    assert len(GO_NAMES) == len(set(GO_NAMES))
    assert sorted(ROWS) == sorted(GO_NAMES)


@pytest.mark.parametrize("name", GO_NAMES)
def test_the_name_in_the_row_exists(name: str) -> None:
    assert resolve(ROWS[name].here) is not None
    assert ROWS[name].same


def spelled(name: str) -> str:
    """A member's name as Python spells it; a setter is the attribute of its getter."""
    getter = name.removeprefix("Set")
    name = getter if getter in OF_BOTH else name
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return {"string": "__str__", "if_index": "ifindex"}.get(words, words)


@pytest.mark.parametrize("name", [name for name in GO_NAMES if "." in name])
def test_a_member_is_spelled_as_the_others_are(name: str) -> None:
    kind, _, member = name.partition(".")
    assert ROWS[name].here == f"{kind}.{spelled(member)}"


@pytest.mark.parametrize("name", _OTHERS.split())
def test_a_type_or_function_is_spelled_as_the_others_are(name: str) -> None:
    function = name in ("NewControlMessage", "ParseHeader")
    assert ROWS[name].here == (spelled(name) if function else name.removeprefix("New"))


# The rows and the paragraphs

NEED_RAW = {"NewRawConn", "PacketConn.ICMPFilter", "PacketConn.SetICMPFilter"}
ON_RAW = {"Addresses", "Results", "Short packets", "Length with options"}


def test_every_row_has_its_check() -> None:
    assert sorted(CHECKS) == sorted(ROWS)


def test_every_paragraph_has_its_check() -> None:
    assert sorted(PARAGRAPH_CHECKS) == sorted(PARAGRAPHS)


def run(kind: str, function: Check) -> None:
    with contextlib.closing(Ends(kind)) as ends:
        function(ends)


@pytest.mark.parametrize("name", CHECKS)
def test_a_row_is_true(name: str, request: pytest.FixtureRequest) -> None:
    kind = name.partition(".")[0]
    if kind == "RawConn" or name in NEED_RAW:
        request.getfixturevalue("needs_raw")
    run(kind if kind in ("Conn", *BOTH) else "PacketConn", CHECKS[name])


@pytest.mark.parametrize("lead", PARAGRAPH_CHECKS)
def test_a_paragraph_is_true(lead: str, request: pytest.FixtureRequest) -> None:
    if lead in ON_RAW:
        request.getfixturevalue("needs_raw")
    run("RawConn" if lead in ON_RAW else "PacketConn", PARAGRAPH_CHECKS[lead])
