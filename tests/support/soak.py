"""What the two sides of the soak agree on: the ways that datagrams go, and what is in them.

Every datagram begins with its number, unlike that of any other in the run, and the number's
complement; what follows goes by the number.
"""

import bisect
import contextlib
import dataclasses
import random
import socket
import struct
from collections.abc import Iterator, Sequence

from ipv4batch import ControlFlags, PacketConn
from support.net import LOOPBACK

HEAD = struct.Struct("=QQ")
MASK = (1 << 64) - 1
MARKER = 1 << 63
LARGEST = 65507

# linux/sock_diag.h; the last number is SK_MEMINFO_DROPS.
SO_MEMINFO = 55
MEMINFO = struct.Struct("=9I")

ROOM = 1 << 20
"""Bytes of a receive buffer that are asked for."""

SWITCH = 16
"""Bursts after which a sender that switches turns its offload on or off, and reads after which a
receiver does."""

Lengths = tuple[tuple[int, ...], ...]
"""How long the messages of each burst are; then it begins again."""


def runs(*sizes: int) -> Lengths:
    """Bursts of one size each, that gso makes one run of; the last of a burst is shorter."""
    return tuple(
        (size,) * (min(64, LARGEST // size) - 1) + (max(HEAD.size, size - 5),) for size in sizes
    )


def mixed(bursts: int, count: int, sizes: Sequence[int]) -> Lengths:
    """Bursts of so many messages, whose sizes change from one message to the next or stay."""
    choose = random.Random(count)
    made = []
    for _ in range(bursts):
        burst: list[int] = []
        while len(burst) < count:
            burst += [choose.choice(sizes)] * choose.choice([1, 1, 1, 2, 5])
        made.append(tuple(burst[:count]))
    return tuple(made)


@dataclasses.dataclass(frozen=True)
class Way:
    """How a block of datagrams goes."""

    name: str
    share: float
    """Of all datagrams."""
    lengths: Lengths
    flows: int = 1
    coalesced: bool = False
    """Whether the receivers use gro, and the kernel keeps coalesced datagrams whole."""
    gso: bool | None = False
    """On or off; None if it is switched as the block goes."""
    gro: bool | None = False
    method: str = "write_batch"
    paced: bool = True

    def is_run(self, burst: int) -> bool:
        """Whether the kernel drops the burst as a whole, and counts it as one."""
        on = burst // SWITCH % 2 == 0 if self.gso is None else self.gso
        return self.coalesced and on


SHORT = [16, 17, 64, 100, 512, 1200, 1472]
WAYS = [
    Way("plain", 0.06, mixed(11, 64, SHORT)),
    Way("plain, write_all, two flows", 0.04, mixed(11, 100, SHORT), 2, method="write_all"),
    Way("plain, write_to and read_from", 0.01, mixed(7, 30, SHORT), method="write_to"),
    Way("plain, up to 65507 bytes", 0.002, mixed(7, 8, [16, 1500, 9000, 30000, LARGEST])),
    Way("gso", 0.2, runs(16, 100, 512, 1200, 1472, 8000), gso=True),
    Way("gso, runs of any length", 0.1, mixed(11, 64, SHORT), gso=True, method="write_all"),
    Way("gso and gro", 0.2, runs(16, 100, 1200), 1, True, True, True),
    Way("gso and gro, two flows", 0.2, runs(100, 512, 1200, 1472, 8000), 2, True, True, True),
    Way("gso and gro switched", 0.1, runs(100, 1200), 2, True, None, None, "write_all"),
    Way("overflow, gso", 0.048, runs(100, 1200), gso=True, paced=False),
    Way("overflow, gso and gro", 0.04, runs(1200), 2, True, True, True, paced=False),
]


class Content:
    """What the datagrams of a way hold, by their place in a block."""

    def __init__(self, way: Way) -> None:
        pool = random.Random(len(way.name)).randbytes(LARGEST)
        self.bursts: list[list[bytes]] = []
        at = 0
        for lengths in way.lengths:
            burst = []
            for length in lengths:
                size = length - HEAD.size
                at = (at + 997) % (LARGEST - size + 1)
                burst.append(pool[at : at + size])
            self.bursts.append(burst)
        self.tails = [tail for burst in self.bursts for tail in burst]
        self.longest = max(map(len, self.tails)) + HEAD.size
        self.starts = [0]
        for burst in self.bursts:
            self.starts.append(self.starts[-1] + len(burst))

    def burst_of(self, index: int) -> tuple[int, int, int]:
        """Which burst a place belongs to, and its first place and the one after its last."""
        again, place = divmod(index, len(self.tails))
        burst = bisect.bisect(self.starts, place) - 1
        start = again * len(self.tails)
        return (
            again * len(self.bursts) + burst,
            start + self.starts[burst],
            start + self.starts[burst + 1],
        )


@dataclasses.dataclass
class Outcome:
    """What became of datagrams; all counts are datagrams but `drops` and `admitted`."""

    sent: int = 0
    received: int = 0
    missing: int = 0
    drops: int = 0
    """Datagrams that are missing, where a coalesced one counts once: what the kernel counts."""
    admitted: int = 0
    """What the kernel says it has dropped."""
    altered: int = 0
    twice: int = 0
    strange: int = 0
    """With the number of another block or flow, or from another address."""
    seconds: float = 0.0

    def add(self, other: "Outcome") -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def holds(self) -> bool:
        """Whether none is altered, none came twice, and none is missing that was not dropped."""
        return not (self.altered or self.twice or self.strange) and self.drops == self.admitted


class Flow:
    """One way through the network: a connection that writes to one that reads."""

    def __init__(self, connected: bool) -> None:
        source, target = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (source, target):
            sock.bind((LOOPBACK, 0))
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        if connected:
            source.connect(target.getsockname())
        self.writer, self.reader = PacketConn(source), PacketConn(target)
        self.to = None if connected else self.reader.local_addr
        self.reader.set_control_message(ControlFlags.DROPS)
        self.room = target.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.dropped: int | None = None
        """What the last marker told."""
        self._target = target

    def drops(self) -> int:
        """What the kernel has dropped, as it tells without a datagram."""
        told = self._target.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
        return int(MEMINFO.unpack(told)[-1])

    def close(self) -> None:
        self.writer.close()
        self.reader.close()


@contextlib.contextmanager
def flows() -> Iterator[dict[bool, list[Flow]]]:
    """Two flows for ways whose datagrams are coalesced, and two for the others."""
    opened = {
        coalesced: [Flow(connected) for connected in (False, True)] for coalesced in (False, True)
    }
    try:
        yield opened
    finally:
        for flow in (*opened[False], *opened[True]):
            flow.close()
