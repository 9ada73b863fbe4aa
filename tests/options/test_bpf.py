"""set_bpf: classic BPF programs that drop datagrams, in each form that they can be given in."""

import array
import errno
import re
import socket
import struct
from typing import Any

import pytest
from support.net import LIMIT, open_raw, own_host

from ipv4batch import Header, Message, PacketConn, RawConn

Program = list[tuple[int, int, int, int]]

# linux/filter.h and linux/bpf_common.h.
LOAD_BYTE, AND, JUMP_IF_EQUAL, RETURN = 0x30, 0x54, 0x15, 0x06
WHOLE = 0xFFFFFFFF

EVEN: Program = [
    (LOAD_BYTE, 0, 0, 8),  # the first byte after the UDP header
    (AND, 0, 0, 1),
    (JUMP_IF_EQUAL, 0, 1, 0),
    (RETURN, 0, 0, WHOLE),
    (RETURN, 0, 0, 0),
]
"""Lets the datagrams pass whose first byte is even."""

NOTHING: Program = [(RETURN, 0, 0, 0)]

END = b"\xfe"
"""An even datagram, after which a test stops reading."""


def text_of(program: Program) -> str:
    """What tcpdump -ddd prints."""
    lines = [str(len(program)), *(" ".join(map(str, each)) for each in program)]
    return "\n".join(lines) + "\n"


def bytes_of(program: Program) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for each in program)


FORMS: dict[str, Any] = {
    "tuples": lambda program: program,
    "lists": lambda program: tuple(list(each) for each in program),
    "bytes": bytes_of,
    "bytearray": lambda program: bytearray(bytes_of(program)),
    "array": lambda program: array.array("Q", bytes_of(program)),
    "text": text_of,
    "one line": lambda program: text_of(program).replace("\n", " "),
}

each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def passing(conn: PacketConn, firsts: range = range(40)) -> list[int]:
    """The datagrams that get through, by their first byte."""
    for first in firsts:
        conn.write_to(bytes([first]) + b"...", conn.local_addr)
    conn.write_to(END, conn.local_addr)
    found = []
    messages = [Message(bytearray(8)) for _ in range(16)]
    while True:
        for each in messages[: conn.read_batch(messages)]:
            if each.data == END:
                return found
            found.append(each.data[0])


@each_form
def test_a_program_that_drops_half(conn: PacketConn, form: Any) -> None:
    conn.set_bpf(form(EVEN))
    assert passing(conn) == list(range(0, 40, 2))


def test_detaching_lets_everything_pass_again(conn: PacketConn) -> None:
    conn.set_bpf(EVEN)
    conn.set_bpf(None)
    assert passing(conn) == list(range(40))


def test_a_program_replaces_another(conn: PacketConn) -> None:
    conn.set_bpf(NOTHING)
    conn.write_to(b"\0dropped", conn.local_addr)
    conn.set_bpf(EVEN)
    assert passing(conn) == list(range(0, 40, 2))


def test_what_is_dropped_never_arrives(conn: PacketConn) -> None:
    conn.set_bpf(NOTHING)
    for _ in range(3):
        conn.write_to(b"x", conn.local_addr)
    conn.timeout = 0.02
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(8))
    conn.timeout = LIMIT
    conn.set_bpf(None)
    assert passing(conn, range(2)) == [0, 1]


def test_what_a_program_returns_cuts_a_datagram(conn: PacketConn) -> None:
    conn.set_bpf([(RETURN, 0, 0, 8 + 3)])
    conn.write_to(b"12345", conn.local_addr)
    assert conn.read_from(bytearray(8))[0] == 3


def test_wide_fields_keep_all_their_bits(conn: PacketConn) -> None:
    """Codes, jumps and constants up to their limits; what is jumped over lets nothing pass."""
    load_constant, jump_always = 0x00, 0x05
    program = [
        (load_constant, 0, 0, 0xDEADBEEF),
        (JUMP_IF_EQUAL, 255, 0, 0xDEADBEEF),
        *NOTHING * 255,
        (JUMP_IF_EQUAL, 0, 255, 0xDEADBEEE),
        *NOTHING * 255,
        (jump_always, 0, 0, 300),
        *NOTHING * 300,
        (RETURN, 0, 0, WHOLE),
    ]
    for form in (program, bytes_of(program), text_of(program)):
        conn.set_bpf(form)
        assert passing(conn, range(3)) == [0, 1, 2]


def test_a_raw_socket_shows_its_filter_the_ipv4_header(needs_raw: None) -> None:
    """As tcpdump -ddd -y RAW prints 'ip[1] = 8': the type of service is the second byte."""
    text = "4\n48 0 0 1\n21 0 1 8\n6 0 0 262144\n6 0 0 0\n"
    here = own_host(4)
    with PacketConn(open_raw(253, here)) as reader, RawConn(open_raw(253, here)) as writer:
        for conn in (reader, writer):
            conn.set_bpf(text)
        for tos in (0, 8, 4, 8):
            header = Header(tos=tos, ttl=1, protocol=253, dst=here)
            writer.write_to(header, bytes([tos, 1]) if tos == 8 else b"dropped")
        for _ in range(2):
            assert reader.read_from(bytearray(9))[0] == 2
            assert writer.read_from(bytearray(99))[0].tos == 8
        for conn in (reader, writer):
            with pytest.raises(BlockingIOError):
                conn.read_from(bytearray(9), socket.MSG_DONTWAIT)


def test_a_program_is_taken_from_memory_that_is_free_again(conn: PacketConn) -> None:
    program = bytearray(bytes_of(EVEN))
    conn.set_bpf(program)
    program.clear()
    assert passing(conn) == list(range(0, 40, 2))


def test_the_longest_program(conn: PacketConn) -> None:
    program = [(RETURN, 0, 0, WHOLE)] * 4096
    try:
        conn.set_bpf(program)
    except OSError as error:
        # The memory that a socket's options may take is the system's to say (net.core.optmem_max).
        assert error.errno == errno.ENOMEM  # noqa: PT017
    assert passing(conn, range(2)) == [0, 1]


@pytest.mark.parametrize(
    ("program", "error", "text"),
    [
        ([], ValueError, "program: 0 instructions; a filter has 1 to 4096"),
        (b"", ValueError, "program: 0 instructions; a filter has 1 to 4096"),
        ("", ValueError, "program: 0 numbers; a count and four for each instruction are required"),
        ("0", ValueError, "program: 0 instructions; a filter has 1 to 4096"),
        (NOTHING * 4097, ValueError, "program: 4097 instructions; a filter has 1 to 4096"),
        (bytes(8 * 4097), ValueError, "program: 4097 instructions; a filter has 1 to 4096"),
        (NOTHING * 65537, ValueError, "program: 65537 instructions; a filter has 1 to 4096"),
        (text_of(NOTHING * 4097), ValueError, "program: 4097 instructions"),
        (b"1234567", ValueError, "program: 7 bytes are no multiple of 8"),
        ([(6, 0, 0)], ValueError, "program[0]: (code, jt, jf, k) is required, not (6, 0, 0)"),
        ([*EVEN, (6, 0, 0, 0, 0)], ValueError, "program[5]: (code, jt, jf, k) is required"),
        ([(0x10000, 0, 0, 0)], ValueError, "program[0].code: 65536 is out of range, 0 to 65535"),
        ([*EVEN, (6, 256, 0, 0)], ValueError, "program[5].jt: 256 is out of range, 0 to 255"),
        ([(6, 0, 256, 0)], ValueError, "program[0].jf: 256 is out of range, 0 to 255"),
        ([(6, 0, 0, 1 << 32)], ValueError, "program[0]: 4294967296 is out of range"),
        ([(6, 0, 0, -1)], ValueError, "program[0]: -1 is out of range"),
        ([(6, 0, 0, "0")], TypeError, "program[0]: an int is required, not str"),
        ([(6, 0, 0, 0.0)], TypeError, "program[0]: an int is required, not float"),
        ("2\n6 0 0 0", ValueError, "program: 5 numbers; a count and four for each instruction"),
        ("6 0 0 0", ValueError, "program: 4 numbers; a count and four for each instruction"),
        ("1\n6 0 0 4294967296", ValueError, "program: 4294967296 is out of range"),
        ("1\n6 256 0 0", ValueError, "program[0].jt: 256 is out of range, 0 to 255"),
        ("1\n0x6 0 0 0", ValueError, "0x6"),
        (6, TypeError, "program: a sequence of (code, jt, jf, k), bytes, str or None is required"),
        ({6: 0}, TypeError, "program: a sequence of (code, jt, jf, k), bytes, str or None is"),
    ],
)
def test_what_is_no_program_is_refused_and_changes_nothing(
    conn: PacketConn, program: Any, error: type[Exception], text: str
) -> None:
    conn.set_bpf(EVEN)
    with pytest.raises(error, match=re.escape(text)):
        conn.set_bpf(program)
    assert passing(conn, range(3)) == [0, 2]


@pytest.mark.parametrize(
    "program",
    [
        [(LOAD_BYTE, 0, 0, 0)],  # ends without a return
        [(0xFFFF, 0, 0, 0), *NOTHING],  # no such instruction
        [(0x05, 0, 0, 5), *NOTHING],  # a jump out of the program
        b"\xff" * 8,
    ],
)
def test_what_the_kernels_checker_refuses_changes_nothing(conn: PacketConn, program: Any) -> None:
    conn.set_bpf(EVEN)
    where = re.escape(f"'set_bpf udp4 127.0.0.1:{conn.local_addr[1]}'")
    with pytest.raises(OSError, match=where) as caught:
        conn.set_bpf(program)
    assert caught.value.errno == errno.EINVAL
    assert passing(conn, range(3)) == [0, 2]


def test_a_closed_connection_takes_no_program(conn: PacketConn) -> None:
    conn.close()
    for program in (EVEN, None):
        with pytest.raises(OSError, match="The connection is closed: 'set_bpf udp4'"):
            conn.set_bpf(program)


def test_a_text_of_another_type_is_read_as_the_text_that_it_is(conn: PacketConn) -> None:
    class Text(str):
        def split(self, *arguments: Any, **keywords: Any) -> Any:
            raise AssertionError("what a method makes of it is no business of set_bpf")

    conn.set_bpf(Text(text_of(EVEN)))
    assert passing(conn, range(3)) == [0, 2]
