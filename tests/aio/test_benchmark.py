"""benchmarks/aio.py, as far as a smoke test goes."""

import pathlib
import re
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "aio.py"


def test_a_quick_run(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "table.txt"
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, "--quick", "--loops", "asyncio", "--record", out],
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_text() == done.stdout
    rows = re.findall(r"(?m)^(.{52})((?: +\d+){2}) +(\d+\.\d\d) \(", done.stdout)
    assert len(rows) == 15
    assert len(re.findall(r"(?m) a second, p50 ", done.stdout)) == 4
    assert re.search(r"(?m)^memory: \d+ KiB a transport", done.stdout)
