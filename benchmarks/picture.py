"""The picture of docs/benchmarks.rst and README.rst."""

import pathlib

import matplotlib as mpl
from grid import BATCHES, DIRECTIONS, Cell, Measured, Spread, nanoseconds
from patterns import Pattern

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

SIZE = 1200

OURS, THEIRS, C, TEXT = "#1f78b4", "#c3cbd4", "#6b7a89", "#243b53"

# From the slowest to the fastest: peer, offload, what it calls (by direction), colour.
BARS = (
    ("asyncio", 0, ("asyncio", "asyncio"), THEIRS),
    ("uvloop", 0, ("uvloop", "uvloop"), THEIRS),
    ("sendmsg", 0, ("socket sendmsg", "socket recvmsg_into"), THEIRS),
    ("sendto", 0, ("socket sendto", "socket recvfrom_into"), THEIRS),
    ("go", 0, ("Go WriteBatch", "Go ReadBatch"), THEIRS),
    ("c", 0, ("C sendmmsg", "C recvmmsg"), C),
    ("ipv4batch", 0, ("ipv4batch", "ipv4batch"), OURS),
    ("c", 1, ("C, UDP_SEGMENT", "C, UDP_GRO"), C),
    ("ipv4batch", 1, ("ipv4batch, gso", "ipv4batch, gro"), OURS),
)

# Peer, offload, label, colour, style: of what has batches.
CURVES = (
    ("go", 0, "Go", "#d9822b", "o-"),
    ("c", 0, "C loop", C, "s-"),
    ("ipv4batch", 0, "ipv4batch", OURS, "o-"),
    ("c", 1, "C loop, offload", C, "s--"),
    ("ipv4batch", 1, "ipv4batch, offload", OURS, "o--"),
)


# No date of its own, and the same names in each run: it changes only when the numbers do.
STYLE = {
    "svg.hashsalt": "ipv4batch",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "font.size": 9.5,
}


def _whiskers(spreads: list[Spread]) -> list[list[float]]:
    """From the median to the quartiles."""
    return [
        [s.median - s.lower_quartile for s in spreads],
        [s.upper_quartile - s.median for s in spreads],
    ]


def _draw_bars(axes: Axes, measured: Measured, direction: str) -> None:
    """What a datagram takes at 64 a batch, by every peer."""
    column = DIRECTIONS.index(direction)
    rows = [
        (names[column], spread, colour)
        for peer, offload, names, colour in BARS
        if (spread := nanoseconds(measured, Cell(64, SIZE, 0, offload), peer, direction))
    ]
    names, spreads, colours = zip(*rows, strict=True)
    bars = axes.barh(names, [s.median for s in spreads], color=colours, height=0.72)
    axes.errorbar(
        [s.median for s in spreads],
        names,
        xerr=_whiskers(list(spreads)),
        fmt="none",
        ecolor=TEXT,
        elinewidth=1,
        capsize=2.5,
    )
    widest = max(s.upper_quartile for s in spreads)
    for bar, spread in zip(bars, spreads, strict=True):
        axes.text(
            spread.upper_quartile + widest * 0.015,
            bar.get_y() + bar.get_height() / 2,
            f"{spread.median:,.0f}",
            va="center",
            color=TEXT,
        )
    axes.set_xlim(0, widest * 1.18)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("ns a datagram, less is better")
    axes.set_title(f"{direction.capitalize()}: {SIZE} bytes, 64 a batch", loc="left")


def _draw_curves(axes: Axes, measured: Measured, direction: str) -> None:
    """How the length of a batch matters, to those who have batches."""
    for peer, offload, label, colour, style in CURVES:
        points = [
            (batch, spread)
            for batch in BATCHES
            if (spread := nanoseconds(measured, Cell(batch, SIZE, 0, offload), peer, direction))
        ]
        if points:
            batches, spreads = zip(*points, strict=True)
            axes.errorbar(
                batches,
                [s.median for s in spreads],
                yerr=_whiskers(list(spreads)),
                fmt=style,
                color=colour,
                label=label,
                markersize=4,
                elinewidth=1,
                capsize=2.5,
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCHES, map(str, BATCHES))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("datagrams a batch")
    axes.set_ylabel("ns a datagram")
    axes.set_title(f"{direction.capitalize()}: the length of a batch", loc="left")


def draw(run: str, measured: Measured, directory: pathlib.Path) -> None:
    """Write benchmarks.svg and benchmarks.png; `run` tells under them where they are from."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            2, len(DIRECTIONS), figsize=(10.5, 7.6), height_ratios=(1.15, 1), layout="constrained"
        )
        for column, direction in enumerate(DIRECTIONS):
            _draw_bars(grid[0, column], measured, direction)
            _draw_curves(grid[1, column], measured, direction)
            for axes in grid[:, column]:
                axes.grid(visible=True, axis="both", color="#e4e7eb", linewidth=0.8)
                axes.set_axisbelow(True)
            grid[0, column].grid(visible=False, axis="y")
        grid[1, 0].legend(frameon=False, fontsize=8.5)
        figure.supxlabel(
            f"Loopback, one thread. Median; half of the rounds lie within the whiskers. {run}",
            fontsize=8,
            color=TEXT,
        )
        figure.savefig(directory / "benchmarks.svg", metadata={"Date": None, "Title": run})
        figure.savefig(directory / "benchmarks.png", dpi=130)
        plt.close(figure)


def draw_patterns(run: str, patterns: list[Pattern], directory: pathlib.Path) -> None:
    """Write patterns.svg: what each way takes, in times of what it is held against."""
    rows = [
        (f"{pattern.title}: {way.name}", pattern.ratio(way.name), pattern.goals.get(way.name))
        for pattern in reversed(patterns)
        for way in reversed(pattern.ways[1:])
    ]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 0.42 * len(rows) + 1.3), layout="constrained")
        for at, (_, ratio, goal) in enumerate(rows):
            axes.barh(at, ratio.median, color=OURS, height=0.6)
            axes.plot(
                [ratio.lower_quartile, ratio.upper_quartile], [at, at], color=TEXT, linewidth=1
            )
            axes.text(ratio.upper_quartile + 0.04, at, f"{ratio.median:.2f}", va="center")
            if goal is not None:
                axes.plot([goal, goal], [at - 0.4, at + 0.4], color="#d9822b", linewidth=2)
        axes.axvline(1, color=C, linewidth=1)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_xlim(0)
        axes.set_xlabel("times of what it is held against; orange: the goal")
        figure.supxlabel(run, fontsize=8, color=TEXT)
        figure.savefig(directory / "patterns.svg", metadata={"Date": None, "Title": run})
        plt.close(figure)
