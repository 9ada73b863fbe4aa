"""The report of perf."""

import dataclasses
import json
import re
from typing import Any

import pytest
from support.perf import SETTINGS, SETUP

from ipv4batch.perf import receiver
from ipv4batch.perf.datagrams import Tally
from ipv4batch.perf.report import as_json, as_text, make_report
from ipv4batch.perf.sender import Transfer


def transfer(way: str, mode: str, ns: int, **changes: Any) -> Transfer:
    made = Transfer(
        way=way,
        mode=mode,
        sent=1000,
        send_cpu_ns=2 * ns * 1000,
        send_wall_ns=3 * ns * 1000,
        received=1000,
        receive_cpu_ns=ns * 1000,
        receive_wall_ns=ns * 1000,
        elapsed_ns=4 * ns * 1000,
        tally=Tally(1000, 0, 0, 0, 0, ()),
    )
    return dataclasses.replace(made, **changes)


def measured_round(socket_ns: int, batch_ns: int, **changes: Any) -> list[Transfer]:
    return [
        transfer(way, mode, ns, **changes)
        for way, ns in (("socket", socket_ns), ("batch", batch_ns))
        for mode in receiver.MODES
    ]


def test_the_report_takes_medians_and_compares_round_by_round() -> None:
    report = make_report(
        "there", SETTINGS, SETUP, [measured_round(1000, 500), measured_round(3000, 1000)]
    )
    told = json.loads(json.dumps(as_json(report)))
    figures = told["ways"]["socket"]["figures"]
    assert figures["receive_ns"] == {
        "low": 1000,
        "lower_quartile": 1500,
        "median": 2000,
        "upper_quartile": 2500,
        "high": 3000,
    }
    assert figures["send_ns"]["median"] == 4000
    assert figures["datagrams_per_second"]["high"] == pytest.approx(250_000)
    for ratio in told["ways"]["batch"]["ratios"].values():
        assert (ratio["low"], ratio["median"], ratio["high"]) == (2, 2.5, 3)
    assert told["ways"]["socket"]["ratios"] == {}
    assert told["content_ok"] is True
    text = as_text(report)
    assert re.search(r"ns/datagram, receiving +2,000 \+-25% +750 \+-17% +2\.50 \+-10%", text)


def test_the_report_says_what_was_lost_and_what_was_wrong() -> None:
    tally = Tally(980, 3, 2, 1, 20, tuple(range(100, 110)))
    report = make_report("there", SETTINGS, SETUP, [measured_round(1000, 500, tally=tally)])
    text = as_text(report)
    assert "batch: 40 of 2,000 lost (2.00%), sequence numbers 100, 100, 101" in text
    assert "batch: 6 arrived CORRUPT" in text
    assert "socket: 4 arrived more than once" in text
    assert "socket: 2 arrived that are not of their transfer or run" in text
    assert as_json(report)["content_ok"] is False


def test_a_way_that_lost_everything_has_no_figures() -> None:
    lost = {"received": 0, "tally": Tally(0, 0, 0, 0, 1000, (1, 2))}
    report = make_report("there", SETTINGS, SETUP, [measured_round(1000, 500, **lost)])
    assert report.ways["batch"].figures["receive_ns"] is None
    assert re.search(r"end to end +- +- +-\n", as_text(report))


def test_bursts_shorter_than_a_batch_are_pointed_out() -> None:
    setup = dataclasses.replace(SETUP, burst=19)
    report = make_report("there", SETTINGS, setup, [measured_round(1000, 500)])
    assert "no batch is full; raise net.core.rmem_max" in as_text(report)
