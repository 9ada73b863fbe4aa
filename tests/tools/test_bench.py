"""The arithmetic of benchmarks/: from the nanoseconds of bursts to ratios, goals and verdicts; and
that the figures of docs/ are of one run. No peer runs here: `make bench-quick` does that.
"""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"
DOCS = ROOT / "docs"

# Nanoseconds a datagram, sending and receiving, of each round.
AT_64 = {
    "ipv4batch": [(1000, 500), (2000, 400), (1000, 600)],
    "c": [(1000, 400), (1000, 400), (1000, 400)],
    "go": [(1300, 650), (2600, 480), (1200, 600)],
    "sendto": [(2000, 1000), (4000, 2000), (3000, 900)],
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The modules of benchmarks/, which import each other from their own directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield SimpleNamespace(
            **{name: importlib.import_module(name) for name in ("grid", "processes", "report")}
        )


def measured_at(bench: Any, cell: Any, times: dict[str, list[tuple[int, int]]]) -> Any:
    return {cell: {who: [bench.processes.Times(*t) for t in all_] for who, all_ in times.items()}}


# Bursts


def test_a_measurement_is_the_median_burst_without_the_first_eighth(bench: Any) -> None:
    task = bench.processes.Task(64, 1200, 0, 0, bursts=8, burst=100)
    lines = ["90000 100 200 300 400 500 600 700\n", "1 10 10 10 20 20 20 9999\n"]
    assert bench.processes.times_of(lines, task) == (4.0, 0.2)


@pytest.mark.parametrize(
    ("batch", "offload", "room", "expected"),
    [
        (1, 0, 1024, (32, 256)),
        (1024, 0, 1024, (8, 1024)),
        (64, 1, 1024, (128, 256)),
        (64, 0, 100, (81, 100)),
        (256, 0, 100, None),
    ],
)
def test_a_burst_fits_the_receive_buffer(
    bench: Any, batch: int, offload: int, room: int, expected: tuple[int, int] | None
) -> None:
    task = bench.grid.task_of(bench.grid.Cell(batch, 1200, 0, offload), room)
    assert (task and (task.bursts, task.burst)) == expected


def test_the_room_of_a_receive_buffer_is_tried_out(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.processes.room(64, most=10) == 10
    monkeypatch.setattr(bench.processes, "ask_for_room", lambda sock: sock.setsockopt(1, 8, 16384))
    assert 1 <= bench.processes.room(1472) <= 32


# The grid


def test_the_grid_is_whole(bench: Any) -> None:
    cells = bench.grid.cells(quick=False)
    assert len(cells) == len(set(cells)) == 5 * 3 * 2 * 2
    assert {cell.batch for cell in cells} == {1, 8, 64, 256, 1024}
    assert {cell.size for cell in cells} == {64, 1200, 1472}
    assert set(bench.grid.cells(quick=True)) < set(cells)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ((1, 64, 0, 0), {"c", "go", "ipv4batch", "sendto", "sendmsg"}),
        ((8, 64, 0, 0), {"c", "go", "ipv4batch"}),
        ((64, 64, 0, 0), {"c", "go", "ipv4batch", "sendto", "sendmsg", "asyncio", "uvloop"}),
        ((64, 64, 1, 0), {"c", "go", "ipv4batch", "sendmsg"}),
        ((64, 64, 0, 1), {"c", "ipv4batch", "sendto"}),
        ((64, 64, 1, 1), {"c", "ipv4batch"}),
    ],
)
def test_who_takes_part(bench: Any, cell: tuple[int, ...], expected: set[str]) -> None:
    peers = {"c", "go", *bench.processes.PYTHON_PEERS}
    assert {p for p in peers if bench.grid.takes_part(p, bench.grid.Cell(*cell))} == expected


def test_peers_take_turns(bench: Any) -> None:
    """Each measures a cell right after the other, and another begins each round."""
    order = []

    class Peer:
        def __init__(self, name: str) -> None:
            self.name = name

        def measure(self, task: Any) -> Any:
            order.append((self.name, task.batch))
            return bench.processes.Times(1, 1)

    peers = {name: Peer(name) for name in ("c", "go", "ipv4batch")}
    cells = [bench.grid.Cell(batch, 1200, 0, 0) for batch in (1, 8)]
    tasks = {cell: bench.grid.task_of(cell, 1024) for cell in cells}
    measured: Any = {}
    for number in range(2):
        bench.grid.measure_round(peers, tasks, number, measured)
    first, second = ("c", "go", "ipv4batch"), ("go", "ipv4batch", "c")
    expected = [(name, batch) for names in (first, second) for batch in (1, 8) for name in names]
    assert order == expected
    assert all(len(times) == 2 for by_peer in measured.values() for times in by_peer.values())


# Ratios


def test_a_spread_is_minimum_quartiles_and_maximum(bench: Any) -> None:
    spread = bench.grid.Spread.over([5, 1, 3, 2, 4])
    assert spread == bench.grid.Spread(1, 2, 3, 4, 5)
    assert bench.grid.Spread.over([7]) == bench.grid.Spread(7, 7, 7, 7, 7)


def test_a_ratio_is_taken_round_by_round(bench: Any) -> None:
    """Not of medians: a machine that was slow for a round was slow for both."""
    cell = bench.report.PLAIN
    measured = measured_at(bench, cell, AT_64)
    ratio = bench.grid.ratio(measured, cell, "send", "go", "ipv4batch")
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((1.2, 1.3, 1.3))
    ratio = bench.grid.ratio(measured, cell, "receive", "ipv4batch", "c")
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((1.0, 1.25, 1.5))
    assert bench.grid.ratio(measured, cell, "send", "uvloop", "ipv4batch") is None


def test_what_was_not_timed_in_pairs_is_compared_at_its_worst(bench: Any) -> None:
    codecs = {"theirs": [1000, 1200, 1400], "ours": [100, 120, 200]}
    ratio = bench.report.codec_ratio(codecs, "theirs", "ours")
    assert (ratio.low, ratio.median, ratio.high) == (5, 10, 14)
    assert bench.report.codec_ratio(codecs, "theirs", "nobody") is None


# Goals


def goals_of(bench: Any) -> dict[str, Any]:
    measured = measured_at(bench, bench.report.PLAIN, AT_64)
    codecs = {
        "data and addr, peers: 1": [120.0, 90.0, 130.0],
        "Header parse, dpkt": [900.0],
        "Header parse, ipv4batch": [100.0],
    }
    rows = bench.report.goals(measured, codecs, {"Message": 540.0})
    return {row.what: row for row in rows}


@pytest.mark.parametrize(
    ("what", "verdict", "median", "c"),
    [
        ("send, 64 a batch: our time / C loop's", "yes", 1.0, None),
        ("receive, 64 a batch: our time / C loop's", "NO", 1.25, None),
        ("send, 64 a batch: Go WriteBatch's time / ours", "yes", 1.3, 1.3),
        ("receive, 64 a batch: Go ReadBatch's time / ours", "NO", 1.2, 1.5),
        ("send, 64 a batch: sendto's time / ours", "yes", 2.0, 3.0),
        ("receive, 64 a batch: recvfrom_into's time / ours", "NO", 2.0, 2.5),
        ("receive, 1 a batch: recvmsg_into's time / ours", "-", None, None),
        ("send, offload: sendto's time / ours", "-", None, None),
        ("receive, offload: our time / C loop's", "-", None, None),
        ("data + addr, 1 peer: ns a message", "yes", 120, None),
        ("data + addr, 1000 peers: ns a message", "-", None, None),
        ("Header parse: dpkt's time / ours", "NO", 9, None),
        ("Header marshal: dpkt's time / ours", "-", None, None),
        ("Message: bytes beside buffers", "", 540, None),
    ],
)
def test_a_goal_has_its_verdict(
    bench: Any, what: str, verdict: str, median: float | None, c: float | None
) -> None:
    row = goals_of(bench)[what]
    assert row.verdict == verdict
    assert (row.reached and row.reached.median) == (median and pytest.approx(median))
    assert (row.c and row.c.median) == (c and pytest.approx(c))


def test_faster_is_more_than_as_fast(bench: Any) -> None:
    spread = bench.grid.Spread.over([1.0])
    assert bench.report.Goal("", spread, ">", 1.0).verdict == "NO"
    assert bench.report.Goal("", spread, ">=", 1.0).verdict == "yes"


def test_the_table_has_every_row_and_a_reason_for_each_that_falls_short(bench: Any) -> None:
    measured = measured_at(bench, bench.report.PLAIN, AT_64)
    codecs = {"Header parse, ipv4batch": [100.0, 50.0, 60.0], "Header parse, dpkt": [900.0]}
    text = bench.report.goals_text("the run", measured, codecs, {"Message": 540.0}, "threads")
    assert (text.splitlines()[0], text.splitlines()[-1]) == ("the run", "threads")
    assert re.search(r"^  Header parse, ipv4batch +50\.0 +60\.0 +100$", text, re.MULTILINE)
    assert re.search(r"^  Header parse, dpkt +900 +900 +900 +15\.0$", text, re.MULTILINE)
    for row in goals_of(bench).values():
        assert re.search(rf"^  {re.escape(row.what)} ", text, re.MULTILINE)
        assert bool(row.why) is (row.goal is not None)
    reasons = " ".join(text[text.index("NO at ") : text.index("ns a datagram")].split())
    assert "NO at receive, 64 a batch: our time; " in reasons
    assert "send, 64 a batch" not in reasons


def test_what_the_c_loop_does_not_reach_is_the_kernels(bench: Any) -> None:
    spread = bench.grid.Spread.over
    row = bench.report.Goal("", spread([2.0]), ">=", 2.4, c=spread([2.5]), why="ours")
    assert row.reason == "ours"
    row = bench.report.Goal("", spread([2.0]), ">=", 2.4, c=spread([2.3]), why="ours")
    assert row.reason == bench.report.KERNEL


def test_the_grid_table_has_minimum_median_and_maximum(bench: Any) -> None:
    measured = measured_at(bench, bench.report.PLAIN, AT_64)
    text = bench.report.grid_text("the run", measured)
    # The times of others for ours, and a peer that was not there is left empty.
    assert re.search(
        r"^ +1200 +64 +1000 +0\.50 1\.00 1\.00 +1\.20 1\.30 1\.30$", text, re.MULTILINE
    )
    assert re.search(r"^ +1200 +64 +500 +1\.50 2\.00 5\.00$", text, re.MULTILINE)


# What docs/ shows


def test_tables_and_picture_are_of_one_run() -> None:
    run = (DOCS / "benchmarks.txt").read_text().splitlines()[0]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, ", run)
    assert (DOCS / "benchmarks-grid.txt").read_text().splitlines()[0] == run
    assert f"<dc:title>{run}</dc:title>" in (DOCS / "benchmarks.svg").read_text()


def test_the_counts_are_of_every_row_that_has_a_limit() -> None:
    limits = tomllib.loads((BENCHMARKS / "limits.toml").read_text())
    table = (DOCS / "instructions.txt").read_text().splitlines()[3:]
    rows = [re.split(r"  +", line.strip())[0] for line in table if line.strip()]
    assert rows == list(limits["limits"])
    assert set(limits["goals"]) <= set(rows)
