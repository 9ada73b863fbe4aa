"""`make bench`: ipv4batch beside its peers, in one run, taking turns.

Prints the grid, the table of goals, what codecs take, and how throughput grows with threads;
writes that, all that was measured as JSON, and a picture. `--quick` is a smoke test: a few cells
and rounds, short counts of threads, and codecs that run and are not timed.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any

import memory
import patterns
import picture
import pyperf
import report
import scaling
from grid import BURST, DATAGRAMS, SIZES, Measured, cells, measure_round, task_of
from processes import BUILD, HERE, peers, room
from rich.console import Console
from rich.progress import Progress

QUICK = BUILD / "quick"

# The grid's rounds, and the time after which no other begins.
ROUNDS, SECONDS = 31, 330
FEWEST = 3


def measure(quick: bool, rounds: int, seconds: float) -> Measured:
    """The grid, in at most so many rounds."""
    rooms = {size: room(size) for size in SIZES}
    if min(rooms.values()) < BURST:
        print("benchmarks: a small receive buffer makes short bursts", file=sys.stderr)
    tasks = {}
    for cell in cells(quick):
        task = task_of(cell, rooms[cell.size], DATAGRAMS // 4 if quick else DATAGRAMS)
        if task is None:
            print(
                f"benchmarks: {cell} is left out: the receive buffer is too small", file=sys.stderr
            )
        else:
            tasks[cell] = task
    measured: Measured = {}
    end = time.monotonic() + seconds
    with peers() as running, Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("grid", total=rounds)
        for number in range(rounds):
            if number >= FEWEST and time.monotonic() > end:
                break
            measure_round(running, tasks, number, measured)
            progress.advance(bar)
    return measured


def measure_codecs(quick: bool) -> report.CodecTimes:
    """What benchmarks/codecs.py finds, in ns; nothing that would be of use if it is to be quick."""
    out = BUILD / "codecs.json"
    out.unlink(missing_ok=True)
    how = ["--debug-single-value"] if quick else []
    subprocess.run(
        [sys.executable, HERE / "codecs.py", "--quiet", "-o", out, *how],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if quick:
        return {}
    suite = pyperf.BenchmarkSuite.load(str(out))
    return {
        benchmark.get_name(): [value * 1e9 for value in benchmark.get_values()]
        for benchmark in suite.get_benchmarks()
    }


def first_line(*command: str) -> str | None:
    """What a program calls itself."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.splitlines()[0]


def surroundings() -> dict[str, Any]:
    """What a figure depends on beside the code."""
    release = platform.release().partition("-")[0]
    names = ("ipv4batch", "uvloop", "dpkt", "scapy", "pyperf")
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "kernel": f"{platform.system()} {release} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": first_line(os.environ.get("CC", "cc"), "--version"),
        "go": first_line("go", "version"),
        "packages": {name: importlib.metadata.version(name) for name in names},
    }


def headline(around: dict[str, Any], rounds: int) -> str:
    """The run in a line, which the tables and the picture share."""
    return (
        f"{around['date']}, {around['kernel']}, {around['cpus']} CPUs, {around['python']}, "
        f"load before {around['load'][0]:.1f}, {rounds} rounds"
    )


def as_json(around: dict[str, Any], measured: Measured, counted: scaling.Counted) -> dict[str, Any]:
    """The surroundings, and the grid and the threads round by round."""
    return {
        "surroundings": around,
        "grid_ns": [
            {
                **cell._asdict(),
                "peers": {
                    name: [times._asdict() for times in rounds] for name, rounds in by_peer.items()
                },
            }
            for cell, by_peer in measured.items()
        ],
        "threads_per_second": [
            {**case._asdict(), "counts": by_threads} for case, by_threads in counted.items()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="ipv4batch beside its peers")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, help=f"of the grid ({ROUNDS}; 2 with --quick)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for the grid, about")
    parser.add_argument("--out", type=pathlib.Path, help="directory of the results")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else ROUNDS)
    directory = arguments.out or (QUICK if arguments.quick else BUILD)

    around = surroundings()
    if not arguments.quick and around["load"][0] > 0.5:
        print("benchmarks: the machine is at work already; figures will be off", file=sys.stderr)
    bytes_each = memory.measure()
    measured = measure(arguments.quick, rounds, arguments.seconds)
    codecs = measure_codecs(arguments.quick)
    used = patterns.measure(arguments.quick)
    counted = (
        scaling.count(rounds=1, threads=(1, 2), seconds=0.05)
        if arguments.quick
        else scaling.count(rounds=5)
    )

    run = headline(around, len(measured[report.PLAIN]["ipv4batch"]))
    grid = report.grid_text(run, measured)
    goals = report.goals_text(run, measured, codecs, bytes_each, scaling.as_text(counted))
    in_use = f"{run}\n{patterns.as_text(used)}"
    print(grid, goals, in_use, sep="\n")
    directory.mkdir(parents=True, exist_ok=True)
    everything = as_json(around, measured, counted) | {
        "codecs_ns": codecs,
        "bytes": bytes_each,
        "patterns_ns": patterns.as_json(used),
    }
    (directory / "benchmarks.json").write_text(json.dumps(everything, indent=1))
    (directory / "benchmarks-grid.txt").write_text(grid)
    (directory / "benchmarks.txt").write_text(goals)
    (directory / "patterns.txt").write_text(in_use)
    picture.draw(run, measured, directory)
    picture.draw_patterns(run, used, directory)


if __name__ == "__main__":
    main()
