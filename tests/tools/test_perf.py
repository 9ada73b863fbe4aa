"""`python -m ipv4batch perf` and `info`, run as a user runs them."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import sys
from typing import Any

import pytest
from support.perf import LIMIT, assert_failure, run, running, start_listening

import ipv4batch
from ipv4batch.__main__ import main
from ipv4batch.perf import receiver
from ipv4batch.perf.ways import ways_here

# The commands

# In a round every way is measured in every mode.
TRANSFERS = len(ways_here()) * len(receiver.MODES)


def check_report(told: dict[str, Any], count: int, rounds: int) -> None:
    """What holds for every run in which nothing goes wrong."""
    assert told["content_ok"] is True
    assert told["settings"]["count"] == count
    assert 1 <= told["setup"]["burst"] <= 1024
    assert told["setup"]["rcvbuf"] > 0
    assert list(told["ways"]) == ways_here()
    for way in told["ways"].values():
        assert way["sent"] == way["tally"]["intact"] == count * rounds * len(receiver.MODES)
        assert way["tally"]["missing"] == 0
        assert way["tally"]["first_missing"] == []
        for spread in way["figures"].values():
            assert 0 < spread["low"] <= spread["lower_quartile"] <= spread["median"]
            assert spread["median"] <= spread["upper_quartile"] <= spread["high"]
        assert 100 < way["figures"]["send_ns"]["median"] < 1_000_000
        assert 10 < way["figures"]["receive_ns"]["median"] < 1_000_000
        assert 100 < way["figures"]["datagrams_per_second"]["median"] < 1e8
    ratios = told["ways"]["batch"]["ratios"]
    assert set(ratios) == {"datagrams_per_second", "send_ns", "receive_ns"}
    assert len(told["rounds"]) == rounds


def test_a_small_run_on_loopback() -> None:
    done = run("perf", "--count", "2000", "--rounds", "2", "--json")
    assert done.returncode == 0, done.stderr
    check_report(json.loads(done.stdout), count=2000, rounds=2)
    assert done.stderr.splitlines() == [
        "ipv4batch perf: round 1 of 2",
        "ipv4batch perf: round 2 of 2",
    ]


@pytest.mark.parametrize(("size", "batch"), [("20", "1"), ("65507", "1024"), ("1472", "7")])
def test_sizes_and_batches(size: str, batch: str) -> None:
    done = run(
        *("perf", "--count", "300", "--rounds", "1", "--size", size, "--batch", batch, "--json")
    )
    assert done.returncode == 0, done.stderr
    check_report(json.loads(done.stdout), count=300, rounds=1)


def test_a_run_prints_a_table() -> None:
    done = run("perf", "--count", "1000", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +socket +batch +ratio\b", done.stdout, re.MULTILINE)
    for row in ("datagrams/s, end to end", "ns/datagram, sending", "receiving", "lost"):
        assert row in done.stdout
    assert "0 of 4,000" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    controller, terminal = pty.openpty()
    try:
        arguments = ("perf", "--count", "1000", "--rounds", "1", "--json")
        with running(*arguments, stderr=terminal) as process:
            os.close(terminal)
            drawn = b""
            # Reading the controlling side fails once no process has the terminal open.
            with contextlib.suppress(OSError):
                while data := os.read(controller, 4096):
                    drawn += data
            told, _ = process.communicate(timeout=LIMIT)
    finally:
        os.close(controller)
    assert process.returncode == 0
    check_report(json.loads(told), count=1000, rounds=1)
    assert b"round 1 of 1" in drawn
    assert f"/{1000 * TRANSFERS}".encode() in drawn


def test_two_commands_measure_with_each_other() -> None:
    with running("perf", "--listen", "127.0.0.1:0", "--json") as listener:
        host, port = start_listening(listener)
        done = run("perf", "--to", f"{host}:{port}", "--count", "1000", "--rounds", "2", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        check_report(told, count=1000, rounds=2)
        assert told["target"] == f"127.0.0.1:{port}"
        out, errors = listener.communicate(timeout=LIMIT)
    assert listener.returncode == 0
    assert errors == ""
    served = json.loads(out)
    assert served["event"] == "served"
    assert served["intact"] == 2 * 1000 * TRANSFERS
    assert served["missing"] == 0


def test_a_listener_for_ever_serves_again_also_after_a_failure() -> None:
    with running("perf", "--listen", "127.0.0.1:0", "--forever") as listener:
        assert listener.stdout is not None
        assert listener.stderr is not None
        port = re.search(r"listening on 127\.0\.0\.1:(\d+)", listener.stdout.readline())
        assert port is not None
        target = f"127.0.0.1:{port[1]}"
        for _ in range(2):
            done = run("perf", "--to", target, "--count", "100", "--rounds", "1")
            assert done.returncode == 0, done.stderr
            assert f"to {target}" in done.stdout
            assert f"{100 * TRANSFERS} datagrams intact, 0 lost" in listener.stdout.readline()
            socket.create_connection(("127.0.0.1", int(port[1])), LIMIT).close()
            assert "it closed the control channel" in listener.stderr.readline()
        listener.send_signal(signal.SIGINT)
        _, errors = listener.communicate(timeout=LIMIT)
    assert listener.returncode == 130
    assert errors == "ipv4batch perf: interrupted\n"


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("perf", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert_failure(done.returncode, done.stderr, "Address already in use")


# Arguments and info


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("fly", "invalid choice: 'fly'"),
        ("perf --count 0", "'0' is no whole number from 1 to 10000000"),
        ("perf --count 1e3", "'1e3' is no whole number"),
        ("perf --size 19", "'19' is no whole number from 20 to 65507"),
        ("perf --size 65508", "'65508' is no whole number"),
        ("perf --batch 1025", "'1025' is no whole number from 1 to 1024"),
        ("perf --rounds -1", "--rounds"),
        ("perf --timeout 0", "'0' is no number of seconds"),
        ("perf --timeout nan", "'nan' is no number of seconds"),
        ("perf --timeout soon", "'soon' is no number of seconds"),
        ("perf --to localhost:1", "host names have to be resolved first"),
        ("perf --to 127.0.0.1", "'127.0.0.1' is no IPv4ADDRESS:PORT"),
        ("perf --to 127.0.0.1:0", "the port of '127.0.0.1:0' is no number from 1 to 65535"),
        ("perf --listen 127.0.0.1:65536", "no number from 0 to 65535"),
        ("perf --listen ::1:5", "is no IPv4ADDRESS:PORT"),
        ("perf --listen 127.0.0.1:0 --to 127.0.0.1:1", "not allowed with argument --listen"),
        ("perf --listen 127.0.0.1:0 --size 64", "--size is for the sender to say"),
        ("perf --forever", "--forever goes with --listen"),
        ("perf now", "unrecognized arguments: now"),
        ("info --fast", "unrecognized arguments: --fast"),
    ],
)
def test_wrong_arguments_are_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: str, complaint: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    out, errors = capsys.readouterr()
    assert out == ""
    (line,) = errors.splitlines()
    assert line.startswith("ipv4batch")
    assert complaint in line


def test_info() -> None:
    done = run("info", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"] == ipv4batch.__version__
    assert told["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert os.uname().release in told["kernel"]
    assert told["capabilities"] == ipv4batch.capabilities()


def test_info_for_people() -> None:
    done = run("info")
    assert done.returncode == 0, done.stderr
    for name, there in ipv4batch.capabilities().items():
        assert re.search(rf"^{name} +{'yes' if there else 'no'}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^version +{re.escape(ipv4batch.__version__)}$", done.stdout, re.MULTILINE)
