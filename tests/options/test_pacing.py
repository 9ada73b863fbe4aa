"""max_pacing_rate (SO_MAX_PACING_RATE); no qdisc here keeps to it, so the kernel is asked."""

import re
import socket
import struct
from typing import Any

import pytest

from ipv4batch import PacketConn

SO_MAX_PACING_RATE = 47  # asm-generic/socket.h


@pytest.mark.parametrize("rate", [1, 1_000_000, 2**32 - 1, 2**40])
def test_bytes_a_second(sock: socket.socket, rate: int) -> None:
    conn = PacketConn(sock)
    assert conn.max_pacing_rate is None
    conn.max_pacing_rate = rate
    assert conn.max_pacing_rate == rate
    (told,) = struct.unpack("L", sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8))
    assert told == rate
    conn.max_pacing_rate = None
    assert conn.max_pacing_rate is None
    (told,) = struct.unpack("L", sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8))
    assert told == 2**64 - 1


def test_the_option_as_found(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 5000)
    assert PacketConn(sock).max_pacing_rate == 5000


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0, ValueError, "max_pacing_rate: 0 is out of range, 1 to "),
        (-1, ValueError, "max_pacing_rate: -1 is out of range, 1 to "),
        (2**63, ValueError, "max_pacing_rate: 9223372036854775808 is out of range"),
        (1.5, TypeError, "max_pacing_rate: an int is required, not float"),
        ("1", TypeError, "max_pacing_rate: an int is required, not str"),
    ],
)
def test_wrong_values(sock: socket.socket, value: Any, error: type[Exception], text: str) -> None:
    conn = PacketConn(sock)
    conn.max_pacing_rate = 9
    with pytest.raises(error, match=re.escape(text)):
        conn.max_pacing_rate = value
    with pytest.raises(TypeError, match="max_pacing_rate: cannot be deleted"):
        del conn.max_pacing_rate  # type: ignore[misc]
    assert conn.max_pacing_rate == 9
