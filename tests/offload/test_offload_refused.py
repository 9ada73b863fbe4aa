"""What becomes of a batch when segmentation offload is refused: all of it goes, once, in order."""

import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.links import open_ends, open_link, send_and_compare
from support.net import leaks_allowed, open_raw, open_udp
from support.offload import (
    ALL,
    MOST,
    combinations,
    compose,
    enlarge,
    exchange,
    expect,
    open_pair,
)

from ipv4batch import (
    ControlMessage,
    Message,
    MTUDiscover,
    PacketConn,
    capabilities,
    new_messages,
)

SO_NO_CHECK = 11  # asm-generic/socket.h


@combinations
@pytest.mark.parametrize("size", [MOST + 1, MOST + 2])  # the MTU of loopback less both headers
def test_a_datagram_that_is_too_long_is_refused_on_its_own(gso: bool, gro: bool, size: int) -> None:
    with open_pair(gso, gro) as (reader, writer):
        messages = [Message(compose(i, 100), None, reader.local_addr) for i in range(10)]
        messages[5].buffers = bytes(size)
        assert writer.write_batch(messages) == 5
        with pytest.raises(OSError, match="write udp4") as caught:
            writer.write_batch(messages[5:])
        assert caught.value.errno == messages[5].errno == errno.EMSGSIZE
        assert writer.gso is gso
        (received,) = exchange(writer, [reader], messages[6:])
        assert [r.data for r in received] == [compose(i, 100) for i in (0, 1, 2, 3, 4, 6, 7, 8, 9)]


TTL_ITEM = ControlMessage(ttl=5).marshal()


@combinations
@pytest.mark.parametrize(
    "oob",
    [
        TTL_ITEM[:-4],
        ControlMessage(ttl=5, tos=0).marshal()[:-3],
        TTL_ITEM * 11,
        *(TTL_ITEM + bytes(tail) for tail in (1, 7, 8, 15)),
        TTL_ITEM + struct.pack("N", len(TTL_ITEM)),
    ],
    ids=["unpadded", "two", "long", "tail1", "tail7", "tail8", "tail15", "tail-like-an-item"],
)
def test_odd_control_data_that_the_kernel_takes(gso: bool, gro: bool, oob: bytes) -> None:
    """What is shorter than an item's header is ignored at the end of control data."""
    with open_pair(gso, gro) as (reader, writer):
        datas = [compose(i, 64) for i in range(10)]
        messages = [Message(data, oob, reader.local_addr) for data in datas]
        (received,) = exchange(writer, [reader], messages)
        assert received == [expect(writer, data, ttl=5) for data in datas]
        assert (writer.gso, writer.gso_error) == (gso, None)


def test_raw_sockets_have_no_offload(needs_raw: None) -> None:
    with PacketConn(open_raw(socket.IPPROTO_ICMP)) as conn:
        for name in ("gso", "gro"):
            with pytest.raises(OSError, match=f"'{name} ip4:1 127.0.0.1'"):
                setattr(conn, name, True)
            assert getattr(conn, name) is False
            setattr(conn, name, False)
        assert (conn.pending, conn.gso_error) == (0, None)


def test_offload_of_a_closed_connection() -> None:
    with open_udp() as conn:
        conn.gso = conn.gro = True
    for name in ("gso", "gro"):
        with pytest.raises(OSError, match="The connection is closed") as caught:
            setattr(conn, name, True)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(TypeError, match=f"{name}: cannot be deleted"):
            delattr(conn, name)


def open_unchecked() -> PacketConn:
    """A connection that writes no UDP checksums, which does not go with segmentation offload."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    return PacketConn(sock)


@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [[9] * 2, [9] * 500, [1, 2, 3, 3, 2], [0, 9, 8] * 20, [1472] * 100],
    ids=["two", "many", "in-the-middle", "runs", "long"],
)
def test_without_checksums_everything_goes_alone(gro: bool, sizes: list[int]) -> None:
    with open_pair(gro=gro) as (reader, _), open_unchecked() as writer:
        writer.gso = True
        datas = [compose(i, size) for i, size in enumerate(sizes)]
        (received,) = exchange(
            writer, [reader], [Message(d, None, reader.local_addr) for d in datas]
        )
        assert received == [expect(writer, data) for data in datas]
        assert writer.gso is False
        assert writer.gso_error.errno == errno.EINVAL
        assert str(writer.gso_error) == "[Errno 22] Invalid argument: 'UDP_SEGMENT'"


def test_gso_is_switched_on_again() -> None:
    with open_udp() as reader, open_unchecked() as writer:
        messages = [Message(b"data", None, reader.local_addr)] * 3
        for _ in range(2):
            writer.gso = True
            assert writer.gso_error is None
            exchange(writer, [reader], messages)
            assert (writer.gso, writer.gso_error.errno) == (False, errno.EINVAL)
        writer.gso = False
        assert writer.gso_error is None


def test_messages_that_make_no_run_are_no_reason() -> None:
    with open_udp() as reader, open_unchecked() as writer:
        writer.gso = True
        messages = [Message(bytes(i), None, reader.local_addr) for i in range(20)]
        (received,) = exchange(writer, [reader], messages)
        assert [len(r.data) for r in received] == list(range(20))
        assert (writer.gso, writer.gso_error) == (True, None)


@pytest.mark.parametrize("start", [0, 1, 7])
def test_a_run_with_an_error_of_its_own(start: int) -> None:
    """Nobody can send to port 0, with offload or without."""
    with open_udp() as reader, open_udp() as writer:
        writer.gso = True
        messages = [Message(compose(i, 9), None, reader.local_addr) for i in range(20)]
        for message in messages[start : start + 5]:
            message.addr = ("127.0.0.1", 0)
        if start > 0:
            assert writer.write_batch(messages) == start
        with pytest.raises(OSError, match="write udp4") as caught:
            writer.write_batch(messages[start:])
        assert caught.value.errno == messages[start].errno == errno.EINVAL
        assert writer.write_all(messages, errors="skip") == 15
        assert [m.errno != 0 for m in messages] == [start <= i < start + 5 for i in range(20)]
        assert (writer.gso, writer.gso_error) == (True, None)
        (received,) = exchange(writer, [reader], [])
        numbers = [*range(start), *range(start), *range(start + 5, 20)]
        assert [r.data for r in received] == [compose(i, 9) for i in numbers]


@pytest.mark.usefixtures("needs_netns")
@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [[1373] * 10, [1373, 9], [1372] * 10 + [1373] * 10 + [9] * 5, [1372] * 70 + [3000] * 3],
    ids=["all", "two", "second-run", "third-run"],
)
def test_segments_over_the_mtu_go_in_fragments(gro: bool, sizes: list[int]) -> None:
    with open_link(1400, 1400) as link, open_ends(link, gso=True, gro=gro) as (reader, writer):
        send_and_compare(link, writer, reader, sizes, ttl=5)
        # EINVAL before 6.14
        [(addr, code)] = writer.gso_refusals
        assert code in (errno.EMSGSIZE, errno.EINVAL)
        assert (writer.gso, writer.gso_error.errno) == (True, code)
        assert addr == reader.local_addr


@pytest.mark.usefixtures("needs_netns")
@pytest.mark.parametrize("gro", [False, True])
def test_what_may_not_be_fragmented_fails_on_its_own(gro: bool) -> None:
    sizes = [100] * 5 + [1373] * 3 + [50] + [1372] * 5
    fits = [size < 1373 for size in sizes]
    with open_link(1400, 1400) as link, open_ends(link, gso=True, gro=gro) as (reader, writer):
        writer.mtu_discover = MTUDiscover.DO
        datas = [compose(i, size) for i, size in enumerate(sizes)]
        messages = [Message(data, None, reader.local_addr) for data in datas]
        assert writer.write_batch(messages) == 5
        with pytest.raises(OSError, match="'write udp4 192.0.2.1") as caught:
            writer.write_batch(messages[5:])
        assert caught.value.errno == messages[5].errno == errno.EMSGSIZE
        assert writer.write_all(messages, errors="skip") == sum(fits)
        assert [m.errno for m in messages] == [0 if fit else errno.EMSGSIZE for fit in fits]
        assert (writer.gso, writer.gso_error) == (True, None)
        (received,) = exchange(writer, [reader], [], new_messages(64, 2048, ALL))
        fitting = [data for data, fit in zip(datas, fits, strict=True) if fit]
        assert [r.data for r in received] == datas[:5] + fitting


# Runs of two, since the destination changes after two messages. It writes until all are gone.
WRITER = """
import json, socket, sys
from ipv4batch import Message, PacketConn

count, *ports = map(int, sys.argv[1:])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
with PacketConn(sock) as conn:
    conn.gso = True
    messages = [
        Message(i.to_bytes(4, "big"), None, ("127.0.0.1", ports[i // 2 % 2])) for i in range(count)
    ]
    done, errors = 0, []
    while done < count and len(errors) < 3:
        try:
            done += conn.write_batch(messages[done:])
        except OSError as error:
            errors.append(error.errno)
    print(json.dumps([done, errors, conn.gso, conn.gso_error and conn.gso_error.errno]))
"""
RUNS = 2500
SENDMMSG = capabilities()["sendmmsg"]
SEND = "sendmmsg" if SENDMMSG else "sendmsg"
# One sendmmsg takes 1024 runs, one sendmsg takes one.
CALLS = {"first": 1, "second": 2, "last": 3 if SENDMMSG else RUNS}


@pytest.fixture
def write_with_error(
    require: Callable[[str], None],
) -> Callable[[str, Sequence[PacketConn]], list[Any]]:
    """Run WRITER under strace, which makes some of its calls fail that send."""
    strace = ["strace", "-f", "-o", os.devnull]
    if (
        shutil.which("strace") is None
        or subprocess.run([*strace, "true"], env=leaks_allowed()).returncode != 0
    ):
        require("strace is not installed, or not allowed to trace")

    def write(
        inject: str, readers: Sequence[PacketConn], script: str = WRITER, call: str = SEND
    ) -> list[Any]:
        if min(enlarge(reader) for reader in readers) < 2 * RUNS * 2048:
            require("a large receive buffer needs CAP_NET_ADMIN")
        ports = [str(reader.local_addr[1]) for reader in readers]
        traced = [*strace, "-e", f"trace={call}", "-e", f"inject={call}:{inject}"]
        writer = [sys.executable, "-c", script, str(2 * RUNS), *ports]
        done = subprocess.run(
            [*traced, *writer],
            stdout=subprocess.PIPE,
            timeout=50,
            check=True,
            env=leaks_allowed(),
        )
        return json.loads(done.stdout)

    return write


def assert_all_came_once(readers: Sequence[PacketConn]) -> None:
    with open_udp() as writer:
        received = exchange(writer, readers, [])
    for k, got in enumerate(received):
        numbers = [int.from_bytes(r.data, "big") for r in got]
        assert numbers == [i for i in range(2 * RUNS) if i // 2 % 2 == k]


@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize("where", CALLS)
def test_a_device_that_refuses_at_some_run(write_with_error: Any, where: str, gro: bool) -> None:
    with open_udp() as one, open_udp() as other:
        one.gro = other.gro = gro
        result = write_with_error(f"error=EIO:when={CALLS[where]}", [one, other])
        assert result == [2 * RUNS, [], True, errno.EIO]
        assert_all_came_once([one, other])


@pytest.mark.parametrize("name", ["EINVAL", "EMSGSIZE", "EOPNOTSUPP"])
def test_other_refusals(write_with_error: Any, name: str) -> None:
    with open_udp() as one, open_udp() as other:
        # Once, these two could be the report of an ICMP message about an earlier datagram.
        twice = name != "EINVAL"
        result = write_with_error(f"error={name}:when=2{'..3' if twice else ''}", [one, other])
        # The first two are of a path, and the last is of the socket.
        assert result == [2 * RUNS, [], name != "EOPNOTSUPP", getattr(errno, name)]
        assert_all_came_once([one, other])


@pytest.mark.parametrize("name", ["EMSGSIZE", "EOPNOTSUPP"])
def test_a_report_about_an_earlier_datagram_is_no_refusal(write_with_error: Any, name: str) -> None:
    """All goes out with offload, and the next write raises what was reported."""
    with open_udp() as one, open_udp() as other:
        result = write_with_error(f"error={name}:when=2", [one, other])
        assert result == [2 * RUNS, [], True, None]
        assert_all_came_once([one, other])


FORKING = """
import json, os, socket, sys
from ipv4batch import Message, PacketConn

def outcome():
    try:
        return conn.write_all(messages[:1])
    except OSError as error:
        return error.errno

with PacketConn(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as conn:
    conn.gso = True
    to = ("127.0.0.1", int(sys.argv[2]))
    messages = [Message(bytes(1000), addr=to) for _ in range(4)]
    told = [conn.write_all(messages)]
    reads, writes = os.pipe()
    if os.fork() == 0:
        # strace counts for each process: its first call fails too, and no more may.
        os.write(writes, bytes([sum(outcome() != 1 for _ in range(3))]))
        os._exit(0)
    told += [os.read(reads, 1)[0], outcome(), outcome()]
print(json.dumps(told))
"""


def test_a_pending_error_is_the_parents_after_a_fork(write_with_error: Any) -> None:
    with open_udp() as reader:
        # A run of its own goes by sendmsg.
        result = write_with_error("error=EMSGSIZE:when=1", [reader], FORKING, "sendmsg")
        assert result == [4, 1, errno.EMSGSIZE, 1]


@pytest.mark.parametrize("where", CALLS)
@pytest.mark.parametrize("name", ["EPERM", "ENOBUFS", "EAGAIN", "EINTR"])
def test_errors_that_say_nothing_about_offload(
    write_with_error: Any, where: str, name: str
) -> None:
    with open_udp() as one, open_udp() as other:
        done, errors, gso, why = write_with_error(f"error={name}:when={CALLS[where]}", [one, other])
        assert (done, gso, why) == (2 * RUNS, True, None)
        # Only an error of the first message of a call is raised, and these two are not errors.
        raised = where == "first" and name not in ("EAGAIN", "EINTR")
        assert errors == ([getattr(errno, name)] if raised else [])
        assert_all_came_once([one, other])


def test_a_device_that_refuses_everything(write_with_error: Any) -> None:
    with open_udp() as one, open_udp() as other:
        result = write_with_error("error=EIO", [one, other])
        assert result == [0, [errno.EIO] * 3, True, None]
