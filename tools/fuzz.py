"""Coverage-guided fuzzing of the C core by libFuzzer.

    tools/fuzz.py                 all targets, $FUZZ_SECONDS (30) each, two at a time
    tools/fuzz.py gro gso         some of them
    FUZZ_ARGS=-runs=50000000 FUZZ_SECONDS=0 tools/fuzz.py      so many executions of each
    build/fuzz/fuzz_gro FILE      one input again, as a crash names it

Every tests/fuzz/fuzz_NAME.c is a target. Its first inputs are in tests/fuzz/corpus/NAME, and what
runs find is kept in build/fuzz/corpus. FUZZ_CC names the compiler, FUZZ_SANITIZE the sanitizers.
"""

import concurrent.futures
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from c_tests import CORE, ROOT, WARNINGS

SECONDS = os.environ.get("FUZZ_SECONDS", "30")
COMPILER = os.environ.get("FUZZ_CC", "clang")
SANITIZE = os.environ.get("FUZZ_SANITIZE", "address,undefined")
BUILD = ROOT / "build/fuzz"
FLAGS = [
    *shlex.split(WARNINGS),
    *("-g", "-O2", f"-I{ROOT}/csrc/core"),
    *(f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"),
]


def build(names: list[str]) -> None:
    """Build the core once, and a program for each target."""
    (BUILD / "core").mkdir(parents=True, exist_ok=True)
    # Coverage is that of the core alone: what a target compares would only lead astray.
    guided = ["-fsanitize=fuzzer-no-link", "-fno-sanitize-coverage=trace-cmp"]
    command = [COMPILER, *FLAGS, *guided, "-c", *map(str, CORE)]
    subprocess.check_call(command, cwd=BUILD / "core")
    objects = [str(BUILD / "core" / f"{path.stem}.o") for path in CORE]
    for name in names:
        target, source = BUILD / f"fuzz_{name}", ROOT / "tests/fuzz" / f"fuzz_{name}.c"
        subprocess.check_call([COMPILER, *FLAGS, "-c", "-o", f"{target}.o", str(source)])
        link = [COMPILER, f"-fsanitize=fuzzer,{SANITIZE}", "-o", str(target), f"{target}.o"]
        subprocess.check_call([*link, *objects, "-lpthread"])


def run(name: str) -> tuple[int, int]:
    """Fuzz a target; return executions, and executions a second."""
    corpus = BUILD / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    command = [
        *(str(BUILD / f"fuzz_{name}"), f"-max_total_time={SECONDS}", "-max_len=128", "-timeout=10"),
        *("-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={BUILD}/{name}-"),
        *shlex.split(os.environ.get("FUZZ_ARGS", "")),
        *(str(corpus), str(ROOT / "tests/fuzz/corpus" / name)),
    ]
    # A small quarantine of freed memory is several times as fast; no target frees more than that.
    options = "quarantine_size_mb=4:malloc_context_size=1"
    done = subprocess.run(
        command,
        env={"ASAN_OPTIONS": options} | os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    (BUILD / f"{name}.log").write_text(done.stderr)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-40:])
        sys.exit(f"{tail}\nfuzz_{name} failed")
    found = dict(re.findall(r"^stat::(\w+):\s+(\d+)", done.stderr, re.MULTILINE))
    return int(found["number_of_executed_units"]), int(found["average_exec_per_sec"])


def main() -> None:
    """Fuzz the targets that the arguments name."""
    found = sorted(path.stem[5:] for path in pathlib.Path(ROOT, "tests/fuzz").glob("fuzz_*.c"))
    names = sys.argv[1:] or os.environ.get("FUZZ_NAMES", "").split() or found
    if shutil.which(COMPILER) is None:
        sys.exit(f"fuzzing needs {COMPILER} (Debian: clang libclang-rt-dev)")
    build(names)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        figures = list(pool.map(run, names))
    print(f"{'target':<12} {'executions':>12} {'a second':>12}")
    for name, (executions, speed) in zip(names, figures, strict=True):
        print(f"{name:<12} {executions:12} {speed:12}")
    executions, speed = map(sum, zip(*figures, strict=True))
    print(f"{'sum':<12} {executions:12} {speed:12}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
