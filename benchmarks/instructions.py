"""`make instructions`: user-space instructions a message, counted by callgrind, and their limits.

The count is exact, whatever else the machine does, so it is a test: a row above its limit in
limits.toml fails it. Another compiler or Python counts a little otherwise; the limits leave room
for that.

Beside them stand two bare loops in C, counted in the same way. One keeps its slots from call to
call, sets again what the kernel has changed, and looks at each result. The other fills its slots
from a list of messages and leaves the results there, as read_batch and write_batch do.
"""

import argparse
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

from counted import FEW, MANY
from processes import BUILD, HERE, build_c
from rich import box
from rich.console import Console
from rich.table import Table

LIMITS = HERE / "limits.toml"

# The functions that are called at each mark, and by nothing else.
OUR_MARK, C_MARK = "ipv4b_capabilities_probe", "mark"

# Dumps before a row's first mark, between the marks, and after the last.
MARKS = 3


def callgrind(directory: pathlib.Path, mark: str, *command: str) -> str:
    """Run a program under callgrind, with a dump at each mark; return what it printed."""
    done = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={directory / 'out'}",
            f"--dump-before={mark}",
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


def count(mark: str, *command: str) -> dict[str, float]:
    """Instructions a message, by row, of a program that does as counted.py says."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        printed = callgrind(directory, mark, *command).splitlines()
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


def as_text(
    ours: dict[str, float], c: list[dict[str, float]], limits: dict[str, dict[str, float]]
) -> str:
    """The table."""
    table = Table(box=box.SIMPLE)
    table.add_column("instructions a message", no_wrap=True)
    for title in ("ipv4batch", "goal", "met", "limit", "C loop", "C, from a list"):
        table.add_column(title, justify="right")
    for row, count in ours.items():
        goal = limits["goals"].get(row)
        table.add_row(
            row,
            f"{count:.1f}",
            "" if goal is None else f"<= {goal}",
            "" if goal is None else ("yes" if count <= goal else "NO"),
            str(limits["limits"].get(row)),
            *(f"{loop[row]:.1f}" if row in loop else "" for loop in c),
        )
    out = io.StringIO()
    Console(file=out, width=100).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("instructions: valgrind is needed (Debian: valgrind)")
    limits = tomllib.loads(LIMITS.read_text())
    ours = count(OUR_MARK, sys.executable, str(HERE / "counted.py"))
    program = build_c("loop")
    c = [count(C_MARK, program, kind, str(FEW), str(MANY)) for kind in ("fixed", "list")]
    text = as_text(ours, c, limits)
    print(text)
    (BUILD / "instructions.txt").write_text(text)
    most = limits["limits"]
    over = [
        f"{row}: {count:.1f}, limit {most.get(row)}"
        for row, count in ours.items()
        if count > most.get(row, 0)
    ]
    if set(most) != set(ours):
        over.append(f"rows and limits differ: {sorted(set(most) ^ set(ours))}")
    if unknown := set(limits["goals"]) - set(ours):
        over.append(f"goals of no row: {sorted(unknown)}")
    if over:
        sys.exit("instructions: over the limit:\n" + "\n".join(over))


if __name__ == "__main__":
    main()
