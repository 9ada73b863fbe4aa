"""Random packets through raw sockets by every call, against lists of what was written."""

import collections
import dataclasses
import socket
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)
from support.model import run, time_limit
from support.net import open_raw, own_host
from support.offload import shred

from ipv4batch import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    RawConn,
    new_messages,
    parse_header,
)

PROTOCOL = 253  # for experiments (RFC 3692)
HERE = own_host(3)
"""The packets of other tests go to other addresses."""

LONGEST = 1500
MOST_WAITING = 60
"""What a receive buffer holds at least."""

PEEK, TRUNC = socket.MSG_PEEK, socket.MSG_TRUNC


def make_payload(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


readers = st.integers(0, 2)
payloads = st.binary(max_size=60) | st.integers(0, LONGEST - 60).map(make_payload)
headers = st.builds(
    dict,
    tos=st.integers(0, 255),
    id=st.integers(1, 65535),
    flags=st.sampled_from([0, 2]),
    ttl=st.integers(1, 255),
    src=st.sampled_from(["127.0.0.5", "127.0.0.6"]),
    options=st.sampled_from([b"", b"\1\1\1\0", b"\1" * 39 + b"\0"]),
)
read_flags = st.sampled_from([0, 0, PEEK, TRUNC, PEEK | TRUNC])
flags = st.sampled_from([ControlFlags.TTL, ControlFlags.DST, ControlFlags.TOS])


@dataclasses.dataclass(frozen=True)
class Packet:
    """What arrives."""

    header: dict[str, Any]
    payload: bytes

    @property
    def header_length(self) -> int:
        return 20 + len(self.header.get("options", b""))

    def check_header(self, header: Header) -> None:
        """The kernel fills in the rest."""
        assert {name: getattr(header, name) for name in self.header} == self.header
        assert (header.version, header.len, header.dst) == (4, self.header_length, HERE)
        assert header.total_len == header.len + len(self.payload)
        assert (header.protocol, header.frag_off) == (PROTOCOL, 0)

    def check_control(self, control: ControlMessage | None, asked: int) -> None:
        if not asked:
            assert control is None
            return
        assert control is not None
        assert (control.src, control.ttl, control.tos, control.dst) == (
            self.header["src"],
            self.header["ttl"] if asked & ControlFlags.TTL else 0,
            self.header["tos"] if asked & ControlFlags.TOS else None,
            HERE if asked & ControlFlags.DST else None,
        )


class Raw(RuleBasedStateMachine):
    """Two connections with headers and one without, which all see every packet."""

    def __init__(self) -> None:
        super().__init__()
        self.raws = [RawConn(open_raw(PROTOCOL, HERE)) for _ in range(2)]
        self.packets = PacketConn(open_raw(PROTOCOL, HERE))
        self.conns = [*self.raws, self.packets]
        self.asked = [0, 0, 0]
        self.waiting: list[collections.deque[Packet]] = [collections.deque() for _ in range(3)]

    def teardown(self) -> None:
        for conn in self.conns:
            conn.close()

    @rule(index=readers, flags=flags, on=st.booleans())
    def set(self, index: int, flags: int, on: bool) -> None:
        self.conns[index].set_control_message(flags, on)
        self.asked[index] = self.asked[index] | flags if on else self.asked[index] & ~flags

    # Writes.

    def arrive(self, *packets: Packet) -> None:
        for waiting in self.waiting:
            waiting.extend(packets)

    def make_room(self, count: int) -> None:
        for index, waiting in enumerate(self.waiting):
            while len(waiting) + count > MOST_WAITING:
                self.read_batch(index, MOST_WAITING, LONGEST, 0)

    def header(self, fields: dict[str, Any]) -> Header:
        return Header(**fields, dst=HERE, protocol=PROTOCOL)

    @rule(index=st.integers(0, 1), fields=headers, payload=payloads)
    def write_to(self, index: int, fields: dict[str, Any], payload: bytes) -> None:
        self.make_room(1)
        assert self.raws[index].write_to(self.header(fields), payload) == len(payload)
        self.arrive(Packet(fields, payload))

    @rule(payload=payloads, ttl=st.integers(1, 255), tos=st.integers(0, 255))
    def write_payload(self, payload: bytes, ttl: int, tos: int) -> None:
        """The kernel makes the header."""
        self.make_room(1)
        control = ControlMessage(ttl=ttl, tos=tos, src="127.0.0.7")
        assert self.packets.write_to(payload, (HERE, 0), control) == len(payload)
        self.arrive(Packet({"ttl": ttl, "tos": tos, "src": "127.0.0.7"}, payload))

    @rule(
        index=st.integers(0, 1),
        written=st.lists(st.tuples(headers, payloads, st.integers(1, 4)), max_size=20),
        everything=st.booleans(),
    )
    def write_batch(
        self,
        index: int,
        written: list[tuple[dict[str, Any], bytes, int]],
        everything: bool,
    ) -> None:
        self.make_room(len(written))
        messages = [
            Message(shred(self.header(fields).marshal() + payload, pieces), addr=(HERE, 0))
            for fields, payload, pieces in written
        ]
        conn = self.raws[index]
        write = conn.write_all if everything else conn.write_batch
        assert write(messages) == len(messages)
        assert [m.n for m in messages] == [sum(map(len, m.buffers)) for m in messages]
        self.arrive(*(Packet(fields, payload) for fields, payload, _ in written))

    @rule(index=st.integers(0, 1), fields=headers, payload=payloads)
    def refuse(self, index: int, fields: dict[str, Any], payload: bytes) -> None:
        """What is wrong is said before anything is sent."""
        conn, good = self.raws[index], self.header(fields)
        whole = good.marshal() + payload
        for written, error, text in [
            ([Message(whole, addr=(HERE, 0)), None], TypeError, r"^msgs\[1\]: "),
            ([Message(whole, b"\1" + bytes(15), (HERE, 0))], ValueError, r"^msgs\[0\]\.oob: "),
        ]:
            with pytest.raises(error, match=text):
                conn.write_batch(written)
        with pytest.raises(ValueError, match=r"^dst: |missing address|dst"):
            conn.write_to(Header(**fields, protocol=PROTOCOL), payload)

    # Reads.

    def expect(self, index: int, n: int, how: int) -> list[Packet]:
        waiting = self.waiting[index]
        return [waiting[0]] * n if how & PEEK else [waiting.popleft() for _ in range(n)]

    @rule(index=readers, count=st.integers(1, 30), room=st.integers(60, LONGEST), how=read_flags)
    def read_batch(self, index: int, count: int, room: int, how: int) -> None:
        conn, messages = self.conns[index], new_messages(count, room, ControlFlags(255))
        if not self.waiting[index]:
            with pytest.raises(BlockingIOError):
                conn.read_batch(messages, how | socket.MSG_DONTWAIT)
            return
        n = conn.read_batch(messages, how)
        assert n == count if how & PEEK else 1 <= n <= min(count, len(self.waiting[index]))
        for message, packet in zip(messages, self.expect(index, n, how), strict=False):
            size = packet.header_length + len(packet.payload)
            packet.check_header(parse_header(message.data))
            assert (
                message.data[packet.header_length :]
                == packet.payload[: max(0, room - packet.header_length)]
            )
            assert message.n == (size if how & TRUNC else min(size, room))
            assert message.truncated == (size > room)
            assert message.addr == (packet.header["src"], 0)
            packet.check_control(message.control_message(), self.asked[index])

    @rule(index=st.integers(0, 1), room=st.integers(60, LONGEST), how=read_flags)
    def read_with_header(self, index: int, room: int, how: int) -> None:
        conn, buffer = self.raws[index], bytearray(room)
        if not self.waiting[index]:
            with pytest.raises(BlockingIOError):
                conn.read_from(buffer, how | socket.MSG_DONTWAIT)
            return
        header, payload, control = conn.read_from(buffer, how)
        (packet,) = self.expect(index, 1, how)
        packet.check_header(header)
        assert payload == packet.payload[: room - packet.header_length]
        packet.check_control(control, self.asked[index])

    @rule(room=st.integers(0, LONGEST), how=read_flags)
    def read_payload(self, room: int, how: int) -> None:
        buffer = bytearray(room)
        if not self.waiting[2]:
            with pytest.raises(BlockingIOError):
                self.packets.read_from(buffer, how | socket.MSG_DONTWAIT)
            return
        n, control, addr = self.packets.read_from(buffer, how)
        (packet,) = self.expect(2, 1, how)
        size = len(packet.payload)
        assert (n, addr) == (size if how & TRUNC else min(size, room), (packet.header["src"], 0))
        assert buffer == packet.payload[:room].ljust(room, b"\0")
        packet.check_control(control, self.asked[2])

    @invariant()
    def flags_are_as_they_were_set(self) -> None:
        assert [conn.control_flags for conn in self.conns] == self.asked


@time_limit
@pytest.mark.usefixtures("needs_raw")
def test_random_packets() -> None:
    run(Raw, 30)
