"""`make soak`: datagrams through loopback by the hundred million, each of them checked.

None may be altered, none come twice, and none be missing but what the kernel admits to have dropped
(SO_RXQ_OVFL); and neither process may grow. Prints a table, and ends with 1 if anything of that is
not so. `--datagrams` sets how many; the ways that they go are in support/soak.py.
"""

import argparse
import array
import dataclasses
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from rich.console import Console
from rich.live import Live
from support.soak import WAYS, Flow, Outcome, flows
from support.soak_sides import Receiver, Sender, memory, shared_numbers

DATAGRAMS = 100_000_000
ROUNDS = 20
"""In each round datagrams go all the ways; the first fifth is to warm up."""

GROWTH = 1024
"""KiB by which a process may grow after that, unless another limit is given."""

BLOCKS = 200
"""Blocks of memory of Python's, likewise."""


@dataclasses.dataclass
class Report:
    """What a run has found."""

    outcomes: list[Outcome]
    memory: dict[str, "array.array[int]"]
    """Of each process, at the end of each round: KiB in memory, blocks that Python has."""
    seconds: float
    limit: int = GROWTH

    def growth(self, process: str) -> tuple[int, int]:
        """By how many KiB and blocks a process has grown at most after it was warm."""
        resident, blocks = self.memory[process][::2], self.memory[process][1::2]
        warm = max(0, len(blocks) // 5 - 1)
        return max(resident[warm:]) - resident[warm], max(blocks[warm:]) - blocks[warm]

    @property
    def total(self) -> Outcome:
        total = Outcome()
        for outcome in self.outcomes:
            total.add(outcome)
        return total

    @property
    def violations(self) -> list[str]:
        """What is not as it should be, in words."""
        found = [
            f"{way.name}: {outcome}"
            for way, outcome in zip(WAYS, self.outcomes, strict=True)
            if not outcome.holds
        ]
        for process in self.memory:
            resident, blocks = self.growth(process)
            if resident > self.limit or blocks > BLOCKS:
                found.append(f"the {process} has grown by {resident} KiB and {blocks} blocks")
        return found

    def lines(self) -> list[str]:
        """The table."""
        columns = ["sent", "received", "missing", "drops", "admitted", "altered", "twice"]
        lines = [f"{'way':<30}" + "".join(f"{name:>12}" for name in [*columns, "a second"])]
        rows = [(way.name, outcome) for way, outcome in zip(WAYS, self.outcomes, strict=True)]
        for name, outcome in [*rows, ("all", self.total)]:
            numbers = [getattr(outcome, column) for column in columns]
            numbers.append(round(outcome.sent / outcome.seconds))
            lines.append(f"{name:<30}" + "".join(f"{number:>12,}" for number in numbers))
        for process, samples in self.memory.items():
            resident, blocks = self.growth(process)
            lines.append(
                f"{process}: {samples[-2]:,} KiB in memory, "
                f"at most {resident} KiB and {blocks} of Python's blocks more than when it was warm"
            )
        lines.append(f"{self.seconds:.0f} s")
        return lines


def receive(
    opened: dict[bool, list[Flow]], ours: Connection, pipe: Connection, read: memoryview, most: int
) -> None:
    """The process of the receiver."""
    ours.close()
    Receiver(opened, pipe, read, most).serve()


def run(
    datagrams: int,
    rounds: int,
    tell: Callable[[str], None] = lambda text: None,
    sender: type[Sender] = Sender,
) -> Report:
    """Move so many datagrams, or some more."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    read = shared_numbers()
    outcomes = [Outcome() for _ in WAYS]
    # They have their size from the start, not to grow with what is watched.
    samples = {name: array.array("q", bytes(16 * rounds)) for name in ("sender", "receiver")}
    start = time.monotonic()
    with flows() as opened, ours:
        with theirs:
            process = fork.Process(
                target=receive, args=(opened, ours, theirs, read, -(-datagrams // rounds))
            )
            process.start()
        try:
            leader = sender(opened, ours, read)
            for number in range(rounds):
                for index, way in enumerate(WAYS):
                    tell(f"soak: round {number + 1} of {rounds}, {way.name}")
                    outcomes[index].add(
                        leader.block(index, math.ceil(datagrams / rounds * way.share))
                    )
                for name, sample in [("sender", memory()), ("receiver", leader.ask("memory"))]:
                    samples[name][2 * number], samples[name][2 * number + 1] = sample
        finally:
            ours.close()
            process.join()
    return Report(outcomes, samples, time.monotonic() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--datagrams", type=int, default=DATAGRAMS, help="so many in all, or some more"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="so often all the ways")
    parser.add_argument("--growth", type=int, default=GROWTH, help="KiB by which memory may grow")
    arguments = parser.parse_args()
    # No bar: it keeps all that it was told, and the memory of this process is watched. Nor a thread
    # that draws: the receiver is forked, and the end of the process does not wait for it.
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        report = run(
            arguments.datagrams, arguments.rounds, lambda text: live.update(text, refresh=True)
        )
    report.limit = arguments.growth
    print("\n".join(report.lines()))
    for violation in report.violations:
        print(f"NOT AS IT SHOULD BE: {violation}", file=sys.stderr)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
