"""README.rst: its example prints what it says, and its commands are there."""

import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.rst"


def block_after(text: str, marker: str) -> str:
    """The indented block that follows a line, with its indentation taken off."""
    lines = text.split(f"{marker}\n", 1)[1].splitlines()
    block = []
    for line in lines:
        if line and not line.startswith("    "):
            break
        block.append(line)
    return textwrap.dedent("\n".join(block)).strip() + "\n"


def test_the_example_prints_what_the_readme_says() -> None:
    text = README.read_text()
    done = subprocess.run(
        [sys.executable, "-P", "-c", block_after(text, ".. code-block:: python")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == block_after(text, "It prints::")


def test_the_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", "")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    targets += re.findall(r"^SESSIONS = (.*)$", makefile, re.MULTILINE)[0].split()
    commands = re.findall(
        r"(?:``|[$] |^    )make\s+(?:PYTHON=\S+ )?([a-z-]+)", README.read_text(), re.MULTILINE
    )
    assert {"demo", "test", "docs"} <= set(commands) <= set(targets)


def test_the_table_is_what_perf_prints() -> None:
    table = block_after(README.read_text(), "    $ make demo")
    assert re.search(r"^ +socket +batch +ratio +offload +ratio$", table, re.MULTILINE)
    for row in ("datagrams/s, end to end", "ns/datagram, sending", "ns/datagram, receiving"):
        assert row in table
