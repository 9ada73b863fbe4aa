"""The transfer over QUIC, where aioquic is installed."""

import pathlib
import re
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "quic" / "transfer.py"


def test_a_transfer_over_quic() -> None:
    pytest.importorskip("aioquic")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--megabytes", "0.2", "--rounds", "1"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    for name in ("asyncio, unchanged", "ipv4batch, unchanged", "ipv4batch, batches"):
        assert re.search(rf"(?m)^{name} +\d+\.\d\d megabytes a second$", done.stdout)


def test_without_aioquic_it_says_so() -> None:
    code = "import runpy, sys; sys.modules['aioquic'] = None; runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, SCRIPT], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (77, "")
    assert "pip install aioquic" in done.stderr
