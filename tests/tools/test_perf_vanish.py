"""Peers of perf that vanish: every run ends, and no process is left behind."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from support.perf import (
    LIMIT,
    SETTINGS,
    alive,
    assert_failure,
    channel_and_peer,
    children,
    run,
    running,
    start_listening,
    wait_until,
)

from ipv4batch.perf.channel import Channel, PerfError
from ipv4batch.perf.sender import Sender


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
