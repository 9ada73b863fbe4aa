"""Signals to the main thread while it waits; Python runs their handlers there."""

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from support.net import Call, wait_for


class SignalError(Exception):
    """What a handler raises."""


def interrupt(signum: int, frame: Any) -> None:
    raise SignalError


@contextlib.contextmanager
def handled(signum: int, handler: Callable[[int, Any], Any]) -> Iterator[None]:
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        # One that is still pending is dropped: it could end the process.
        signal.signal(signum, signal.SIG_IGN)
        signal.signal(signum, before)


def main_waits() -> bool:
    """Whether the main thread sleeps in poll, as far as the kernel tells."""
    task = pathlib.Path(f"/proc/self/task/{os.getpid()}")
    asleep = task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "S"
    where = task.joinpath("wchan").read_text()
    return asleep and ("poll" in where or where == "0")


def signal_main(signum: int = signal.SIGUSR1) -> None:
    signal.pthread_kill(threading.main_thread().ident, signum)


def when_main_waits(*steps: Callable[[], Any]) -> Call:
    def run() -> None:
        wait_for(main_waits, "the main thread waits")
        for step in steps:
            step()

    return Call(run)


class Counter:
    """A handler that counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, signum: int, frame: Any) -> None:
        self.count += 1

    def signal_three_times(self) -> None:
        for count in range(3):
            wait_for(main_waits, "the main thread waits again")
            signal_main()
            wait_for(lambda so_far=count: self.count > so_far, "the handler runs")
