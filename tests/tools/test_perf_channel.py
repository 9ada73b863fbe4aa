"""The channel between the two sides of perf."""

import pytest
from support.perf import channel_and_peer

from ipv4batch.perf.channel import PeerGoneError, PerfError


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
