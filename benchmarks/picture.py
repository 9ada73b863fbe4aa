"""The picture of docs/benchmarks.rst and README.rst."""

import pathlib

import matplotlib as mpl
from grid import BATCHES, DIRECTIONS, Cell, Measured, nanoseconds

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SIZE = 1200

# Name, cell but for the batch, label, and colours that also differ in grey.
CURVES = (
    ("go", 0, "Go x/net/ipv4", "#9aa5b1"),
    ("c", 0, "C loop", "#52606d"),
    ("ipv4batch", 0, "ipv4batch", "#1f78b4"),
    ("c", 1, "C loop, offload", "#e6a15c"),
    ("ipv4batch", 1, "ipv4batch, offload", "#d9480f"),
)
LINES = (("sendto", "socket: sendto, recvfrom_into"), ("asyncio", "asyncio"))


def _draw_direction(axes: Axes, measured: Measured, direction: str) -> None:
    for peer, offload, label, colour in CURVES:
        points = [
            (batch, spread)
            for batch in BATCHES
            if (spread := nanoseconds(measured, Cell(batch, SIZE, 0, offload), peer, direction))
        ]
        if points:
            batches = [batch for batch, _ in points]
            axes.plot(batches, [s.median for _, s in points], "o-", color=colour, label=label)
            axes.fill_between(
                batches,
                [s.low for _, s in points],
                [s.high for _, s in points],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
    for (peer, label), style in zip(LINES, ("--", ":"), strict=True):
        spread = nanoseconds(measured, Cell(64, SIZE, 0, 0), peer, direction)
        if spread:
            axes.axhline(spread.median, linestyle=style, color="#7b8794", label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(BATCHES, map(str, BATCHES))
    axes.set_xlabel("messages a batch")
    axes.set_title(f"{direction}, {SIZE} bytes, loopback")
    axes.grid(visible=True, which="both", alpha=0.25)


def draw(measured: Measured, directory: pathlib.Path) -> None:
    """Write bench.svg and bench.png: time a datagram over the length of a batch."""
    # No date, and the same names in each run: a picture changes only when its numbers do.
    plt.rcParams["svg.hashsalt"] = "ipv4batch"
    figure, both = plt.subplots(1, len(DIRECTIONS), figsize=(10, 4.2), sharey=True)
    for axes, direction in zip(both, DIRECTIONS, strict=True):
        _draw_direction(axes, measured, direction)
    both[0].set_ylabel("ns a datagram (less is better)")
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(directory / "bench.svg", metadata={"Date": None})
    figure.savefig(directory / "bench.png", dpi=110)
    plt.close(figure)
