"""The sessions of nox: everything that is checked, built or measured.

    nox --list              what there is
    nox -s test             the suite; arguments of pytest after --
    nox -s lint docs

`make NAME` runs the session NAME with the Python that PYTHON names. Each Python has its own
environments under .venv. A session installs the package as a user would, and again when a source
has changed.
"""

import hashlib
import os
import pathlib
import shlex
import shutil
import sys
import tomllib
import zlib

import nox

ROOT = pathlib.Path(__file__).resolve().parent
SOURCES = (
    "csrc",
    "ipv4batch",
    "setup.py",
    "pyproject.toml",
    "README.rst",
    "LICENSE",
    "MANIFEST.in",
)
C_FILES = (
    "csrc/**/*.[ch] tests/core/*.[ch] tests/fuzz/*.[ch] tests/support/*.c benchmarks/peers/*.[ch]"
)

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["test-c", "test"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = False


def python_tag() -> str:
    """Name this interpreter: its version, and a sum of where it lies."""
    where = os.path.realpath(getattr(sys, "_base_executable", sys.executable)).encode()
    return "{}.{}.{}-{:08x}".format(*sys.version_info[:3], zlib.crc32(where))


nox.options.envdir = f".venv/{python_tag()}"


def words(name: str, default: str = "") -> list[str]:
    """Return an environment variable as the words of a command line."""
    return shlex.split(os.environ.get(name, default))


def sources_digest() -> str:
    """Tell the state of all that a build depends on."""
    digest = hashlib.sha256()
    for name in SOURCES:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix not in (".pyc", ".so"):
                digest.update(f"{file}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def install(session: nox.Session, extra: str, **build: str) -> pathlib.Path:
    """Install the package with an extra, unless it is there as it would be; return its sources."""
    place = pathlib.Path(session.virtualenv.location)
    stamp, copy = place / "installed", place / "build"
    tools = [os.environ.get(name) for name in ("CC", "CFLAGS", "LDFLAGS")]
    state = f"{sources_digest()} {extra} {sorted(build.items())} {tools}"
    if stamp.exists() and stamp.read_text() == state:
        return copy
    # A copy is built, so that nothing of it comes into the tree.
    stamp.unlink(missing_ok=True)
    shutil.rmtree(copy, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy / name)
    session.log("building ipv4batch")
    # It is built once: with what it depends on, or alone where that is there and has not changed.
    depends = place / "depends"
    wanted = f"{extra} {(ROOT / 'pyproject.toml').read_text()}"
    if depends.exists() and depends.read_text() == wanted:
        session.install("--quiet", "--force-reinstall", "--no-deps", str(copy), env=build)
    else:
        session.run(
            "python", "-m", "pip", "uninstall", "--quiet", "--yes", "ipv4batch", silent=True
        )
        session.install("--quiet", f"{copy}[{extra}]", env=build)
        depends.write_text(wanted)
    stamp.write_text(state)
    return copy


def pytest(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run the suite. What runs is what was installed: the tree is not on the path."""
    given = [*words("PYTEST_ARGS"), *session.posargs]
    session.run(
        *("python", "-m", "pytest", *arguments, *given),
        env={"PYTHONSAFEPATH": "1", **environment},
    )


def tool(session: nox.Session, name: str, *arguments: str, **environment: str) -> None:
    """Run a program of tools/ with nox's own Python."""
    session.run(sys.executable, f"tools/{name}.py", *arguments, env=environment, external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Move datagrams over loopback: socket against batches."""
    install(session, "perf")
    session.run("python", "-P", "-m", "ipv4batch", "perf", *session.posargs)


@nox.session
def test(session: nox.Session) -> None:
    """Run the whole suite."""
    install(session, "test", IPV4BATCH_WERROR="1")
    pytest(session)


@nox.session(name="test-c", venv_backend="none")
def test_c(session: nox.Session) -> None:
    """Test the C core alone, under ASan and UBSan."""
    tool(session, "c_tests")


@nox.session(name="test-msan", venv_backend="none")
def test_msan(session: nox.Session) -> None:
    """Test the C core alone under MSan (clang)."""
    tool(session, "c_tests", "--msan")


@nox.session(name="test-nommsg")
def test_nommsg(session: nox.Session) -> None:
    """Run the suite on a build without recvmmsg and sendmmsg."""
    install(session, "test", IPV4BATCH_WERROR="1", IPV4BATCH_NO_MMSG="1")
    pytest(session)


@nox.session(name="test-pythons", venv_backend="none")
def test_pythons(session: nox.Session) -> None:
    """Run the suite on every Python of Debian from 3.13 on, and both builds, as root."""
    python = os.environ.get("PYTHON", getattr(sys, "_base_executable", sys.executable))
    tool(session, "test_pythons", python, *(session.posargs or words("PYTHONS")))


@nox.session(name="test-cross", venv_backend="none")
def test_cross(session: nox.Session) -> None:
    """Test the C core on 32 bits and with the highest byte first."""
    tool(session, "cross", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the suite under ASan, LSan and UBSan, and the C core under MSan too."""
    tool(session, "c_tests")
    tool(session, "c_tests", "--msan")
    install(session, "test", IPV4BATCH_SANITIZE="1")
    compiler = os.environ.get("CC", "cc")
    libraries = [
        session.run(compiler, f"-print-file-name={name}", silent=True, external=True).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    # LeakSanitizer searches each process of the suite at its end. What Python still has in lists
    # is no leak to it; tests/faults/test_memory.py and tools/leaks.py count that. What a sanitizer
    # says as it ends the process must get past pytest.
    pytest(
        session,
        "--capture=sys",
        LD_PRELOAD=" ".join(libraries),
        PYTHONMALLOC="malloc",
        ASAN_OPTIONS="detect_leaks=1",
        UBSAN_OPTIONS="print_stacktrace=1",
        LSAN_OPTIONS=f"suppressions='{ROOT}/tests/lsan.supp':print_suppressions=0",
        IPV4BATCH_TEST_SANITIZED="1",
    )


# Newer Hypotheses are compiled, and not for a free-threaded 3.13.
BINARY = {"PIP_ONLY_BINARY": "hypothesis"}
HAMMER = {"IPV4BATCH_HAMMER_SECONDS": os.environ.get("HAMMER_SECONDS", "60")}
TSAN_TESTS = (
    "io/test_hammer io/test_concurrency offload/test_offload_threads "
    "errors/test_network_errors_threads"
)


def build_freethreaded(session: nox.Session, kind: str) -> str:
    """Build a CPython without a GIL, if it is not there: some minutes, once. Return its path."""
    command = [sys.executable, "tools/build_freethreaded.py", kind]
    return str(session.run(*command, silent=True, external=True)).strip().splitlines()[-1]


def freethreaded_python(session: nox.Session) -> str:
    """Make an environment of the interpreter without a GIL; return its Python."""
    place = pathlib.Path(session.virtualenv.location) / "freethreaded"
    if not place.exists():
        session.run(build_freethreaded(session, "plain"), "-m", "venv", str(place), external=True)
    return str(place / "bin/python")


@nox.session
def freethreaded(session: nox.Session) -> None:
    """Run the suite, with its hammer for HAMMER_SECONDS=60, on a CPython without a GIL."""
    python = freethreaded_python(session)
    build = {"IPV4BATCH_WERROR": "1", **BINARY}
    session.run(
        python, "-m", "pip", "install", "--quiet", f"{ROOT}[suite]", env=build, external=True
    )
    command = [python, "-m", "pytest", *words("PYTEST_ARGS"), *session.posargs]
    session.run(*command, env={"PYTHONSAFEPATH": "1", **HAMMER}, external=True)


@nox.session
def tsan(session: nox.Session) -> None:
    """Run the thread tests on a CPython without a GIL, under ThreadSanitizer."""
    # The environment is the plain interpreter's, which is the faster one by far to install with.
    python = freethreaded_python(session)
    checked = build_freethreaded(session, "tsan")
    build = {"CC": "clang", "IPV4BATCH_SANITIZE": "thread", **BINARY}
    session.run(
        python, "-m", "pip", "install", "--quiet", f"{ROOT}[suite]", env=build, external=True
    )
    # What CPython has listed itself is no finding, nor what we have.
    lists = [pathlib.Path(checked).parent.parent / "tsan.supp", ROOT / "tests/tsan.supp"]
    suppressions = pathlib.Path(session.create_tmp(), "tsan.supp")
    suppressions.write_text("".join(path.read_text() for path in lists))
    packages = next(pathlib.Path(python).parent.parent.glob("lib/python*/site-packages"))
    session.run(
        *(checked, "-m", "pytest", *words("PYTEST_ARGS"), "-rP"),
        *(session.posargs or [f"tests/{name}.py" for name in TSAN_TESTS.split()]),
        env={
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": str(packages),
            "IPV4BATCH_TEST_SANITIZED": "thread",
            "TSAN_OPTIONS": f"suppressions={suppressions} {os.environ.get('TSAN_OPTIONS', '')}",
            **HAMMER,
        },
        external=True,
    )


@nox.session(python=os.environ.get("LEAKS_PYTHON", "python3-dbg"))
def leaks(session: nox.Session) -> None:
    """Count references, memory and descriptors that a test module leaves, on python3-dbg."""
    # Without uvloop, which leaves some hundred references each time that a loop is made.
    install(session, "suite")
    arguments = session.posargs or words("LEAKS_ARGS")
    session.run("python", "tools/leaks.py", *arguments, env={"PYTHONSAFEPATH": "1"})


MEMCHECK_TESTS = (
    "io/test_batch values/test_control io/test_control_io io/test_datagram io/test_datagram_raw "
    "values/test_header faults/test_unread messages/test_message errors/test_network_errors "
    "offload/test_offload options/test_options types/test_rawconn messages/test_segments "
    "messages/test_truncation io/test_write_all"
)


@nox.session
def memcheck(session: nox.Session) -> None:
    """Run some tests under valgrind: no byte that nobody set decides anything here."""
    install(session, "test", IPV4BATCH_WERROR="1")
    session.run(
        *("valgrind", "--quiet", "--error-exitcode=1", "--num-callers=20"),
        *("--suppressions=tests/memcheck.supp", "python", "-m", "pytest", "-o", "timeout=0"),
        *(session.posargs or [f"tests/{name}.py" for name in MEMCHECK_TESTS.split()]),
        env={"PYTHONSAFEPATH": "1", "PYTHONMALLOC": "malloc"},
        external=True,
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Count the lines and branches of csrc that the tests reach; fail below 95 % and 85 %."""
    copy = install(session, "coverage", CC="gcc", IPV4BATCH_COVERAGE="1")
    for path in [*copy.rglob("*.gcda"), ROOT / "build/c/coverage/passed"]:
        path.unlink(missing_ok=True)
    tool(session, "c_tests", "--flags=--coverage -fprofile-update=atomic", "coverage", CC="gcc")
    # A process counts that ends by itself: not the child of a fork that a test ends by os._exit.
    pytest(session)
    gcovr = ["gcovr", "--exclude-unreachable-branches", "--merge-mode-functions=separate"]
    suite, core = "build/coverage-suite.json", "build/coverage-c.json"
    session.run(*gcovr, "--root", str(copy), "--json", suite, str(copy))
    session.run(*gcovr, "--filter", "csrc/core", "--json", core, "build/c/coverage")
    both = [*gcovr, "--add-tracefile", suite, "--add-tracefile", core, "--txt"]
    session.run(*both, "--txt-metric", "branch")
    session.run(*both, "--print-summary", "--fail-under-line", "95", "--fail-under-branch", "85")


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Run libFuzzer on the C core, FUZZ_SECONDS=30 a target."""
    tool(session, "fuzz", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Move 100 million datagrams through loopback, and check each."""
    install(session, "test", IPV4BATCH_WERROR="1")
    session.run("python", "tests/soak.py", *(session.posargs or words("SOAK_ARGS")))


def benchmark(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of benchmarks/, whose modules import each other."""
    install(session, "bench")
    session.run("python", f"benchmarks/{program}.py", *arguments, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside C, Go, socket, asyncio and uvloop: on a quiet machine."""
    benchmark(session, "run")


@nox.session(name="bench-aio")
def bench_aio(session: nox.Session) -> None:
    """Measure asyncio's endpoints, uvloop's and rloop's beside ours: on a quiet machine."""
    benchmark(session, "aio")


@nox.session(name="bench-quick")
def bench_quick(session: nox.Session) -> None:
    """Run a smoke test of the benchmarks."""
    benchmark(session, "run", "--quick")


@nox.session
def instructions(session: nox.Session) -> None:
    """Count instructions a message by callgrind, and hold their limits."""
    benchmark(session, "instructions")


@nox.session
def scaling(session: nox.Session) -> None:
    """Measure how throughput grows with threads."""
    benchmark(session, "scaling")


@nox.session(name="bench-record")
def bench_record(session: nox.Session) -> None:
    """Copy tables and picture of the last bench into docs/, and count instructions anew."""
    benchmark(session, "instructions")
    names = (
        "benchmarks.txt benchmarks-grid.txt benchmarks.svg benchmarks.png instructions.txt "
        "patterns.txt patterns.svg"
    )
    for name in names.split():
        shutil.copy(ROOT / "build/benchmarks" / name, ROOT / "docs")


def c_files() -> list[str]:
    """Return the C files that clang-format lays out."""
    return [str(path) for pattern in C_FILES.split() for path in sorted(ROOT.glob(pattern))]


@nox.session
def lint(session: nox.Session) -> None:
    """Check layout, types, the warnings of two compilers, and three analyzers of C."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("clang-format", "--dry-run", "-Werror", *c_files(), silent=True)
    session.run("python", "-P", "-m", "mypy")
    tool(session, "analyse", str(pathlib.Path(session.bin) / "clang-tidy"))


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Lay the code out."""
    versions = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = versions["project"]["optional-dependencies"]["lint"]
    session.install(
        "--quiet", *[name for name in tools if name.startswith(("ruff", "clang-format"))]
    )
    session.run("ruff", "check", "--fix", ".")
    session.run("ruff", "format", ".")
    session.run("clang-format", "-i", *c_files(), silent=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, in docs/_build."""
    install(session, "docs")
    command = ["python", "-P", "-m", "sphinx", "-q", "-W", "-n", "--keep-going", "-b", "html"]
    session.run(*command, "docs", "docs/_build/html")


@nox.session
def judges(session: nox.Session) -> None:
    """Run the suites of CPython, uvloop, aioquic and others on our asyncio transport."""
    install(session, "test", IPV4BATCH_WERROR="1")
    session.run("python", "-P", "tools/judges.py", *(session.posargs or words("JUDGES")))


@nox.session
def dist(session: nox.Session) -> None:
    """Build sdist and wheel, in dist, and compare what they carry with exact lists."""
    session.install("--quiet", "build>=1.2")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist", ".", silent=True)
    shutil.rmtree(ROOT / "ipv4batch.egg-info", ignore_errors=True)
    tool(session, "check_dist", "dist")
