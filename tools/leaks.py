"""Look for references, memory and descriptors that a test module leaves behind each time it runs.

A debug build of Python (Debian: python3-dbg) counts every reference. Each module runs several times
over in one such interpreter; `make leaks` builds the package for it:

    make leaks                                                  # all modules
    make leaks LEAKS_ARGS='--each test_batch.py'                # the tests of one, each by itself

The first rounds fill caches and are not counted. What grows in every round after them is a leak;
what grows in some is a cache. The exit status is 0 when nothing leaks, 1 when something does, and 2
when that cannot be told: a test failed, or the interpreter counts no references.
"""

import argparse
import array
import faulthandler
import gc
import itertools
import linecache
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

import ipv4batch

TESTS = Path(__file__).parent.parent / "tests"
LIMIT = 600
"""Seconds that one round of a module may take: pytest-timeout does not look at rounds."""

clear_caches = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache

KINDS = ("references", "blocks", "descriptors")


def count(into: "array.array[int]", at: int) -> None:
    """Write what there is of each kind to into[at:], after everything that can go is gone."""
    from hypothesis.strategies._internal.utils import clear_strategy_cache  # see below

    clear_strategy_cache()
    re.purge()
    linecache.clearcache()
    clear_caches()
    for _ in range(3):
        gc.collect()
    into[at + 2] = len(os.listdir("/proc/self/fd"))
    into[at + 1] = sys.getallocatedblocks()
    into[at] = sys.gettotalrefcount()


def fill_addresses() -> None:
    """Fill the package's table of addresses of peers: those to come take the places of these."""
    message = ipv4batch.Message()
    for port in range(1000, 65536):
        message.addr = ("127.0.0.1", port)
        assert message.addr == ("127.0.0.1", port)


class Rounds:
    """A pytest plugin that runs modules, or single tests, in rounds and counts after each."""

    def __init__(self, warm: int, counted: int, each: bool) -> None:
        self.warm = warm
        self.counted = counted
        self.each = each
        self.leaks: list[str] = []
        self.failed: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Let Hypothesis try the same examples each time: other ones would fill other caches."""
        from hypothesis import settings  # pytest wants to be the first to load it

        settings.register_profile("leaks", derandomize=True, database=None, max_examples=20)
        settings.load_profile("leaks")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run everything that was collected, in place of pytest's own loop."""
        fill_addresses()
        groups = itertools.groupby(session.items, self._group)
        for name, items in groups:
            self._measure(name, list(items), session.config.get_terminal_writer().line)
        return True

    def _group(self, item: pytest.Item) -> str:
        return item.nodeid if self.each else item.nodeid.partition("::")[0]

    def _measure(self, name: str, items: list[pytest.Item], write: Callable[[str], object]) -> None:
        for _ in range(self.warm):
            self._round(items)
        # All memory for the numbers is there before the first is counted.
        counts = array.array("q", bytes(8 * len(KINDS) * (self.counted + 1)))
        for at in range(0, len(counts), len(KINDS)):
            if at > 0:
                self._round(items)
            count(counts, at)
        leaks = False
        told = []
        for kind, name_of_kind in enumerate(KINDS):
            numbers = counts[kind :: len(KINDS)]
            growth = [new - old for old, new in itertools.pairwise(numbers)]
            leaks = leaks or min(growth) > 0
            told.append(f"{name_of_kind} {' '.join(f'{more:+d}' for more in growth)}")
        write(f"{'LEAKS' if leaks else 'ok':5} {name}: {', '.join(told)}")
        if leaks:
            self.leaks.append(name)

    def _round(self, items: list[pytest.Item]) -> None:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        for item, following in itertools.zip_longest(items, items[1:]):
            reports = runtestprotocol(item, log=False, nextitem=following)
            item._report_sections.clear()  # what the test printed, which pytest would keep
            failed = [report for report in reports if report.failed]
            if failed and item.nodeid not in self.failed:
                self.failed.append(item.nodeid)
                print(failed[0].longreprtext, file=sys.stderr)
        faulthandler.cancel_dump_traceback_later()


def main() -> int:
    """Run the modules that the command line names, and say what they leak."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="names of test modules; all without any")
    parser.add_argument("--warm", type=int, default=2, help="rounds that are not counted (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are (3)")
    parser.add_argument("--each", action="store_true", help="look at each test, not each module")
    arguments = parser.parse_args()
    if not hasattr(sys, "gettotalrefcount"):
        print(f"{sys.executable} counts no references: a debug build is needed", file=sys.stderr)
        return 2
    # Interpreters that tests start print what other builds keep to themselves.
    os.environ["PYTHONWARNINGS"] = "ignore::ResourceWarning"
    rounds = Rounds(arguments.warm, arguments.rounds, arguments.each)
    where = [str(path) for name in arguments.modules for path in TESTS.rglob(Path(name).name)]
    where = where or [str(TESTS)]
    # Hypothesis' plugin wraps the settings of a test once more each time that it runs.
    without = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    status = pytest.main(["-qq", *without, *where], plugins=[rounds])
    print(f"leaks: {' '.join(rounds.leaks)}" if rounds.leaks else "no leaks")
    if status != pytest.ExitCode.OK or rounds.failed:
        print("not to be told: " + (" ".join(rounds.failed) or f"pytest gave {status!r}"))
        return 2
    return 1 if rounds.leaks else 0


if __name__ == "__main__":
    sys.exit(main())
