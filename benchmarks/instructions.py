"""`make instructions`: user-space instructions a message, counted by callgrind, and their limits.

The count is exact, whatever else the machine does, so it is a test: a row above its limit in
limits.toml fails it. Another compiler or Python counts a little otherwise; the limits leave room
for that.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

from counted import FEW, MANY
from processes import HERE, build_c
from rich import box
from rich.console import Console
from rich.table import Table

LIMITS = HERE / "limits.toml"

# The function that is called at each mark, and by nothing else.
MARK = "ipv4b_capabilities_probe"

# Dumps before a row's first mark, between the marks, and after the last.
MARKS = 3


def callgrind(directory: pathlib.Path, *command: str) -> str:
    """Run a program under callgrind, with its dumps in a directory; return what it printed."""
    done = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={directory / 'out'}",
            f"--dump-before={MARK}",
            *command,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    if done.returncode != 0:
        sys.exit(f"instructions: {' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def total(dump: pathlib.Path) -> int:
    """All instructions of a dump."""
    found = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)
    if found is None:
        sys.exit(f"instructions: {dump.name} has no total")
    return int(found[1])


def count_ours() -> dict[str, float]:
    """Instructions a message, by row."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        printed = callgrind(directory, sys.executable, str(HERE / "counted.py")).splitlines()
        dumps = [total(directory / f"out.{i + 1}") for i in range(MARKS * len(printed))]
    calls: dict[str, float] = {}
    counted: dict[str, float] = {}
    for number, line in enumerate(printed):
        row, _, _ = line.split("\t")
        _, few, many = dumps[MARKS * number : MARKS * (number + 1)]
        calls[row] = (many - few) / (MANY - FEW)
    for line in printed:
        row, messages, without = line.split("\t")
        counted[row] = (calls[row] - calls.get(without, 0)) / int(messages)
    return counted


def count_c() -> dict[str, float]:
    """The same of the bare C loop, at 64."""
    (program,) = build_c()
    calls = {}
    for direction in ("write", "read"):
        totals = []
        for times in (FEW, MANY):
            with tempfile.TemporaryDirectory() as name:
                callgrind(pathlib.Path(name), program, direction, str(times))
                totals.append(total(pathlib.Path(name) / "out"))
        calls[direction] = (totals[1] - totals[0]) / (MANY - FEW)
    return {
        "read_batch of 64": (calls["read"] - calls["write"]) / 64,
        "write_batch of 64": calls["write"] / 64,
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("instructions: valgrind is needed (Debian: valgrind)")
    limits = tomllib.loads(LIMITS.read_text())["limits"]
    ours, c = count_ours(), count_c()
    table = Table("instructions a message", box=box.SIMPLE)
    for title in ("ipv4batch", "C loop", "limit"):
        table.add_column(title, justify="right")
    over = []
    for row, count in ours.items():
        limit = limits.get(row)
        table.add_row(row, f"{count:.1f}", f"{c[row]:.1f}" if row in c else "", str(limit))
        if limit is None or count > limit:
            over.append(f"{row}: {count:.1f}, limit {limit}")
    Console(width=100).print(table)
    if set(limits) != set(ours):
        over.append(f"rows and limits differ: {sorted(set(limits) ^ set(ours))}")
    if over:
        sys.exit("instructions: over the limit:\n" + "\n".join(over))


if __name__ == "__main__":
    main()
