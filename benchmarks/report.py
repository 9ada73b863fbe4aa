"""From what was measured to tables."""

import io
import operator
import statistics
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from grid import BATCHES, DIRECTIONS, Cell, Measured, Spread, nanoseconds, ratio
from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 104
GRID_WIDTH = 116

CodecTimes = dict[str, list[float]]
"""Nanoseconds of each value, by the name of the benchmark."""

SIZE = 1200
ONE = Cell(1, SIZE, 0, 0)
PLAIN = Cell(64, SIZE, 0, 0)
OFFLOAD = Cell(64, SIZE, 0, 1)

CALLS = {
    "go": ("Go WriteBatch", "Go ReadBatch"),
    "sendto": ("sendto", "recvfrom_into"),
    "sendmsg": ("sendmsg", "recvmsg_into"),
}

SIGNS = {"<=": operator.le, ">=": operator.ge, ">": operator.gt}

KERNEL = (
    "the time is the kernel's: the bare C loop, which makes the same calls and next to nothing "
    'else, reaches what stands under "C loop", and whoever makes them has that limit.'
)
OWN = (
    "what the extension does for a call and a message beside the kernel's work: "
    "`make instructions` counts it."
)
OBJECTS = "Python objects are made, which takes most of the time."
COPIES = (
    "offload has cut the kernel's work so far that what is done for each message counts: to look "
    "at the Message, to gather or to copy its bytes, and to fill in its results."
)


@dataclass(frozen=True)
class Goal:
    """A row of the table of goals: what was reached, what the bare C loop reaches in its place, and
    why it falls short, if it does.
    """

    what: str
    reached: Spread | None
    sign: str = ""
    goal: float | None = None
    c: Spread | None = None
    why: str = ""

    def _met_by(self, spread: Spread) -> bool:
        return self.goal is not None and SIGNS[self.sign](spread.median, self.goal)

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        if self.reached is None:
            return "-"
        return "yes" if self._met_by(self.reached) else "NO"

    @property
    def reason(self) -> str:
        """Why it falls short: for what it has of its own, unless the C loop falls short as well."""
        return KERNEL if self.c is not None and not self._met_by(self.c) else self.why


def _beside_c(measured: Measured, cell: Cell, goal: float, title: str, why: str) -> Iterator[Goal]:
    for direction in DIRECTIONS:
        reached = ratio(measured, cell, direction, "ipv4batch", "c")
        yield Goal(f"{direction}, {title}: our time / C loop's", reached, "<=", goal, why=why)


def _against(
    measured: Measured, cell: Cell, peer: str, sign: str, goals: tuple[float, float], title: str
) -> Iterator[Goal]:
    """How many times as fast as a peer, with a goal for each direction."""
    for direction, call, goal in zip(DIRECTIONS, CALLS[peer], goals, strict=True):
        yield Goal(
            f"{direction}, {title}: {call}'s time / ours",
            ratio(measured, cell, direction, peer, "ipv4batch"),
            sign,
            goal,
            c=ratio(measured, cell, direction, peer, "c"),
            why=COPIES if cell.offload else OWN,
        )


def codec_ratio(codecs: CodecTimes, theirs: str, ours: str) -> Spread | None:
    """How many times as long as ours theirs takes."""
    if ours not in codecs or theirs not in codecs:
        return None
    return Spread.over(codecs[theirs]).over_other(Spread.over(codecs[ours]))


def goals(measured: Measured, codecs: CodecTimes, memory: dict[str, float]) -> list[Goal]:
    """The table of goals of docs/benchmarks.rst."""
    rows = [
        *_beside_c(measured, PLAIN, 1.05, "64 a batch", OWN),
        *_against(measured, PLAIN, "go", ">=", (1.3, 1.3), "64 a batch"),
        *_against(measured, ONE, "sendmsg", ">", (1.0, 1.0), "1 a batch"),
        *_against(measured, PLAIN, "sendto", ">=", (1.3, 2.4), "64 a batch"),
        *_against(measured, OFFLOAD, "sendto", ">=", (20, 15), "offload"),
        *_beside_c(measured, OFFLOAD, 1.25, "offload", COPIES),
    ]
    for peers, goal in ((1, 120), (1000, 250)):
        values = codecs.get(f"data and addr, peers: {peers}")
        reached = Spread.over(values) if values else None
        name = f"data + addr, {peers} peer{'s' * (peers > 1)}: ns a message"
        rows.append(Goal(name, reached, "<=", goal, why=OBJECTS))
    for what in ("parse", "marshal"):
        reached = codec_ratio(codecs, f"Header {what}, dpkt", f"Header {what}, ipv4batch")
        rows.append(Goal(f"Header {what}: dpkt's time / ours", reached, ">=", 10, why=OBJECTS))
    for what, size in memory.items():
        rows.append(Goal(f"{what}: bytes beside buffers", Spread.over([size])))
    return rows


def _number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _three(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["-"] * 3
    return [_number(value) for value in (spread.low, spread.median, spread.high)]


def _goal_table(rows: list[Goal]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column(f"{SIZE} bytes, loopback", no_wrap=True)
    for title in ("min", "median", "max", "goal", "met", "C loop"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        goal = "" if row.goal is None else f"{row.sign} {row.goal:g}"
        c = "" if row.c is None else _number(row.c.median)
        table.add_row(row.what, *_three(row.reached), goal, row.verdict, c)
    return table


def _reasons(rows: list[Goal]) -> str:
    """Why the rows that fall short do so; a reason once for all rows that have it."""
    short: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict == "NO":
            short.setdefault(row.reason, []).append(row.what.split(" / ")[0])
    if not short:
        return "Every goal is met."
    lines = [
        textwrap.fill(f"NO at {'; '.join(names)}: {why}", WIDTH, subsequent_indent="  ")
        for why, names in short.items()
    ]
    return "\n".join(lines)


def _cost_table(measured: Measured) -> Table:
    """What a datagram takes, over the length of a batch."""
    table = Table(f"ns a datagram of {SIZE} bytes", box=box.SIMPLE)
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    for direction in DIRECTIONS:
        for offload in (0, 1):
            for peer, name in (("c", "C loop"), ("ipv4batch", "ipv4batch")):
                spreads = [
                    nanoseconds(measured, Cell(batch, SIZE, 0, offload), peer, direction)
                    for batch in BATCHES
                ]
                table.add_row(
                    f"{direction}{', offload' * offload}: {name}",
                    *("-" if s is None else f"{s.median:.0f}" for s in spreads),
                )
    return table


def _codec_table(codecs: CodecTimes) -> Table:
    table = Table("", box=box.SIMPLE)
    for title in ("min ns", "median", "max", "times as long as ours"):
        table.add_column(title, justify="right")
    for name, values in codecs.items():
        what, _, who = name.partition(", ")
        ours = codecs.get(f"{what}, ipv4batch")
        times = statistics.median(values) / statistics.median(ours) if ours else None
        beside = "" if times is None or who == "ipv4batch" else _number(times)
        table.add_row(name, *_three(Spread.over(values)), beside)
    return table


def _grid_table(measured: Measured, direction: str, peers: dict[str, str]) -> Table:
    """Ours in ns, and how many times as long others take, where one of them takes part."""
    table = Table(box=box.SIMPLE)
    for title in ("bytes", "control", "offload", "batch"):
        table.add_column(title, no_wrap=True)
    for title in ("ours, ns", *peers.values()):
        table.add_column(title, justify="right", no_wrap=True)
    for cell in sorted(measured, key=lambda cell: (cell.size, cell.control, cell.offload)):
        ratios = [ratio(measured, cell, direction, peer, "ipv4batch") for peer in peers]
        if any(ratios):
            ours = nanoseconds(measured, cell, "ipv4batch", direction)
            table.add_row(
                str(cell.size),
                "yes" if cell.control else "",
                "yes" if cell.offload else "",
                str(cell.batch),
                "-" if ours is None else f"{ours.median:.0f}",
                *("" if r is None else " ".join(_three(r)) for r in ratios),
            )
    return table


def _console(out: io.StringIO, width: int = WIDTH) -> Console:
    return Console(file=out, width=width, highlight=False)


def _stripped(out: io.StringIO) -> str:
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def goals_text(
    run: str, measured: Measured, codecs: CodecTimes, memory: dict[str, float], scaling: str
) -> str:
    """What docs/benchmarks.rst shows: goals and reasons, cost by batch, codecs, threads."""
    out = io.StringIO()
    console = _console(out)
    rows = goals(measured, codecs, memory)
    console.print(f"{run}\n", _goal_table(rows), _reasons(rows), "", sep="\n")
    console.print(_cost_table(measured))
    if codecs:
        console.print(_codec_table(codecs))
    out.write(scaling)
    return _stripped(out)


def grid_text(run: str, measured: Measured) -> str:
    """The whole grid."""
    out = io.StringIO()
    console = _console(out, GRID_WIDTH)
    batched = {"c": "C loop", "go": "Go"}
    single = {name: name for name in ("sendto", "sendmsg", "asyncio", "uvloop")}
    console.print(f"{run}\n\nHow many times as long as ours: minimum, median, maximum\n")
    for direction in DIRECTIONS:
        for peers in (batched, single):
            console.print(f"{direction}, beside {', '.join(peers.values())}")
            console.print(_grid_table(measured, direction, peers))
    return _stripped(out)
