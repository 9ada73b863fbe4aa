"""`make bench`: ipv4batch beside its peers, in one run, taking turns.

Prints the table of goals and the table of the grid, and writes all that was measured as JSON and a
picture. `--quick` is a smoke test: one cell of each kind, few rounds, and no codecs.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys
from typing import Any

import picture
import pyperf
import report
from grid import Cell, Measured, cells, measure_round
from processes import BUILD, HERE, peers
from rich.console import Console
from rich.progress import Progress


def measure(quick: bool, rounds: int) -> Measured:
    """The grid, in as many rounds."""
    chosen = cells(quick)
    measured: Measured = {}
    with peers() as running, Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("grid", total=rounds)
        for number in range(rounds):
            measure_round(running, chosen, 16 if quick else 32, number, measured)
            progress.advance(task)
    return measured


def measure_codecs() -> report.CodecTimes:
    """What benchmarks/codecs.py finds, in ns."""
    out = BUILD / "codecs.json"
    out.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, HERE / "codecs.py", "--quiet", "-o", out],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    suite = pyperf.BenchmarkSuite.load(str(out))
    return {
        benchmark.get_name(): [value * 1e9 for value in benchmark.get_values()]
        for benchmark in suite.get_benchmarks()
    }


def as_json(measured: Measured, codecs: report.CodecTimes) -> dict[str, Any]:
    """All that was measured, in nanoseconds a datagram or call."""
    return {
        "machine": {
            "kernel": f"{platform.system()} {platform.release()}",
            "python": f"{platform.python_implementation()} {platform.python_version()}",
        },
        "grid": [
            {
                **cell._asdict(),
                "peers": {
                    name: [times._asdict() for times in rounds] for name, rounds in by_peer.items()
                },
            }
            for cell, by_peer in measured.items()
        ],
        "codecs": codecs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, help="rounds of the grid (9; 2 with --quick)")
    parser.add_argument("--out", type=pathlib.Path, default=BUILD, help="directory of the results")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 9)

    measured = measure(arguments.quick, rounds)
    codecs = {} if arguments.quick else measure_codecs()
    text = report.as_text(measured, codecs, rounds)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bench.json").write_text(json.dumps(as_json(measured, codecs), indent=1))
    (arguments.out / "bench.txt").write_text(text)
    if Cell(64, 1200, 0, 0) in measured:
        picture.draw(measured, arguments.out)


if __name__ == "__main__":
    main()
