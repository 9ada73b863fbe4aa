"""Trials of system calls that fail: what docs/faults.rst says comes of each."""

import errno
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ipv4batch import capabilities
from support.faults import ERRORS, RUN, SEGMENTS, TOTAL, Case

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "faults.rst"
MMSG = capabilities()["recvmmsg"]
RECEIVE, SEND = ("recvmmsg", "sendmmsg") if MMSG else ("recvmsg", "sendmsg")
WAKE = "eventfd" if MMSG else "pipe"
LIMIT = 10.0
SHORT = 0.02
QUEUE = 64
"""Datagrams that receive offload takes with one system call."""
PAUSES = 0.127
"""Seconds that write_all waits for ENOBUFS."""

ERRNOS = ["EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "EPERM", "ECONNREFUSED", "ENETDOWN", "EMFILE"]
ERRNOS += ["EFAULT"]
COLUMNS = {
    "read_batch": "reads",
    "read_from": "reads",
    "read_errors": "read_errors",
    "write_batch": "writes",
    "write_to": "writes",
    "write_all": "write_all",
    "write_all_skip": "skip",
}
CALLS = {op: SEND if "write" in op else RECEIVE for op in COLUMNS} | {"read_errors": "recvmsg"}
STOPS = {"read_batch", "write_batch", "read_errors"}
"""What gives what it has when something goes wrong in the middle."""


def read_table() -> dict[tuple[str, str], str]:
    """The page's table: the outcome by errno and column."""
    lines = PAGE.read_text().splitlines()
    start, head, end = [i for i, line in enumerate(lines) if re.match("=+ [= ]+$", line)][:3]
    names = re.split("  +", lines[start + 1])
    rows = [re.split("  +", line) for line in lines[head + 1 : end]]
    return {
        (row[0].strip("`"), name): word
        for row in rows
        for name, word in zip(names[1:], row[1:], strict=True)
    }


TABLE = read_table()


def failure(op: str, code: int, first: int, **others: Any) -> dict[str, Any]:
    """The exception of a call whose first `first` messages had been moved."""
    text = "timed out" if code == errno.ETIMEDOUT else os.strerror(code)
    of_all = first if op.startswith("write_all") else None
    direction = "write" if "write" in op else "read"
    errnos = [0] * TOTAL if "write" in op else []
    if "write" in op and op != "write_to":
        errnos[first] = code
    if op.startswith("write_all"):
        errnos[first + 1 :] = [errno.ECANCELED] * (TOTAL - first - 1)
    return {
        "type": type(OSError(code, "")).__name__,
        "errno": code,
        "text": f"[Errno {code}] {text}: '{direction} udp4 127.0.0.1:PORT'",
        "index": of_all,
        "written": of_all,
        "errnos": errnos,
        **others,
    }


class Trial(NamedTuple):
    group: tuple[str, ...]
    """The test that it belongs to."""
    variant: str
    case: Case
    expected: dict[str, Any]
    seconds: float = 0.0


def expect(op: str, steps: list[Any], skipped: range = range(0), code: int = 0) -> dict[str, Any]:
    """What all of a case comes to: in particular that each datagram is there once."""
    total = ERRORS if op == "read_errors" else TOTAL
    numbers = [number for number in range(total) if number not in skipped]
    if "write" not in op:
        return {"steps": steps, "errnos": [], "arrived": [numbers]}
    return {
        "steps": steps,
        "errnos": [code if number in skipped else 0 for number in range(total)],
        "arrived": [[n for n in numbers if n // RUN % 2 == k] for k in (0, 1)],
    }


def expect_failure(op: str, first: int, code: int, **others: Any) -> dict[str, Any]:
    """An exception comes when `first` have been moved, and the rest follows."""
    before = [first] if first and not op.startswith("write_all") else []
    total = ERRORS if op == "read_errors" else TOTAL
    return expect(op, [*before, failure(op, code, first, **others), total - first])


class Place(NamedTuple):
    """Where in a case the fault is."""

    op: str
    offload: bool
    recv_errors: bool
    before: int
    """What the kernel has taken or given by then, runs and coalesced datagrams as one."""

    @property
    def first(self) -> int:
        """The same in messages."""
        if not self.offload or self.op in ("write_to", "read_errors"):
            return self.before
        return self.before * (RUN if "write" in self.op else SEGMENTS)

    @property
    def asked_again(self) -> int:
        """How often a write in the middle asks again for the error before it ends.

        With runs because a kernel that stops does not say why, and with recv_errors because it may
        be the report of what was just written.
        """
        if not self.before or self.op == "write_to" or "write" not in self.op:
            return 0
        return (self.offload or not MMSG) + self.recv_errors

    def is_report(self, code: int) -> bool:
        """Whether it is an error of the network that is in the queue, and fails no write."""
        return self.recv_errors and code == errno.ECONNREFUSED

    def whole(self, times: int = 1) -> dict[str, Any]:
        """All is moved, though a batch may stop at the place."""
        total = ERRORS if self.op == "read_errors" else TOTAL
        stops = self.before and self.op in STOPS and times >= self.asked_again
        return expect(self.op, [self.first, total - self.first] if stops else [total])

    def trial(
        self,
        variant: str,
        code: int,
        times: int,
        expected: dict[str, Any],
        timeout: float = LIMIT,
        seconds: float = 0.0,
    ) -> Trial:
        names = ["offload"] * self.offload + ["recv_errors"] * self.recv_errors
        fault = (CALLS[self.op], code, self.before, times)
        return Trial(
            (self.op, errno.errorcode[code]),
            " ".join([variant, *names, f"at {self.before}"]),
            {
                "op": self.op,
                "offload": self.offload,
                "recv_errors": self.recv_errors,
                "timeout": timeout,
                "faults": [fault],
            },
            expected,
            seconds,
        )


def of_goes_on(place: Place, code: int) -> Iterator[Trial]:
    for times in (1, 100):
        yield place.trial(f"{times} times", code, times, place.whole(times))


def of_waits(place: Place, code: int) -> Iterator[Trial]:
    op, first = place.op, place.first
    if op == "read_errors" and first:
        return  # the queue counts as empty, and the next call begins anew
    # The queue of errors tells when it has something new, and is looked at every 50 ms besides.
    for times in (1, 2 if op == "read_errors" else 100):
        yield place.trial(f"{times} times", code, times, place.whole(times))
    for timeout, error in ((SHORT, errno.ETIMEDOUT), (0, code)):
        if op == "read_errors" and timeout == 0:
            continue  # it gives an empty list
        expected = expect_failure(op, first, error)
        yield place.trial(f"timeout {timeout}", code, -1, expected, timeout, timeout)


def of_raises(place: Place, code: int) -> Iterator[Trial]:
    expected = expect_failure(place.op, place.first, code)
    # Reports are asked about again and again: see reports().
    once = [] if place.is_report(code) else [place.asked_again + 1]
    for times in (*once, -1):
        if place.op == "read_errors" and place.before and times > 0:
            expected_once = expect(place.op, [place.first, ERRORS - place.first])
            yield place.trial("once", code, times, expected_once)
        else:
            yield place.trial(f"{times} times", code, times, expected)


def of_tries_again(place: Place, code: int) -> Iterator[Trial]:
    yield place.trial("once", code, 1, place.whole())
    if place.before == 0:
        yield place.trial("7 times", code, 7, place.whole(), seconds=PAUSES)
    elif place.op == "write_all":
        expected = expect_failure(place.op, place.first, code)
        yield place.trial("always", code, -1, expected, seconds=PAUSES)
    else:
        yield skips_all(place, code, PAUSES)


def skips_all(place: Place, code: int, seconds: float = 0.0) -> Trial:
    expected = expect(place.op, [place.first], range(place.first, TOTAL), code)
    return place.trial("always", code, -1, expected, seconds=seconds)


def of_skips(place: Place, code: int) -> Iterator[Trial]:
    one = range(place.first, place.first + 1)
    if not place.is_report(code):
        expected = expect(place.op, [TOTAL - 1], one, code)
        yield place.trial("once", code, place.asked_again + 1, expected)
    yield skips_all(place, code)


WORDS: dict[str, Callable[[Place, int], Iterator[Trial]]] = {
    "goes on": of_goes_on,
    "waits": of_waits,
    "tries again": of_tries_again,
    "raises": of_raises,
    "skips": of_skips,
}
