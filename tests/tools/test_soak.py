"""The soak finds nothing here, and would find what it looks for."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soak
from support import soak_sides
from support.soak import WAYS, Outcome
from support.soak_sides import Outlet, Sender

from ipv4batch import Message

DATAGRAMS = 20_000

SANITIZED = os.environ.get("IPV4BATCH_TEST_SANITIZED", "0") not in ("", "0")
"""Sanitizers keep what is freed for a while."""

Change = Callable[[list[Message]], list[Message]]


def test_none_is_altered_or_twice_or_missing() -> None:
    """A run of some seconds; `make soak` is the long one."""
    environment = {**os.environ, "PYTHONSAFEPATH": ""}
    options = ["--datagrams", "200000", "--rounds", "5"]
    if SANITIZED:
        options += ["--growth", str(1 << 20)]
    done = subprocess.run(
        [sys.executable, Path(soak.__file__), *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    rows = {line[:30].strip(): line[30:].split() for line in done.stdout.splitlines()}
    assert set(rows) >= {way.name for way in WAYS}
    sent, received, missing, drops, admitted, altered, twice, _ = (
        int(number.replace(",", "")) for number in rows["all"]
    )
    assert sent > 180_000
    assert sent == received + missing
    # The ways that overflow do.
    assert drops == admitted > 0
    assert altered == twice == 0


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def altered(messages: list[Message], how: Callable[[bytes, bytes], list[bytes]]) -> list[Message]:
    """The messages with another in place of the longest."""
    longest = max(messages, key=lambda message: len(message.buffers[1]))
    return [
        Message(how(*message.buffers), addr=message.addr) if message is longest else message
        for message in messages
    ]


CHANGES: dict[int, Change] = {
    1: lambda messages: altered(messages, lambda head, tail: [head, flip(tail)]),
    2: lambda messages: altered(messages, lambda head, tail: [flip(head), tail]),
    3: lambda messages: [*messages, messages[-1]],
    4: lambda messages: altered(messages, lambda head, tail: [head, tail[:-1]]),
    5: lambda messages: messages[:-1],
}


class Changing(Outlet):
    """Does to some bursts what must be found, but where it is to be dropped."""

    def send(self, burst: int, first: int) -> int:
        write = self.write
        if burst in CHANGES and self.way.paced:
            self.write = lambda messages: write(CHANGES[burst](messages))
        try:
            return super().send(burst, first)
        finally:
            self.write = write


class ChangingSender(Sender):
    """With such outlets."""

    outlet = Changing


def test_each_datagram_that_is_not_as_it_was_sent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Altered content, number and length; one twice, and one left out: in every way."""
    monkeypatch.setattr(soak_sides, "GRACE", 0.1)
    report = soak.run(DATAGRAMS, 1, sender=ChangingSender)
    for way, outcome in zip(WAYS, report.outcomes, strict=True):
        counts = (outcome.altered, outcome.twice, outcome.strange)
        if not way.paced:
            assert counts == (0, 0, 0)
            assert outcome.drops == outcome.admitted
            continue
        assert counts == (3 * way.flows, way.flows, 0), way.name
        assert (outcome.missing, outcome.drops) == (4 * way.flows, 4 * way.flows), way.name
        assert outcome.admitted == 0
        assert outcome.sent == outcome.received + outcome.missing
    named = [violation.split(":")[0] for violation in report.violations]
    assert named == [way.name for way in WAYS if way.paced]


@pytest.mark.skipif(SANITIZED, reason="sanitizers keep what is freed")
def test_a_process_that_grows_is_found() -> None:
    kept = []

    class Growing(Sender):
        def block(self, index: int, about: int) -> Outcome:
            kept.append([bytearray(1000) for _ in range(20)])
            return super().block(index, about)

    report = soak.run(DATAGRAMS, 5, sender=Growing)
    (violation,) = report.violations
    assert violation.startswith("the sender has grown by ")
