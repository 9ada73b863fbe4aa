"""`python -m ipv4batch` without a command, `info` where something is missing, `completion`."""

import subprocess
import sys

import pytest
from support.perf import run

import ipv4batch
from ipv4batch import _info
from ipv4batch.__main__ import main


def test_without_a_command_it_shows_what_it_can_do() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("info", "perf", "completion"):
        assert f"\n    {command}" in done.stdout


def test_every_capability_has_a_need() -> None:
    assert set(_info.NEEDS) == set(ipv4batch.capabilities())


@pytest.mark.parametrize(
    ("name", "system", "release", "expected"),
    [
        ("gso", "Linux", "4.17.9-generic", "Linux 4.18 or later"),
        ("gro", "Linux", "4.18.0", "Linux 5.0 or later"),
        ("gso", "Darwin", "25.0.0", "Linux 4.18 or later"),
        ("gro", "Linux", "5.0.0", "a sandbox that allows the option UDP_GRO"),
        ("raw_sockets", "Linux", "6.1.0", _info.NEEDS["raw_sockets"].otherwise),
    ],
)
def test_what_a_missing_capability_needs(
    name: str, system: str, release: str, expected: str
) -> None:
    assert _info.needed(name, system, release) == expected


@pytest.mark.parametrize(
    ("release", "expected"), [("6.1.0-9-amd64", (6, 1)), ("5.10", (5, 10)), ("odd", (0, 0))]
)
def test_the_version_of_a_kernel(release: str, expected: tuple[int, int]) -> None:
    assert _info.kernel_version(release) == expected


def test_info_tells_a_missing_capability(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    can = dict.fromkeys(_info.NEEDS, True) | {"raw_sockets": False}
    monkeypatch.setattr(_info, "capabilities", lambda: can)
    assert main(["info"]) == 0
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last[0].split() == ["raw_sockets", "no"]
    assert "CAP_NET_RAW" in last[2]


def test_a_completion_for_bash_is_a_script() -> None:
    pytest.importorskip("shtab")
    done = run("completion", "bash")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--listen" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


def test_a_completion_without_shtab_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'ipv4batch[completion]'" in line
