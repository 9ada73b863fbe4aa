"""From what was measured to tables."""

import io
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from grid import DIRECTIONS, Cell, Measured, Spread, nanoseconds, ratio
from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 100

CodecTimes = dict[str, list[float]]
"""Nanoseconds of each value, by the name of the benchmark."""

PLAIN = Cell(64, 1200, 0, 0)
OFFLOAD = Cell(64, 1200, 0, 1)
ONE = Cell(1, 1200, 0, 0)


@dataclass(frozen=True)
class Goal:
    """A row of the table of goals."""

    what: str
    reached: Spread | None
    goal: float
    at_most: bool = False
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.reached is None:
            return "not measured"
        median = self.reached.median
        return "yes" if (median <= self.goal if self.at_most else median >= self.goal) else "NO"


def _against(
    measured: Measured, cell: Cell, names: tuple[str, str], goals: tuple[float, float], title: str
) -> Iterator[Goal]:
    """How many times as fast as peers that have one goal for each direction."""
    for direction, name, goal in zip(DIRECTIONS, names, goals, strict=True):
        reached = ratio(measured, cell, name, direction, base=PLAIN)
        yield Goal(f"{direction}: times as fast as {name}{title}", reached, goal)


def _beside_c(measured: Measured, cell: Cell, goal: float, title: str) -> Iterator[Goal]:
    for direction in DIRECTIONS:
        theirs = ratio(measured, cell, "c", direction)
        # The goal is stated the other way round: our time for C's.
        reached = Spread(1 / theirs.high, 1 / theirs.median, 1 / theirs.low) if theirs else None
        yield Goal(f"{direction}: time for that of the C loop{title}", reached, goal, at_most=True)


def _codec_ratio(codecs: CodecTimes, ours: str, theirs: str) -> Spread | None:
    if ours not in codecs or theirs not in codecs:
        return None
    base = statistics.median(codecs[ours])
    return Spread.over(value / base for value in codecs[theirs])


def goals(measured: Measured, codecs: CodecTimes) -> list[Goal]:
    """The table of goals of docs/benchmarks.rst."""
    single, vectored = ("sendto", "sendto"), ("sendmsg", "sendmsg")
    rows = [
        *_beside_c(measured, PLAIN, 1.05, ""),
        *_against(measured, PLAIN, ("go", "go"), (1.3, 1.3), ""),
        *_against(measured, ONE, vectored, (1.0, 1.0), ", batch 1"),
        *_against(measured, PLAIN, single, (1.3, 2.4), ""),
        *_against(measured, OFFLOAD, single, (20, 15), ", offload"),
        *_beside_c(measured, OFFLOAD, 1.25, ", offload"),
    ]
    for peers, goal in ((1, 120), (1000, 250)):
        values = codecs.get(f"data and addr, peers: {peers}")
        reached = Spread.over(values) if values else None
        rows.append(Goal(f"data and addr, peers: {peers}", reached, goal, True, " ns"))
    for what in ("parse", "marshal"):
        reached = _codec_ratio(codecs, f"Header ipv4batch {what}", f"Header dpkt {what}")
        rows.append(Goal(f"Header {what}: times as fast as dpkt", reached, 10))
    return rows


def _figure(spread: Spread | None, form: str = "{:.2f}") -> str:
    return "-" if spread is None else form.format(spread.median)


def _goal_table(measured: Measured, codecs: CodecTimes) -> Table:
    table = Table("1200 bytes, batch 64", box=box.SIMPLE)
    for title in ("min", "median", "max", "goal", "met"):
        table.add_column(title, justify="right")
    for row in goals(measured, codecs):
        cells = ["-"] * 3
        if row.reached is not None:
            spread = row.reached
            cells = [f"{value:.2f}" for value in (spread.low, spread.median, spread.high)]
        sign = "<=" if row.at_most else ">="
        table.add_row(row.what, *cells, f"{sign} {row.goal:g}{row.unit}", row.verdict)
    return table


def _grid_table(measured: Measured, direction: str) -> Table:
    """Ours in ns, and how many times as long the others take."""
    table = Table("bytes", "control", "offload", "batch", box=box.SIMPLE)
    for title in ("ours, ns", "C", "Go", "sendto", "sendmsg", "asyncio", "uvloop"):
        table.add_column(title, justify="right")
    for cell in sorted(measured, key=lambda cell: (cell.size, cell.control, cell.offload)):
        # What makes no batches was measured once for each size.
        base = cell._replace(batch=64, offload=0)
        table.add_row(
            str(cell.size),
            "yes" if cell.control else "",
            "yes" if cell.offload else "",
            str(cell.batch),
            _figure(nanoseconds(measured, cell, "ipv4batch", direction), "{:.0f}"),
            *(_figure(ratio(measured, cell, name, direction)) for name in ("c", "go")),
            *(
                _figure(ratio(measured, cell, name, direction, base))
                for name in ("sendto", "sendmsg", "asyncio", "uvloop")
            ),
        )
    return table


def as_text(measured: Measured, codecs: CodecTimes, rounds: int) -> str:
    """All tables, as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH)
    write: Callable[..., None] = console.print
    write(f"{rounds} rounds, in which the peers take turns; each figure is a median over bursts.")
    write(_goal_table(measured, codecs))
    for direction in DIRECTIONS:
        write(f"{direction}: ns a datagram, and how many times as long the others take (medians)")
        write(_grid_table(measured, direction))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
