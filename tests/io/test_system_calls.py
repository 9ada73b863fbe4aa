"""The system calls that batches make, as strace sees them between two marks."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.net import leaks_allowed

import ipv4batch

MMSG = ipv4batch.capabilities()["recvmmsg"]
RECEIVE = "recvmmsg" if MMSG else "recvmsg"
LIMIT = 30

SCRIPT = """
import os, socket
from ipv4batch import Message, PacketConn, new_messages

socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for sock in socks:
    sock.bind(("127.0.0.1", 0))
    sock.settimeout({timeout})
reader, writer = map(PacketConn, socks)
sent = [Message(b"data", None, reader.local_addr)] * {count}
messages = new_messages({count}, 100)

def fill():
    # As many as any receive buffer has room for.
    assert writer.write_batch(sent[:128]) == min({count}, 128)

def call():
    os.getppid()
    try:
        return {call}
    except Exception as error:
        return type(error).__name__
    finally:
        os.getppid()

{before}
print(call())
"""


@pytest.fixture(scope="session")
def strace(require: Callable[[str], None]) -> str:
    """The program, where it is there and may trace."""
    found = shutil.which("strace")
    if found is None:
        require("strace is not installed")
        raise AssertionError
    tried = subprocess.run(
        [found, "-f", "-o", os.devnull, "true"],
        capture_output=True,
        timeout=LIMIT,
        env=leaks_allowed(),
    )
    if tried.returncode != 0:
        require("this process may not trace another")
    return found


Trace = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def trace(strace: str, tmp_path: pathlib.Path) -> Trace:
    """Gives what a call in a process of its own returned or raised, and the system calls of it."""

    def run(call: str, count: int = 64, timeout: float | None = 10, before: str = "") -> Any:
        log = tmp_path / "log"
        script = SCRIPT.format(call=call, count=count, timeout=timeout, before=before)
        python = [sys.executable, "-P", "-c", script]
        done = subprocess.run(
            [strace, "-f", "-e", "signal=none", "-o", log, *python],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=leaks_allowed(),
        )
        assert (done.returncode, done.stderr) == (0, "")
        # A line of the log is a process and a call: 1234 recvmmsg(3, ...
        names = re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)
        start, end = [i for i, name in enumerate(names) if name == "getppid"][-2:]
        return done.stdout.strip(), names[start + 1 : end]

    return run


READ, WRITE = "reader.read_batch(messages)", "writer.write_batch(sent)"
WAITS = {"poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "futex"}


# The call before, of the same size, has left its memory for this one.


@pytest.mark.parametrize(
    ("count", "timeout"), [(1, 10), (64, 10), (64, None), (64, 0), (1025, 10), (5000, 10)]
)
def test_a_read_is_one_call(trace: Trace, count: int, timeout: float | None) -> None:
    ready = min(count, 128)
    printed, names = trace(READ, count, timeout, before="fill(); call(); fill()")
    assert printed == str(ready)
    if MMSG:
        assert names == ["recvmmsg"]
    else:
        # One for each, and one that finds no more.
        assert names == ["recvmsg"] * min(count, ready + 1)


@pytest.mark.parametrize(
    ("count", "timeout", "calls"),
    [(1, 10, 1), (64, 10, 1), (64, None, 1), (1024, 10, 1), (1025, 10, 2), (5000, 10, 5)],
)
def test_a_write_is_one_call_for_1024(
    trace: Trace, count: int, timeout: float | None, calls: int
) -> None:
    printed, names = trace(WRITE, count, timeout, before="call()")
    assert printed == str(count)
    if MMSG:
        alone = count % 1024 == 1  # a message of its own goes by sendmsg, which costs less
        assert names == ["sendmmsg"] * (calls - alone) + ["sendmsg"] * alone
    else:
        assert names == ["sendmsg"] * count


# Waiting


def test_nothing_waits_when_there_are_datagrams(trace: Trace) -> None:
    """Not even the first call of a connection."""
    printed, names = trace(READ, before="fill()")
    assert printed == "64"
    assert not WAITS & set(names)


def test_nothing_waits_when_there_is_room(trace: Trace) -> None:
    printed, names = trace(WRITE)
    assert printed == "64"
    assert not WAITS & set(names)


@pytest.mark.parametrize(
    ("timeout", "call"),
    [(0, READ), (10, "reader.read_batch(messages, socket.MSG_DONTWAIT)")],
    ids=["timeout", "flag"],
)
def test_a_call_that_may_not_wait_does_not(trace: Trace, timeout: float, call: str) -> None:
    printed, names = trace(call, timeout=timeout)
    assert printed == "BlockingIOError"
    assert not WAITS & set(names)
    assert [name for name in names if name == RECEIVE] == [RECEIVE]


def test_a_wait_comes_after_a_try(trace: Trace) -> None:
    printed, names = trace(READ, timeout=0.02)
    assert printed == "TimeoutError"
    order = [name in WAITS for name in names if name in {RECEIVE, *WAITS}]
    assert order[:2] == [False, True]


# Nothing to do


@pytest.mark.parametrize(
    ("call", "printed"),
    [
        ("reader.read_batch([])", "0"),
        ("writer.write_batch(())", "0"),
        ("reader.read_batch(messages[:3] + [None])", "TypeError"),
        ("writer.write_batch(sent[:3] + [None])", "TypeError"),
        ("reader.read_batch(messages + messages)", "ValueError"),
        ("reader.read_batch([Message(b'read-only')])", "ValueError"),
        ("writer.write_batch([Message(b'', bytes(24))])", "ValueError"),
        ("writer.write_batch(sent, -1)", "ValueError"),
    ],
)
def test_bad_input_and_no_input_make_no_call(trace: Trace, call: str, printed: str) -> None:
    said, names = trace(call, before="fill(); call()")
    # The allocator may ask for memory, and under a sanitizer does.
    assert (said, [name for name in names if name not in ("mmap", "munmap", "madvise")]) == (
        printed,
        [],
    )
