"""What is measured, in which order, and the ratios that come of it."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from processes import Peer, Task, Times

BATCHES = (1, 8, 64, 256, 1024)
SIZES = (64, 1200, 1472)
DIRECTIONS = Times._fields

# What can be asked of a peer. Those of SINGLE move one datagram a call, and those of LOOPS one a
# turn of an event loop: the length of a batch means nothing to them.
CONTROL = ("c", "go", "ipv4batch", "sendmsg")
OFFLOAD = ("c", "ipv4batch")
SINGLE = ("sendto", "sendmsg")
LOOPS = ("asyncio", "uvloop")

# Datagrams of a burst, unless a batch is longer or the receive buffer smaller.
BURST = 256

# Datagrams of a measurement; more with offload, which would be over too soon.
DATAGRAMS = 8192
MORE_WITH_OFFLOAD = 4


class Cell(NamedTuple):
    """A place in the grid."""

    batch: int
    size: int
    control: int
    offload: int


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    low: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> "Spread":
        values = sorted(values)
        quartiles = (
            statistics.quantiles(values, method="inclusive") if len(values) > 1 else values * 3
        )
        return cls(values[0], *quartiles, values[-1])

    def over_other(self, other: "Spread") -> "Spread":
        """The ratio to figures that were not taken in pairs with these: its ends are the worst that
        any pair would give.
        """
        return Spread(
            self.low / other.high,
            self.lower_quartile / other.upper_quartile,
            self.median / other.median,
            self.upper_quartile / other.lower_quartile,
            self.high / other.low,
        )


Measured = dict[Cell, dict[str, list[Times]]]
"""By cell and peer, the times of each round."""


def cells(quick: bool) -> list[Cell]:
    """The whole grid, or the cells that the table of goals needs."""
    if quick:
        return [
            Cell(1, 1200, 0, 0),
            Cell(64, 1200, 0, 0),
            Cell(64, 1200, 1, 0),
            Cell(64, 1200, 0, 1),
        ]
    return [
        Cell(batch, size, control, offload)
        for batch in BATCHES
        for size in SIZES
        for control in (0, 1)
        for offload in (0, 1)
    ]


def takes_part(peer: str, cell: Cell) -> bool:
    """Whether a peer is measured in a cell: it can do what the cell asks for, or is what the others
    are held against there.
    """
    if cell.control and peer not in CONTROL:
        return False
    if cell.offload:
        return peer in OFFLOAD or (peer == "sendto" and cell.batch == 64)
    if peer in SINGLE:
        return cell.batch in (1, 64)
    return peer not in LOOPS or cell.batch == 64


def task_of(cell: Cell, room: int, datagrams: int = DATAGRAMS) -> Task | None:
    """What a peer is told to measure, where its receive buffer has room for so many datagrams; None
    if a batch does not fit.
    """
    if cell.batch > room:
        return None
    burst = max(cell.batch, min(BURST, room))
    if cell.offload and cell.batch >= 64:
        datagrams *= MORE_WITH_OFFLOAD
    return Task(*cell, bursts=max(8, datagrams // burst), burst=burst)


def measure_round(
    peers: dict[str, Peer], tasks: dict[Cell, Task], number: int, measured: Measured
) -> None:
    """Measure every cell once with every peer, one right after the other; each round begins with
    another peer, so that none profits from its place.
    """
    names = list(peers)
    start = number % len(names)
    for cell, task in tasks.items():
        for name in names[start:] + names[:start]:
            if takes_part(name, cell):
                times = measured.setdefault(cell, {}).setdefault(name, [])
                times.append(peers[name].measure(task))


def nanoseconds(measured: Measured, cell: Cell, peer: str, direction: str) -> Spread | None:
    """What a datagram took."""
    rounds = measured.get(cell, {}).get(peer)
    return Spread.over(getattr(times, direction) for times in rounds) if rounds else None


def ratio(measured: Measured, cell: Cell, direction: str, peer: str, to: str) -> Spread | None:
    """The time of one peer for that of another in the same cell, round by round."""
    by_peer = measured.get(cell, {})
    if peer not in by_peer or to not in by_peer:
        return None
    return Spread.over(
        getattr(one, direction) / getattr(other, direction)
        for one, other in zip(by_peer[peer], by_peer[to], strict=True)
    )
