"""How far a run is, on standard error: a bar by rich on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

# Seconds between two drawings of the bar; each costs a millisecond or so between two bursts.
_REDRAW = 0.1


class Progress(Protocol):
    """Where a run reports how far it is, outside of all timing."""

    def stage(self, text: str) -> None:
        """A new part of the run begins."""

    def advance(self, datagrams: int) -> None:
        """So many datagrams more are done."""


class PlainProgress:
    """A line a stage, for logs and for terminals without rich."""

    def stage(self, text: str) -> None:
        print(f"ipv4batch perf: {text}", file=sys.stderr, flush=True)

    def advance(self, datagrams: int) -> None:
        pass


class BarProgress:
    """A bar that this thread draws between two bursts: a thread of rich's own would compete with
    the timed calls.
    """

    def __init__(self, bar: "Bar", total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)
        self._drawn = 0.0

    def stage(self, text: str) -> None:
        self._bar.update(self._task, description=text)

    def advance(self, datagrams: int) -> None:
        self._bar.advance(self._task, datagrams)
        if time.monotonic() - self._drawn >= _REDRAW:
            self._bar.refresh()
            self._drawn = time.monotonic()


@contextmanager
def show_progress(total: int) -> Iterator[Progress]:
    """Show progress towards `total` datagrams until the context ends."""
    bar = _make_bar() if sys.stderr.isatty() else None
    if bar is None:
        yield PlainProgress()
        return
    with bar:
        yield BarProgress(bar, total)


def _make_bar() -> "Bar | None":
    """A bar that nothing draws by itself, or None without rich, which is an optional extra."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.TaskProgressColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("datagrams"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
