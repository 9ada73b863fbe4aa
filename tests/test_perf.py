"""`python -m ipv4batch perf` and `info`, run as a user runs them, and the parts that judge content.

All waits have limits, and no test leaves a process behind.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ipv4batch
from ipv4batch.__main__ import main
from ipv4batch.perf import receiver
from ipv4batch.perf.channel import Channel, PeerGoneError, PerfError
from ipv4batch.perf.datagrams import HEADER_SIZE, Checker, Composer, Tally
from ipv4batch.perf.report import as_json, as_text, make_report
from ipv4batch.perf.sender import Sender, Settings, Setup, Transfer
from ipv4batch.perf.ways import WAYS, make_slots, ways_here

LIMIT = 60.0
"""Seconds that any step may take on a busy machine."""

RUN = 0x1234
SIZE = 100
COMMAND = [sys.executable, "-m", "ipv4batch"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )


@contextlib.contextmanager
def running(*arguments: str, stderr: int = subprocess.PIPE) -> Iterator["subprocess.Popen[str]"]:
    """A command in the background, ended with the context and after LIMIT at the latest."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    try:
        yield process
    finally:
        killer.cancel()
        killer.join()
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`, zombies left out."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def datagrams(count: int, run_id: int = RUN, first: int = 0) -> list[bytearray]:
    composer = Composer(run_id, SIZE)
    made = [bytearray(SIZE) for _ in range(count)]
    for index, datagram in enumerate(made):
        composer.compose(first + index, memoryview(datagram))
    return made


def check(*received: bytes | bytearray, count: int, first: int = 0) -> Tally:
    checker = Checker(RUN, SIZE, first, count)
    for datagram in received:
        checker.check(memoryview(datagram))
    return checker.tally()


# The content of datagrams


def test_composed_datagrams_are_intact_in_any_order() -> None:
    made = datagrams(600, first=10**12)
    assert check(*reversed(made), count=600, first=10**12) == Tally(600, 0, 0, 0, 0, ())


def test_neighbours_have_different_payloads() -> None:
    payloads = [bytes(datagram[HEADER_SIZE:]) for datagram in datagrams(251)]
    assert len(set(payloads)) == 251


def test_datagrams_of_the_smallest_size_have_a_header_alone() -> None:
    datagram = bytearray(HEADER_SIZE)
    Composer(RUN, HEADER_SIZE).compose(3, memoryview(datagram))
    checker = Checker(RUN, HEADER_SIZE, 0, 4)
    checker.check(memoryview(datagram))
    assert checker.tally() == Tally(1, 0, 0, 0, 3, (0, 1, 2))


@pytest.mark.parametrize("offset", range(8, SIZE))
def test_an_altered_byte_after_the_run_number_makes_a_datagram_corrupt(offset: int) -> None:
    made = datagrams(3)
    made[1][offset] ^= 0x40
    assert check(*made, count=3) == Tally(2, 1, 0, 0, 1, (1,))


@pytest.mark.parametrize("offset", range(8))
def test_a_datagram_with_another_magic_or_run_is_stray(offset: int) -> None:
    made = datagrams(3)
    made[1][offset] ^= 0x40
    assert check(*made, count=3) == Tally(2, 0, 0, 1, 1, (1,))


@pytest.mark.parametrize("length", [HEADER_SIZE, SIZE - 1, SIZE + 1])
def test_a_wrong_length_makes_a_datagram_corrupt(length: int) -> None:
    made = datagrams(1)
    assert check(bytes(made[0]).ljust(length, b"\0")[:length], count=1) == Tally(
        0, 1, 0, 0, 1, (0,)
    )


def test_less_than_a_header_is_stray() -> None:
    assert check(b"", b"i4bp", count=1) == Tally(0, 0, 0, 2, 1, (0,))


def test_duplicates_are_counted_and_do_not_hide_what_is_missing() -> None:
    made = datagrams(4)
    assert check(made[0], made[2], made[2], made[2], count=4) == Tally(2, 0, 2, 0, 2, (1, 3))


def test_the_lowest_ten_missing_numbers_are_named() -> None:
    made = datagrams(100, first=1000)
    tally = check(*made[:50], count=100, first=1000)
    assert (tally.intact, tally.missing) == (50, 50)
    assert tally.first_missing == tuple(range(1050, 1060))


@pytest.mark.parametrize("first", [0, 20])
def test_numbers_of_another_transfer_are_stray(first: int) -> None:
    assert check(*datagrams(10, first=first), count=10, first=10).stray == 10


def test_datagrams_of_another_run_are_stray() -> None:
    assert check(*datagrams(10, run_id=RUN + 1), count=10).stray == 10


def test_a_total_adds_up_and_keeps_the_lowest_missing_numbers() -> None:
    one = Tally(5, 1, 2, 3, 8, (1, 3, 5, 7, 9, 11, 13, 15))
    other = Tally(7, 1, 1, 1, 4, (0, 2, 4, 6))
    assert Tally.total([one, other]) == Tally(12, 2, 3, 4, 12, (0, 1, 2, 3, 4, 5, 6, 7, 9, 11))


# The ways


@pytest.mark.parametrize("writer", ways_here())
@pytest.mark.parametrize("reader", ways_here())
def test_every_way_delivers_to_every_other(writer: str, reader: str) -> None:
    """More than a batch, to a reader that finds less than it has room for."""
    with (
        receiver.make_data_socket("127.0.0.1", 0) as data,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        source.setblocking(False)
        slots = make_slots(20, SIZE)
        composer = Composer(RUN, SIZE)
        for index, slot in enumerate(slots):
            composer.compose(index, slot)
        receiving = WAYS[reader].reader(data, make_slots(30, SIZE + 1), 8)
        receiving.start()
        sending = WAYS[writer].writer(source, slots, data.getsockname(), 8)
        assert sending.write(1, 20) == 20
        assert receiving.read(2, 4) == 4
        assert receiving.read(4, 30) == 21
        assert receiving.read(21, 30) == 21
        arrived = [bytes(receiving.datagram(index)) for index in range(2, 21)]
        assert arrived == [bytes(slot) for slot in slots[1:]]
        with pytest.raises(BlockingIOError):
            receiving.late(bytearray(SIZE))
        receiving.stop()


@pytest.mark.parametrize(
    ("rcvbuf", "size", "batch", "burst"),
    [
        (8 << 20, 1200, 64, 256),
        (8 << 20, 1200, 100, 200),
        (8 << 20, 1200, 1000, 1000),
        (2 * 212992, 1200, 64, 64),
        (2 * 212992, 9000, 64, 19),
        (8 << 20, 65507, 1, 47),
        (2304, 65507, 64, 1),
    ],
)
def test_bursts_fit_the_receive_buffer(rcvbuf: int, size: int, batch: int, burst: int) -> None:
    assert receiver.burst_length(rcvbuf, size, batch) == burst


# The receiving side, against a sender that breaks things


class Script:
    """A sender in the test's hands, with a receiver in a thread of its own."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours, "the receiver", LIMIT)
        self._far = Channel(theirs, "the sender", LIMIT)
        self._data = receiver.make_data_socket("127.0.0.1", 0)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outcome: Tally | Exception | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self.outcome = receiver.serve(self._far, self._data)
        except (PerfError, OSError) as error:
            self.outcome = error
        finally:
            self._far.close()

    def hello(self, **changes: object) -> None:
        fields = {"protocol": receiver.PROTOCOL, "run": RUN, "size": SIZE, "count": 20, "batch": 4}
        self.channel.send("hello", **{**fields, **changes})

    def burst(self, *sent: bytes | bytearray, count: int) -> int:
        """Send a burst that announces `count` datagrams; return how many the receiver has read."""
        self.channel.send("burst", count=count)
        self.channel.receive("ready")
        for datagram in sent:
            self.sock.sendto(datagram, self._data.getsockname())
        self.channel.send("sent")
        return self.channel.receive("done").integer("received", 0, count)

    def close(self) -> None:
        self.channel.close()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        self.sock.close()
        self._data.close()


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("mode", receiver.MODES)
@pytest.mark.parametrize("way", ways_here())
def test_the_receiver_finds_what_is_lost_altered_and_doubled(
    script: Script, way: str, mode: str
) -> None:
    made = datagrams(20)
    made[4][50] ^= 1
    script.hello()
    script.channel.receive("welcome")
    script.channel.send("transfer", way=way, mode=mode, first=0)
    # Number 2 is lost, 4 altered, and 5 comes twice, so that 9 finds no room and comes late.
    assert script.burst(*made[:2], *made[3:6], *made[5:10], count=10) == 10
    assert script.burst(*made[10:19], b"stranger", count=10) == 10
    script.channel.send("finish")
    result = script.channel.receive("result")
    assert result.integer("datagrams", 0, 20) == 20
    assert result.integer("intact", 0, 20) == 17
    assert result.integer("corrupt", 0, 20) == 1
    assert result.integer("duplicate", 0, 20) == 1
    assert result.integer("stray", 0, 20) == 1
    assert result.integer("missing", 0, 20) == 3
    assert result.integers("first_missing", 0, 20) == (2, 4, 19)
    assert result.integer("cpu_ns", 1, 10**9) > 0
    script.channel.send("bye")


@pytest.mark.parametrize("mode", receiver.MODES)
def test_a_burst_of_which_nothing_arrives_ends(script: Script, mode: str) -> None:
    script.hello()
    script.channel.receive("welcome")
    script.channel.send("transfer", way="batch", mode=mode, first=0)
    assert script.burst(count=10) == 0
    script.channel.send("finish")
    assert script.channel.receive("result").integer("missing", 0, 20) == 20
    script.channel.send("bye")


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 65508), ("size", HEADER_SIZE - 1), ("count", 0), ("batch", "64"), ("run", None)],
)
def test_the_receiver_refuses_what_it_cannot_do(script: Script, field: str, value: object) -> None:
    script.hello(**{field: value})
    with pytest.raises(PerfError, match=f"the receiver reports: .*{field} = {value!r} in 'hello'"):
        script.channel.receive("welcome")


def test_another_protocol_is_refused(script: Script) -> None:
    script.hello(protocol=receiver.PROTOCOL + 1)
    with pytest.raises(PerfError, match="run the same version of ipv4batch on both sides"):
        script.channel.receive("welcome")


def test_an_unknown_way_is_refused(script: Script) -> None:
    script.hello()
    script.channel.receive("welcome")
    script.channel.send("transfer", way="pigeon", mode="turns", first=0)
    with pytest.raises(PerfError, match="unknown transfer: 'pigeon'"):
        script.channel.receive("result")


def test_a_sender_that_goes_ends_the_receiver(script: Script) -> None:
    script.hello()
    script.channel.receive("welcome")
    script.channel.close()
    wait_until(lambda: script.outcome is not None, "the receiver has ended")
    assert isinstance(script.outcome, PeerGoneError)


# The channel


@contextlib.contextmanager
def channel_and_peer(timeout: float = LIMIT) -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with Channel(ours, "the peer", timeout) as channel, theirs:
        yield channel, theirs


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"[]", b'{"op": 1}', b"\xff\xfe", b"[" * 50000, b"x" * 70000]
)
def test_other_protocols_are_recognised(line: bytes) -> None:
    with channel_and_peer() as (channel, peer):
        peer.sendall(line + b"\n")
        with pytest.raises(PerfError, match="does not speak ipv4batch perf's protocol"):
            channel.receive("hello")


def test_a_silent_peer_is_given_up() -> None:
    with (
        channel_and_peer(timeout=0.05) as (channel, _),
        pytest.raises(PerfError, match=r"the peer did not answer for 0\.05 s"),
    ):
        channel.receive("hello")


def test_a_peer_that_reads_nothing_is_given_up() -> None:
    with (
        channel_and_peer(timeout=0.05) as (channel, _),
        pytest.raises(PerfError, match=r"the peer took no message for 0\.05 s"),
    ):
        for _ in range(10000):
            channel.send("hello", text="x" * 1000)


def test_what_a_peer_reported_before_it_went_is_the_error() -> None:
    with channel_and_peer() as (channel, peer):
        peer.sendall(b'{"op": "ready"}\n{"op": "error", "text": "out of\\nluck"}\n')
        peer.close()
        with pytest.raises(PerfError, match="the peer reports: out of luck"):
            channel.send("burst")


def test_a_peer_that_went_without_a_word_has_gone() -> None:
    with channel_and_peer() as (channel, peer):
        peer.close()
        with pytest.raises(PeerGoneError, match="the peer has gone"):
            channel.send("burst")


# The report

SETTINGS = Settings(count=1000, size=SIZE, batch=64, rounds=2)
SETUP = Setup(burst=512, rcvbuf_asked=1 << 20, rcvbuf=1 << 21)


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


def start_listening(process: "subprocess.Popen[str]") -> tuple[str, int]:
    assert process.stdout is not None
    event = json.loads(process.stdout.readline())
    assert event["event"] == "listening"
    return event["host"], event["port"]


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


# Peers that vanish


def assert_failure(returncode: int, errors: str, expected: str) -> None:
    """The run failed, and its last words are one line that contains `expected`."""
    assert returncode == 1
    *earlier, last = errors.splitlines()
    assert last.startswith("ipv4batch perf: error: ")
    assert expected in last
    assert all(line.startswith("ipv4batch perf: round") for line in earlier)


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = run("perf", "--to", f"127.0.0.1:{unused.getsockname()[1]}")
    assert_failure(done.returncode, done.stderr, "Connection refused; is `python -m ipv4batch")


def test_a_receiver_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"127.0.0.1:{server.getsockname()[1]}"
        done = run("perf", "--to", target, "--timeout", "0.2")
    assert_failure(done.returncode, done.stderr, f"the receiver {target} did not answer for 0.2 s")


def test_a_sender_that_says_nothing() -> None:
    with (
        running("perf", "--listen", "127.0.0.1:0", "--json", "--timeout", "0.2") as listener,
        socket.create_connection(start_listening(listener), LIMIT),
    ):
        _, errors = listener.communicate(timeout=LIMIT)
    assert_failure(listener.returncode, errors, "did not answer for 0.2 s")


def test_a_sender_that_goes() -> None:
    with running("perf", "--listen", "127.0.0.1:0", "--json") as listener:
        socket.create_connection(start_listening(listener), LIMIT).close()
        _, errors = listener.communicate(timeout=LIMIT)
    assert_failure(listener.returncode, errors, "has gone: it closed the control channel")


def test_datagrams_that_never_arrive() -> None:
    """A receiver whose control channel works, while its datagrams go where nobody reads them."""
    with (
        channel_and_peer() as (channel, peer),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sink.bind(("127.0.0.1", 0))
        port = sink.getsockname()[1]
        sock.setblocking(False)
        far = Channel(peer, "the sender", LIMIT)
        far.send("welcome", burst=4, rcvbuf_asked=1, rcvbuf=1, port=port, ways="socket batch")
        far.send("ready")
        far.send("done", received=0, idle_ns=10**12)
        sender = Sender(channel, sock, "127.0.0.1", SETTINGS)
        with pytest.raises(PerfError, match="none of the first 4 datagrams arrived"):
            sender.run(Quiet())
        assert [far.receive("hello", "transfer", "burst", "sent").op for _ in range(4)] == [
            "hello",
            "transfer",
            "burst",
            "sent",
        ]
        with pytest.raises(PerfError, match="the sender reports: none of the first 4"):
            far.receive()


class Quiet:
    """No progress."""

    def stage(self, text: str) -> None:
        pass

    def advance(self, datagrams: int) -> None:
        pass


@contextlib.contextmanager
def long_run() -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A run on loopback that would take minutes, once it is in its first round, and its child."""
    with running("perf", "--count", "10000000", "--rounds", "1") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ipv4batch perf: round 1 of 1\n"
        (child,) = children(process.pid)
        try:
            yield process, child
        finally:
            wait_until(lambda: not alive(child), "the receiver's process has ended")


def test_ctrl_c_leaves_nothing_behind() -> None:
    with long_run() as (process, _):
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert (out, errors) == ("", "ipv4batch perf: interrupted\n")


def test_a_killed_sender_leaves_nothing_behind() -> None:
    with long_run() as (process, _):
        process.kill()
        process.wait(LIMIT)


def test_a_killed_receiver_ends_the_run() -> None:
    with long_run() as (process, child):
        os.kill(child, signal.SIGKILL)
        _, errors = process.communicate(timeout=LIMIT)
        assert_failure(process.returncode, errors, "its process was ended by signal 9")


def test_a_stopped_receiver_ends_the_run() -> None:
    """It hangs, rather than go: only the limit on silence can end the run."""
    with running("perf", "--count", "10000000", "--rounds", "1", "--timeout", "1") as process:
        assert process.stderr is not None
        process.stderr.readline()
        (child,) = children(process.pid)
        os.kill(child, signal.SIGSTOP)
        _, errors = process.communicate(timeout=LIMIT)
        assert_failure(process.returncode, errors, "the receiver did not answer for 1 s")
        wait_until(lambda: not alive(child), "the receiver's process has ended")


# Arguments and info


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "required: command"),
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
