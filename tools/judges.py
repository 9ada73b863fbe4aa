"""Test suites of others on ipv4batch's event loop, beside the loop that they were written for.

    python tools/judges.py [NAME ...]
    python tools/judges.py --verbose NAME

NAME is one of cpython, uvloop, asyncio-dgram, aioquic, aiocoap; all by default. --verbose shows the
suites' own output. Run it with a Python that has ipv4batch, uvloop and pytest.

cpython is the test package of that Python (Debian: libpython3-testsuite). The others are fetched
from the package index by their names, as source distributions, into a temporary folder; what they
need to run is installed into a folder there too, and nothing of it stays.

Each judge prints how many tests passed, failed and were skipped, on the stock loop and on ours. The
end is 1 if a test fails on ours that passes on the stock loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

LIMIT = 900
"""Seconds for one run of one suite."""

Outcomes = dict[str, str]

UNITTEST = """
import asyncio, json, sys, unittest, warnings

class Result(unittest.TextTestResult):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = {}

    def addSuccess(self, test):
        super().addSuccess(test)
        self.outcomes.setdefault(test.id(), "passed")

    def addError(self, test, err):
        super().addError(test, err)
        self.outcomes[test.id()] = "failed"

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.outcomes[test.id()] = "failed"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcomes[test.id()] = "failed"

def run(cases, wanted=""):
    loader = unittest.TestLoader()
    if wanted:
        loader.testNamePatterns = ["*" + part + "*" for part in wanted.split()]
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)
    options = {"stream": sys.stderr, "verbosity": 2, "warnings": "ignore"}
    runner = unittest.TextTestRunner(resultclass=Result, **options)
    print("OUTCOMES", json.dumps(runner.run(suite).outcomes))
"""

FACTORIES = """
import asyncio
from ipv4batch import aio

def factory(name):
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    if name == "uvloop":
        import uvloop
        return uvloop.Loop
    if name == "ours":
        return aio.EventLoop
    import uvloop
    return aio.loop_factory(uvloop.Loop)
"""

CPYTHON = """
import unittest
from test.test_asyncio import test_base_events, test_events
from test.test_asyncio import utils as test_utils

make = factory(sys.argv[1])

class Events(test_events.UnixEventLoopTestsMixin, test_events.SubprocessTestsMixin,
test_utils.TestCase):
    def create_event_loop(self):
        return make()

# Made by a mixin in asyncio: the base class of loops, with the methods that make transports.
class Base(test_base_events.BaseEventLoopWithSelectorTests):
    def setUp(self):
        super().setUp()
        self.loop.close()
        self.loop = make()
        self.set_event_loop(self.loop)

run([Events], "")
"""

CPYTHON_BASE = CPYTHON.replace('run([Events], "")', 'run([Base], "datagram")')

UVLOOP = """
sys.path.insert(0, sys.argv[2])
import os
os.chdir(sys.argv[2])
from uvloop import _testbase as tb
from tests import test_udp

make = factory(sys.argv[1])

class Loop:
    implementation = "uvloop" if "uvloop" in sys.argv[1] else "asyncio"

    def new_loop(self):
        return make()

    def new_policy(self):
        return asyncio.DefaultEventLoopPolicy()

    def is_asyncio_loop(self):
        return self.implementation == "asyncio"

class UDP(Loop, test_udp._TestUDP, tb.BaseTestCase):
    pass

uvloops = [Loop, test_udp.Test_UV_UDP] if "uvloop" in sys.argv[1] else []
run([type("UDPOfUvloop", tuple(uvloops), {})] if uvloops else [UDP])
"""

# What aiocoap's tests import, and its source distribution lacks.
AIOCOAP = {
    "common.py": """
loopbackname_v6 = None
loopbackname_v46 = "localhost"
tcp_disabled = ws_disabled = True
""",
    "fixtures.py": """
import unittest

CLEANUPTIME = 0.01

class IsolatedAsyncioTestCase(unittest.IsolatedAsyncioTestCase):
    pass

class Destructing(IsolatedAsyncioTestCase):
    async def _del_to_be_sure(self, attribute):
        if isinstance(attribute, str):
            delattr(self, attribute)
        else:
            attribute["del"](self)

class WithLogMonitoring(IsolatedAsyncioTestCase):
    pass

def no_warnings(function, expected_warnings=None):
    return function

def precise_warnings(expected_warnings):
    return no_warnings

def is_test_successful(test):
    return True
""",
}

PLUGIN = """
import asyncio.unix_events

def pytest_configure(config):
    from ipv4batch import aio
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = aio.EventLoop
"""


def outcomes_of(code: str, *arguments: str, paths: list[str], verbose: bool) -> Outcomes:
    """What each test of a unittest script came to."""
    known = [*paths, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", UNITTEST + FACTORIES + code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=None if verbose else subprocess.PIPE,
        text=True,
        timeout=LIMIT,
    )
    for line in done.stdout.splitlines():
        if line.startswith("OUTCOMES "):
            found: Outcomes = json.loads(line.removeprefix("OUTCOMES "))
            return found
    raise SystemExit(f"the suite did not run:\n{done.stderr or done.stdout}")


def fetch(name: str, folder: Path) -> Path:
    """A source distribution, unpacked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*command, "--no-deps", "--no-binary", name, "--dest", str(folder), name],
        check=True,
        timeout=LIMIT,
    )
    (archive,) = [p for p in folder.iterdir() if p.name.startswith(name.replace("-", "_"))] or [
        p for p in folder.iterdir() if p.name.startswith(name)
    ]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
    else:
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
    archive.unlink()
    (unpacked,) = [p for p in folder.iterdir() if p.is_dir() and (p / "PKG-INFO").exists()]
    return unpacked


def install(requirements: list[str], folder: Path) -> None:
    """Put packages into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(folder), *requirements], check=True, timeout=LIMIT)


def pytest_outcomes(
    suite: Path, tests: str, ours: bool, packages: Path, arguments: list[str], verbose: bool
) -> Outcomes:
    """What each test of a pytest suite came to."""
    plugins = packages / "judges_plugins"
    plugins.mkdir(exist_ok=True)
    (plugins / "judges_on_ours.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short" if verbose else "--tb=no"]
    command += ["-p", "no:cacheprovider", *arguments, tests]
    if ours:
        command += ["-p", "judges_on_ours"]
    done = subprocess.run(
        command,
        cwd=suite,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(packages), str(plugins), str(suite)]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )
    if verbose:
        print(done.stdout)
    words = {"PASSED": "passed", "FAILED": "failed", "ERROR": "failed", "XFAIL": "passed"}
    found = {
        test: words[word]
        for word, test in re.findall(r"(?m)^(PASSED|FAILED|ERROR|XFAIL) (\S+)", done.stdout)
    }
    skipped = sum(map(int, re.findall(r"(?m)^SKIPPED \[(\d+)\]", done.stdout)))
    found.update({f"skipped {number}": "skipped" for number in range(skipped)})
    if not found:
        raise SystemExit(f"the suite did not run:\n{done.stdout}")
    return found


def report(judge: str, stock: str, theirs: Outcomes, ours: Outcomes) -> bool:
    """Print the counts; whether ours does what stock does."""
    for name, outcomes in ((stock, theirs), ("ipv4batch", ours)):
        counts = [
            f"{list(outcomes.values()).count(kind):4} {kind}"
            for kind in ("passed", "failed", "skipped")
        ]
        print(f"{judge:24} {name:10} {', '.join(counts)}")
    worse = sorted(
        test
        for test, outcome in ours.items()
        if outcome == "failed" and theirs.get(test) != "failed"
    )
    for test in worse:
        print(f"{'':24} fails on ipv4batch's loop alone: {test}")
    return not worse


def judge_cpython(verbose: bool) -> bool:
    if importlib.util.find_spec("test.test_asyncio") is None:
        raise SystemExit("this Python has no test package (Debian: libpython3-testsuite)")
    good = True
    for name, code in (
        ("cpython test_events", CPYTHON),
        ("cpython test_base_events", CPYTHON_BASE),
    ):
        theirs, ours = (
            outcomes_of(code, loop, paths=[], verbose=verbose) for loop in ("asyncio", "ours")
        )
        good &= report(name, "asyncio", theirs, ours)
    return good


def judge_uvloop(verbose: bool) -> bool:
    good = True
    with tempfile.TemporaryDirectory() as folder:
        suite = fetch("uvloop", Path(folder))
        # Its compiled package is the installed one.
        (suite / "uvloop").rename(suite / "uvloop-source")
        for stock, mine in (("asyncio", "ours"), ("uvloop", "ours-on-uvloop")):
            theirs, ours = (
                outcomes_of(UVLOOP, loop, str(suite), paths=[], verbose=verbose)
                for loop in (stock, mine)
            )
            good &= report(f"uvloop test_udp, {stock}", stock, theirs, ours)
    return good


def judge_pytest(
    name: str, requirements: list[str], tests: str, arguments: list[str]
) -> Callable[[bool], bool]:
    def judge(verbose: bool) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            packages = Path(folder) / "packages"
            suite = fetch(name, Path(folder))
            for directory in {path.parent for path in suite.glob("tests/test_*.py")}:
                (directory / "__init__.py").touch()  # its tests import each other
                for file, text in (AIOCOAP if name == "aiocoap" else {}).items():
                    (directory / file).write_text(text)
            install([name, *requirements], packages)
            theirs, ours = (
                pytest_outcomes(suite, tests, mine, packages, arguments, verbose)
                for mine in (False, True)
            )
        return report(name, "asyncio", theirs, ours)

    return judge


JUDGES: dict[str, Callable[[bool], bool]] = {
    "cpython": judge_cpython,
    "uvloop": judge_uvloop,
    "asyncio-dgram": judge_pytest("asyncio-dgram", ["pytest-asyncio"], "test", []),
    "aioquic": judge_pytest("aioquic", [], "tests/test_asyncio.py", []),
    "aiocoap": judge_pytest(
        "aiocoap", ["pytest-timeout"], "tests/test_server.py", ["--timeout=60"]
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("judges", nargs="*", metavar="NAME", choices=[*JUDGES, []])
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    results = [JUDGES[name](arguments.verbose) for name in arguments.judges or JUDGES]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
