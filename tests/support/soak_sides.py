"""The two sides of the soak, each a process, with a pipe and a page of memory between them.

A block of datagrams goes one way. The sender writes it, paced by what was read or as fast as it
can, and says so. The receiver reads until nothing is left, and asks for one more datagram of each
flow, the marker: it tells how many the kernel has dropped (SO_RXQ_OVFL). Then it accounts for each
number.
"""

import gc
import math
import mmap
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ipv4batch import ControlFlags, ControlMessage, Message, drops_between, new_messages
from support.soak import HEAD, MARKER, MASK, SWITCH, WAYS, Content, Flow, Outcome, Way

LIMIT = 60.0
"""Seconds without a word after which a side gives up."""

GRACE = 1.0
"""Seconds for which a datagram that should be there is waited for."""


def memory() -> tuple[int, int]:
    """KiB of this process in memory, and blocks that Python has allocated."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024, sys.getallocatedblocks()


def shared_numbers() -> memoryview:
    """A page that is shared with the processes that are forked from here on."""
    return memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")


class Outlet:
    """The sender's end of a flow for one way: messages that are made once, of which the numbers
    change.
    """

    def __init__(self, flow: Flow, way: Way, content: Content) -> None:
        self.way, self.flow = way, flow
        self.write = getattr(self, f"_{way.method}")
        self.conn = flow.writer
        self.heads = [bytearray(HEAD.size * len(burst)) for burst in content.bursts]
        self.messages = [
            [
                Message(
                    [memoryview(heads)[i * HEAD.size : (i + 1) * HEAD.size], tail], addr=flow.to
                )
                for i, tail in enumerate(burst)
            ]
            for heads, burst in zip(self.heads, content.bursts, strict=True)
        ]
        # Bursts on their way at most. The kernel charges a datagram with the memory that it takes,
        # and leaves a quarter of the buffer for what was read already.
        charge = max(sum(max(4096, 2 * length) for length in burst) for burst in way.lengths)
        self.window = min(32, max(1, flow.room * 3 // 4 // charge))

    def _write_batch(self, messages: list[Message]) -> None:
        done = 0
        while done < len(messages):
            done += self.conn.write_batch(messages[done:])

    def _write_all(self, messages: list[Message]) -> None:
        assert self.conn.write_all(messages) == len(messages)

    def _write_to(self, messages: list[Message]) -> None:
        for message in messages:
            data = b"".join(message.buffers)
            assert self.conn.write_to(data, self.flow.to) == len(data)

    def send(self, burst: int, first: int) -> int:
        """Write a burst with numbers from `first` on; returns how many messages it has."""
        place = burst % len(self.messages)
        messages, heads = self.messages[place], self.heads[place]
        numbers = range(first, first + len(messages))
        struct.pack_into(
            f"={2 * len(messages)}Q", heads, 0, *(x for n in numbers for x in (n, n ^ MASK))
        )
        self.write(messages)
        return len(messages)


class Sender:
    """The side that leads."""

    outlet = Outlet

    def __init__(self, opened: dict[bool, list[Flow]], pipe: Connection, read: memoryview) -> None:
        self.pipe, self.read = pipe, read
        self.contents = [Content(way) for way in WAYS]
        self.outlets = [
            [self.outlet(flow, way, content) for flow in opened[way.coalesced][: way.flows]]
            for way, content in zip(WAYS, self.contents, strict=True)
        ]
        self.next_number = 0

    def ask(self, *words: Any) -> Any:
        """Tell the receiver something, and wait for its answer."""
        self.pipe.send(words)
        return self.hear()

    def hear(self) -> Any:
        if not self.pipe.poll(LIMIT):
            raise TimeoutError("the receiver says nothing")
        return self.pipe.recv()

    def block(self, index: int, about: int) -> Outcome:
        """Move so many datagrams one way, or some more; returns what became of them."""
        way, outlets, content = WAYS[index], self.outlets[index], self.contents[index]
        rounds = math.ceil(about / way.flows / len(content.tails))
        count = rounds * len(content.tails)
        firsts = [self.next_number + i * count for i in range(way.flows)]
        self.next_number += way.flows * count
        for outlet in outlets:
            outlet.conn.gso = bool(way.gso)
        self.ask("block", index, firsts, count)
        start = time.perf_counter()
        self.write(way, outlets, firsts, rounds * len(content.bursts))
        asked = self.ask("sent")
        while asked != "done":
            outlets[asked].conn.write_to(HEAD.pack(MARKER, firsts[asked]), outlets[asked].flow.to)
            asked = self.hear()
        outcome: Outcome = self.hear()
        outcome.seconds = time.perf_counter() - start
        for outlet in outlets:
            assert outlet.conn.gso_error is None
        return outcome

    def write(self, way: Way, outlets: list[Outlet], firsts: list[int], bursts: int) -> None:
        sent = [0 for _ in outlets]
        lost = [0 for _ in outlets]
        before = [[0] * outlet.window for outlet in outlets]
        for burst in range(bursts):
            for i, outlet in enumerate(outlets):
                if way.gso is None and burst % SWITCH == 0:
                    outlet.conn.gso = way.is_run(burst)
                if way.paced:
                    slot = burst % outlet.window
                    lost[i] += self.wait_until_read(i, before[i][slot] - lost[i])
                    before[i][slot] = sent[i]
                sent[i] += outlet.send(burst, firsts[i] + sent[i])

    def wait_until_read(self, flow: int, number: int) -> int:
        """Wait until so many were read. If nothing is for a second, the rest is lost, which the
        account will show; returns how many.
        """
        last, since = self.read[flow], time.monotonic()
        while last < number and time.monotonic() - since < GRACE:
            time.sleep(50e-6)
            if self.read[flow] != last:
                last, since = self.read[flow], time.monotonic()
        return max(0, number - last)


class Inlet:
    """The receiver's end of a flow for one way."""

    def __init__(self, flow: Flow, way: Way, content: Content, most: int) -> None:
        self.flow, self.way, self.content = flow, way, content
        self.conn = flow.reader
        # Fewer than a coalesced datagram has, so that it takes several calls to read one.
        self.messages = new_messages(50, content.longest + 1, ControlFlags.DROPS)
        self.receive = self._read_from if way.method == "write_to" else self._read_batch
        # All memory is touched here, not when something longer comes or a higher number.
        for message in self.messages:
            message.buffers[0][:] = b"\1" * (content.longest + 1)
        self.seen = bytearray(b"\1") * most

    def begin(self, first: int, count: int) -> None:
        self.first, self.count = first, count
        self.seen[:count] = bytes(count)
        self.reads = self.markers = self.altered = self.twice = self.strange = 0
        self.drops: int | None = None
        self.conn.gro = bool(self.way.gro)

    def read(self) -> int:
        """Read and check what is there; returns how many datagrams."""
        self.reads += 1
        if self.way.gro is None and self.reads % SWITCH == 0:
            self.conn.gro = not self.conn.gro
        try:
            return self.receive()
        except BlockingIOError:
            return 0

    def _read_batch(self) -> int:
        n = self.conn.read_batch(self.messages, socket.MSG_DONTWAIT)
        self.check(self.messages[:n])
        return n

    def _read_from(self) -> int:
        message = self.messages[0]
        n, control, addr = self.conn.read_from(message.buffers[0], socket.MSG_DONTWAIT)
        self.check_one(bytes(message.buffers[0][:n]), addr, control)
        return 1

    def check(self, messages: Sequence[Message]) -> None:
        """Most datagrams are as they should be, and are found so here."""
        tails, seen, first, count = self.content.tails, self.seen, self.first, self.count
        period, peer, unpack = len(tails), self.flow.writer.local_addr, HEAD.unpack_from
        for message in messages:
            data = message.data
            number, complement = unpack(data) if len(data) >= HEAD.size else (MARKER, 0)
            index = number - first
            if 0 <= index < count and not seen[index] and message.addr == peer:
                tail = tails[index % period]
                if (
                    number ^ complement == MASK
                    and len(data) == len(tail) + HEAD.size
                    and data.endswith(tail)
                ):
                    seen[index] = 1
                    continue
            self.check_one(data, message.addr, message.control_message())

    def check_one(
        self, data: bytes, addr: tuple[str, int] | None, control: ControlMessage | None
    ) -> None:
        number, complement = HEAD.unpack_from(data) if len(data) >= HEAD.size else (0, 0)
        index = number - self.first
        tail = self.content.tails[index % len(self.content.tails)]
        if (number, complement, len(data)) == (MARKER, self.first, HEAD.size):
            self.markers += 1
            self.drops = None if control is None else control.drops
        elif number ^ complement != MASK:
            self.altered += 1
        elif not 0 <= index < self.count or addr != self.flow.writer.local_addr:
            self.strange += 1
        elif data[HEAD.size :] != tail:
            self.altered += 1
        elif self.seen[index]:
            self.twice += 1
        else:
            self.seen[index] = 1

    def outcome(self, markers_asked: int) -> Outcome:
        """The account of the block."""
        lost, at = markers_asked - self.markers, self.seen.find(0, 0, self.count)
        while at >= 0:
            burst, start, end = self.content.burst_of(at)
            whole = self.way.is_run(burst) and not any(self.seen[start:end])
            lost += 1
            at = self.seen.find(0, end if whole else at + 1, self.count)
        missing = self.seen.count(0, 0, self.count)
        return Outcome(
            sent=self.count,
            received=self.count - missing,
            missing=missing,
            drops=lost,
            admitted=drops_between(self.flow.dropped, self.drops),
            altered=self.altered,
            twice=self.twice,
            strange=self.strange,
        )


class Receiver:
    """The side that is led."""

    def __init__(
        self, opened: dict[bool, list[Flow]], pipe: Connection, read: memoryview, most: int
    ) -> None:
        """`most` is how many datagrams all the blocks of a round have."""
        self.pipe, self.read = pipe, read
        self.inlets = [
            [
                Inlet(flow, way, content, int(most * way.share) + len(content.tails))
                for flow in opened[way.coalesced][: way.flows]
            ]
            for way, content in zip(WAYS, map(Content, WAYS), strict=True)
        ]

    def serve(self) -> None:
        """Do what the sender says until it goes."""
        while True:
            try:
                word, *arguments = self.pipe.recv()
            except EOFError:
                return
            if word == "block":
                self.block(*arguments)
            else:
                self.pipe.send(memory())

    def block(self, index: int, firsts: list[int], count: int) -> None:
        """Take part in moving a block, and send what became of it."""
        inlets = self.inlets[index]
        for i, (inlet, first) in enumerate(zip(inlets, firsts, strict=True)):
            inlet.begin(first, count)
            self.read[i] = 0
        poll = select.poll()
        for inlet in inlets:
            poll.register(inlet.conn, select.POLLIN)
        poll.register(self.pipe, select.POLLIN)
        self.pipe.send("ready")
        if not WAYS[index].paced:
            self.wait_for_drops(inlets)
        while (taken := self.take(inlets)) or not self.pipe.poll():
            if not taken:
                poll.poll(1000 * GRACE)
        self.pipe.recv()
        total = Outcome()
        for i, inlet in enumerate(inlets):
            total.add(self.end(i, inlet))
        self.pipe.send("done")
        self.pipe.send(total)

    def wait_for_drops(self, inlets: Sequence[Inlet]) -> None:
        """Read nothing until the kernel has dropped something of each flow, or all is sent."""
        before = [inlet.flow.drops() for inlet in inlets]
        while not self.pipe.poll(0.001):
            if all(inlet.flow.drops() != old for inlet, old in zip(inlets, before, strict=True)):
                return

    def take(self, inlets: Sequence[Inlet]) -> int:
        """Read what is there; returns how many datagrams."""
        taken = 0
        for i, inlet in enumerate(inlets):
            n = inlet.read()
            self.read[i] += n
            taken += n
        return taken

    def end(self, flow: int, inlet: Inlet) -> Outcome:
        """Ask for a marker until one comes, and account for the block."""
        asked = 0
        while inlet.markers == 0:
            self.pipe.send(flow)
            asked += 1
            self.read_until(inlet, lambda: inlet.markers > 0)
        # One that comes after the marker took another processor's queue.
        self.read_until(inlet, lambda: inlet.outcome(asked).holds)
        outcome = inlet.outcome(asked)
        inlet.flow.dropped = inlet.drops
        return outcome

    def read_until(self, inlet: Inlet, done: Callable[[], bool]) -> None:
        until = time.monotonic() + GRACE
        while not done() and time.monotonic() < until:
            if not inlet.read():
                select.select([inlet.conn], [], [], 0.01)
