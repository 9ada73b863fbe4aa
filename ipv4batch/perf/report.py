"""From the transfers of a run to numbers, and from these to a table or JSON."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from ipv4batch import __version__

from .datagrams import Tally
from .sender import Settings, Setup, Transfer
from .ways import WAYS


@dataclass(frozen=True)
class Spread:
    """One figure over the rounds of a run."""

    low: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Self | None:
        """The spread of the values that are known, or None if none is."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        # A single value has no quantiles to `statistics`; it is its own.
        lower, median, upper = (
            statistics.quantiles(known, method="inclusive") if len(known) > 1 else known * 3
        )
        return cls(min(known), lower, median, upper, max(known))


@dataclass(frozen=True)
class Figure:
    """A figure of the report."""

    name: str
    """Its key in JSON."""
    title: str
    mode: str
    """The mode of the transfers that it is taken from."""
    of: Callable[[Transfer], float | None]
    """Its value in one transfer; None if nothing arrived."""
    more_is_better: bool


FIGURES = (
    Figure(
        "datagrams_per_second",
        "datagrams/s, end to end",
        "overlap",
        # Where nothing arrived there is no rate: a rate of 0 would leave the ratio undefined.
        lambda transfer: _quotient(transfer.received * 1e9 or None, transfer.elapsed_ns),
        more_is_better=True,
    ),
    Figure(
        "send_ns",
        "ns/datagram, sending",
        "turns",
        lambda transfer: _quotient(transfer.send_cpu_ns, transfer.sent),
        more_is_better=False,
    ),
    Figure(
        "receive_ns",
        "ns/datagram, receiving",
        "turns",
        lambda transfer: _quotient(transfer.receive_cpu_ns, transfer.received),
        more_is_better=False,
    ),
)


@dataclass(frozen=True)
class WayReport:
    """What one way achieved over all rounds."""

    figures: dict[str, Spread | None]
    """By the name of the figure."""
    ratios: dict[str, Spread | None]
    """How many times as fast as the first way it was, taken round by round, by the name of the
    figure; empty for the first way itself."""
    sent: int
    tally: Tally


@dataclass(frozen=True)
class Report:
    """A whole run."""

    target: str
    settings: Settings
    setup: Setup
    ways: dict[str, WayReport]
    rounds: list[list[Transfer]]

    @property
    def content_ok(self) -> bool:
        """Whether every datagram that arrived was as it was sent, came once, and was of this
        run.
        """
        tallies = [way.tally for way in self.ways.values()]
        return not any(tally.corrupt or tally.duplicate or tally.stray for tally in tallies)


def make_report(
    target: str, settings: Settings, setup: Setup, rounds: list[list[Transfer]]
) -> Report:
    """Summarise the transfers of a run; `target` says where the datagrams went."""
    gone = {transfer.way for measured in rounds for transfer in measured}
    base = next(iter(WAYS))
    ways = {}
    for way in (name for name in WAYS if name in gone):
        figures, ratios = {}, {}
        for figure in FIGURES:
            values = _values(figure, way, rounds)
            figures[figure.name] = Spread.over(values)
            if way != base:
                references = _values(figure, base, rounds)
                if figure.more_is_better:
                    values, references = references, values
                ratios[figure.name] = Spread.over(map(_quotient, references, values))
        transfers = [
            transfer for measured in rounds for transfer in measured if transfer.way == way
        ]
        ways[way] = WayReport(
            figures=figures,
            ratios=ratios,
            sent=sum(transfer.sent for transfer in transfers),
            tally=Tally.total(transfer.tally for transfer in transfers),
        )
    return Report(target, settings, setup, ways, rounds)


def as_json(report: Report) -> dict[str, object]:
    """The report as objects that `json` takes, raw measurements included; see docs/perf.rst."""
    return {"version": __version__, **asdict(report), "content_ok": report.content_ok}


def as_text(report: Report) -> str:
    """The report as a person reads it."""
    settings, setup = report.settings, report.setup
    lines = [
        f"to {report.target}: {settings.rounds} rounds, measurements of {settings.count:,} "
        + f"datagrams, {settings.size} bytes each, batch {settings.batch}, burst {setup.burst}",
        f"receive buffer: asked for {setup.rcvbuf_asked:,} bytes, got {setup.rcvbuf:,} "
        + "(Linux doubles what it grants)",
        "",
        *_table(report),
        "",
        *_content(report),
        "",
        "Each figure is the median of the rounds, and about half of them lie within the +-.",
        "End to end: both sides at work at once. ns: CPU time, user and kernel, within the calls",
        "that send or receive, one side at a time. Ratio: how many times as fast as socket,",
        "compared round by round.",
    ]
    if setup.burst < settings.batch:
        lines.append(
            f"note: no more than {setup.burst} datagrams fit the receive buffer, so no batch is "
            "full; raise net.core.rmem_max at the receiver."
        )
    return "\n".join(lines)


def _quotient(dividend: float | None, divisor: float | None) -> float | None:
    return dividend / divisor if dividend is not None and divisor else None


def _values(
    figure: Figure, way: str, rounds: Iterable[Iterable[Transfer]]
) -> Sequence[float | None]:
    """The figure of a way in each round."""
    return [
        figure.of(transfer)
        for measured in rounds
        for transfer in measured
        if transfer.way == way and transfer.mode == figure.mode
    ]


def _table(report: Report) -> list[str]:
    header = [""]
    for name, way in report.ways.items():
        header.append(name)
        if way.ratios:
            header.append("ratio")
    rows = [header]
    for figure in FIGURES:
        row = [figure.title]
        for way in report.ways.values():
            row.append(_spread(way.figures[figure.name], "{:,.0f}"))
            if way.ratios:
                row.append(_spread(way.ratios[figure.name], "{:.2f}"))
        rows.append(row)
    lost = ["lost"]
    for way in report.ways.values():
        lost.append(f"{way.tally.missing:,} of {way.sent:,}")
        if way.ratios:
            lost.append("")
    rows.append(lost)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("   ".join([first, *others]).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def _spread(spread: Spread | None, form: str) -> str:
    """The median, and half the distance between the quartiles in percent of it."""
    if spread is None:
        return "-"
    text = form.format(spread.median)
    if spread.low < spread.high:
        within = (spread.upper_quartile - spread.lower_quartile) / 2 / spread.median
        text += f" +-{within:.0%}"
    return text


def _content(report: Report) -> list[str]:
    """What the checks found, way by way where something is wrong."""
    checked = sum(way.tally.intact for way in report.ways.values())
    lines = [f"content: {checked:,} datagrams arrived with the right number and checksum"]
    for name, way in report.ways.items():
        tally = way.tally
        if tally.missing:
            numbers = ", ".join(map(str, tally.first_missing))
            more = ", ..." if tally.missing > len(tally.first_missing) else ""
            lines.append(
                f"{name}: {tally.missing:,} of {way.sent:,} lost ({tally.missing / way.sent:.2%}), "
                f"sequence numbers {numbers}{more}"
            )
        if tally.corrupt:
            lines.append(f"{name}: {tally.corrupt:,} arrived CORRUPT: wrong length or checksum")
        if tally.duplicate:
            lines.append(f"{name}: {tally.duplicate:,} arrived more than once")
        if tally.stray:
            lines.append(f"{name}: {tally.stray:,} arrived that are not of their transfer or run")
    return lines
