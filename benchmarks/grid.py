"""What is measured, and the ratios that come of it."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from processes import Peer, Task, Times

BATCHES = (1, 8, 64, 256, 1024)
SIZES = (64, 1200, 1472)
DIRECTIONS = Times._fields

# These move one datagram a call: the length of a batch means nothing to them, nor do offload and,
# to two of them, control data.
SINGLE = ("sendto", "sendmsg", "asyncio", "uvloop")
CONTROL = ("c", "go", "ipv4batch", "sendmsg")
OFFLOAD = ("c", "ipv4batch")

# A burst fits the second-level cache and the receive buffer, unless a batch is longer.
BURST = 256


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
    median: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> "Spread":
        values = list(values)
        return cls(min(values), statistics.median(values), max(values))


Measured = dict[Cell, dict[str, list[Times]]]
"""By cell and peer, the times of each round."""


def cells(quick: bool) -> list[Cell]:
    """The whole grid, or one cell of each kind."""
    if quick:
        return [Cell(64, 1200, control, offload) for control in (0, 1) for offload in (0, 1)]
    return [
        Cell(batch, size, control, offload)
        for batch in BATCHES
        for size in SIZES
        for control in (0, 1)
        for offload in (0, 1)
    ]


def takes_part(peer: str, cell: Cell) -> bool:
    """Whether a peer can do what a cell asks for, and has not done it in another cell."""
    if cell.offload and peer not in OFFLOAD:
        return False
    if cell.control and peer not in CONTROL:
        return False
    return peer not in SINGLE or cell.batch == 64


def measure_round(
    peers: dict[str, Peer], chosen: list[Cell], bursts: int, number: int, measured: Measured
) -> None:
    """Measure every cell once with every peer, one after the other; each round begins with another
    peer, so that none profits from its place.
    """
    names = list(peers)
    start = number % len(names)
    for cell in chosen:
        burst = max(BURST, cell.batch)
        for name in names[start:] + names[:start]:
            if takes_part(name, cell):
                task = Task(*cell, bursts=bursts, burst=burst)
                times = measured.setdefault(cell, {}).setdefault(name, [])
                times.append(peers[name].measure(task))


def nanoseconds(measured: Measured, cell: Cell, peer: str, direction: str) -> Spread | None:
    """What a datagram took."""
    rounds = measured.get(cell, {}).get(peer)
    return Spread.over(getattr(times, direction) for times in rounds) if rounds else None


def ratio(
    measured: Measured, cell: Cell, peer: str, direction: str, base: Cell | None = None
) -> Spread | None:
    """How many times as long as ipv4batch in `cell` the peer took in `base`, or in the same cell,
    round by round.
    """
    ours = measured.get(cell, {}).get("ipv4batch")
    theirs = measured.get(base or cell, {}).get(peer)
    if not ours or not theirs:
        return None
    return Spread.over(
        getattr(their, direction) / getattr(our, direction)
        for our, their in zip(ours, theirs, strict=True)
    )
