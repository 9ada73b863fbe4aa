"""Fixtures for every test: privileges, and a look at what a test leaves behind."""

import contextlib
import ctypes
import gc
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest

import ipv4batch

pytest.register_assert_rewrite(
    "support.model",
    "support.net",
    "support.hammer",
    "support.hammer_values",
    "support.nomemory",
    "support.porting_conn",
    "support.porting_data",
)
from support.clogged import Clogged  # noqa: E402
from support.net import open_udp, udp_socket  # noqa: E402

# No directory for what was found: the suite must run where none can be made. No time limit for one
# example either: the machine may be busy. CI takes the same examples each time: it judges a change,
# and what chance finds is for everybody's runs.
hypothesis.settings.register_profile(
    "ipv4batch", database=None, deadline=None, derandomize="CI" in os.environ
)
# More of the same, for who asks (pytest --hypothesis-profile=...).
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("ipv4batch"), max_examples=200
)
hypothesis.settings.register_profile(
    "expensive", hypothesis.settings.get_profile("ipv4batch"), max_examples=5000
)
hypothesis.settings.load_profile("ipv4batch")

_CLONE_NEWNET = 0x40000000

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so. The programs that tests interrupt inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("IPV4BATCH_TEST_SANITIZED") == "thread":
    # ThreadSanitizer has another program name the functions of what it suppresses. It starts that
    # at need and keeps it, which is not to be in a test.
    _NAME = ctypes.create_string_buffer(100)
    ctypes.CDLL(None).__sanitizer_symbolize_pc(ctypes.pythonapi.Py_IncRef, b"%f", _NAME, len(_NAME))


def _require(reason: str) -> None:
    """Skip for a missing privilege, which is a failure where privileges are required."""
    if os.environ.get("IPV4BATCH_REQUIRE_PRIVILEGED", "0") not in ("", "0"):
        pytest.fail(f"{reason}, and IPV4BATCH_REQUIRE_PRIVILEGED is set")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """Skip the test for a reason, or fail it where everything is required."""
    return _require


@pytest.fixture
def needs_raw() -> None:
    """Skip where the process may not open raw sockets."""
    if not ipv4batch.capabilities()["raw_sockets"]:
        _require("raw sockets need CAP_NET_RAW")


@pytest.fixture(scope="session")
def may_make_netns() -> bool:
    """Whether the process may make network namespaces. A thread tries it, and takes one along."""
    with ThreadPoolExecutor(1) as inside:
        return inside.submit(lambda: ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0).result()


@pytest.fixture
def needs_netns(may_make_netns: bool) -> None:
    """Skip where the process may not make network namespaces."""
    if not may_make_netns:
        _require("network namespaces need CAP_SYS_ADMIN")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A UDP socket on 127.0.0.1, with a port of its own and a time limit."""
    with udp_socket() as made:
        yield made


@pytest.fixture
def udp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two of them."""
    with udp_socket() as a, udp_socket() as b:
        yield a, b


@pytest.fixture
def conn_pair(
    udp_pair: tuple[socket.socket, socket.socket],
) -> Iterator[tuple[ipv4batch.PacketConn, ipv4batch.PacketConn]]:
    """The same two as connections."""
    with ipv4batch.PacketConn(udp_pair[0]) as a, ipv4batch.PacketConn(udp_pair[1]) as b:
        yield a, b


@pytest.fixture
def conn() -> Iterator[ipv4batch.PacketConn]:
    """A UDP connection on loopback, with a timeout that no test should see the end of."""
    with open_udp() as made:
        yield made


@pytest.fixture
def reader() -> Iterator[ipv4batch.PacketConn]:
    """One that reads."""
    with open_udp() as conn:
        yield conn


@pytest.fixture
def writer() -> Iterator[ipv4batch.PacketConn]:
    """One that writes."""
    with open_udp() as conn:
        yield conn


@pytest.fixture
def clogged(needs_netns: None, require: Callable[[str], None]) -> Iterator[Clogged]:
    """A connection whose writes wait."""
    if shutil.which("tc") is None or shutil.which("ip") is None:
        require("a slow network needs ip and tc of iproute2")
    with ThreadPoolExecutor(1) as inside:
        try:
            made = Clogged(inside)
        except subprocess.CalledProcessError as error:
            require(f"a slow network needs {error.cmd}")
        with made.conn:
            assert 1 <= made.fill() < 100
            yield made
            # Datagrams that are stuck would keep the socket, and with it the network, in being.
            with contextlib.suppress(subprocess.CalledProcessError):
                made.unclog()


def _descriptors() -> dict[str, str]:
    """What is open, by number; the listing's own descriptor is gone when it is read."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _child() -> int | None:
    """A child that has ended, 0 if none has (ThreadSanitizer's goes on), None if there is none."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return None


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Fail a test that leaves a descriptor, a thread or a child process behind."""
    threads = set(threading.enumerate())
    child = _child()
    before = _descriptors()
    yield
    left_threads = set(threading.enumerate()) - threads
    assert not left_threads, f"threads left behind: {left_threads}"
    if set(_descriptors()) - set(before):
        gc.collect()
    after = _descriptors()
    left = {number: after[number] for number in set(after) - set(before)}
    assert not left, f"descriptors left open: {left}"
    assert _child() == child, "a child process was left behind"
