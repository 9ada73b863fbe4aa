# make demo and make test need nothing but Python 3.11 with its headers, a C compiler and a package index.
# Each Python has its own environments under .venv, so that several can be used side by side.

PYTHON ?= python3
CC ?= cc
export CC
export PYTHONSAFEPATH = 1

# A name for the interpreter: its version, and a sum of where it lies.
TAG := $(shell $(PYTHON) -c 'import sys, zlib, os; \
    print("%d.%d.%d-%08x" % (sys.version_info[:3] + (zlib.crc32(os.path.realpath(sys.executable).encode()) & 0xffffffff,)))' 2>/dev/null)
VENV := .venv/$(or $(TAG),none)
SOURCES := $(wildcard csrc/*/*.[ch] csrc/*/*/*.[ch] ipv4batch/*.py ipv4batch/*.pyi ipv4batch/*/*.py) setup.py pyproject.toml README.rst
PYTEST_ARGS ?=
# Keeps the source tree, which has no compiled module, off the path: what runs is what was installed.
PYTEST = python -m pytest $(PYTEST_ARGS)
C_WARNINGS = -std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror

.PHONY: help demo test test-c test-msan test-nommsg test-pythons sanitize leaks leaks-here freethreaded freethreaded-tests tsan tsan-tests fuzz soak bench bench-quick instructions scaling lint format \
    docs dist clean prerequisites
.DELETE_ON_ERROR:

help:
	@echo 'make demo         build, and move datagrams over loopback: socket against batches'
	@echo 'make test         build, and run the whole suite (PYTEST_ARGS=... passes arguments on)'
	@echo 'make test-c       the C core alone, under ASan and UBSan'
	@echo 'make test-msan    the same under MSan (clang)'
	@echo 'make test-nommsg  the suite on a build without recvmmsg and sendmmsg'
	@echo 'make test-pythons the suite on every Python of Debian from 3.13 on, and both builds, as root'
	@echo 'make test-cross   the C core on 32 bits and with the highest byte first'
	@echo 'make sanitize     the suite under ASan, LSan and UBSan, and the C core under MSan'
	@echo 'make freethreaded the suite, with its hammer for HAMMER_SECONDS=60, on a CPython without a GIL (not in CI)'
	@echo 'make tsan         the thread tests on such a CPython, under ThreadSanitizer (not in CI)'
	@echo 'make leaks        references, memory and descriptors that a test module leaves, on python3-dbg'
	@echo 'make memcheck     some tests under valgrind (not in CI)'
	@echo 'make coverage     the lines and branches of csrc that the tests reach (not in CI)'
	@echo 'make fuzz         libFuzzer on the C core, FUZZ_SECONDS=30 a target'
	@echo 'make soak         100 million datagrams through loopback, each checked (SOAK_ARGS=... passes arguments on)'
	@echo 'make bench        beside C, Go, socket, asyncio and uvloop: ten minutes at most, on a quiet machine'
	@echo 'make bench-quick  a smoke test of the same'
	@echo 'make bench-record the tables and the picture of the last make bench, into the documentation'
	@echo 'make instructions instructions a message by callgrind, and their limits'
	@echo 'make scaling      how throughput grows with threads'
	@echo 'make lint         layout, types, warnings of two compilers, and three analyzers of C'
	@echo 'make format       lay the code out'
	@echo 'make docs         the documentation, in docs/_build'
	@echo 'make dist         sdist and wheel, in dist'
	@echo 'PYTHON=... names the interpreter, now $(PYTHON); CC=... the compiler, now $(CC)'

prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo 'ipv4batch: Python 3.11 or later is needed, $(PYTHON) is not there: install it (Debian: python3)' >&2; exit 1; }
	@$(PYTHON) tools/check_prerequisites.py '$(CC)'

# An environment: .venv/TAG/NAME/installed is newer than everything that was built into it.
#   $(call environment,NAME,EXTRAS,VARIABLES)
define environment
$(VENV)/$(1)/installed: $(SOURCES) | prerequisites
	@test -x $(VENV)/$(1)/bin/python || $(PYTHON) -m venv $(VENV)/$(1)
	@echo 'building ipv4batch in $(VENV)/$(1)'
	@rm -rf $(VENV)/$(1)/build && mkdir -p $(VENV)/$(1)/build
	@cp -r csrc ipv4batch setup.py pyproject.toml README.rst LICENSE MANIFEST.in $(VENV)/$(1)/build
	@$(3) $(VENV)/$(1)/bin/python -m pip install --quiet --disable-pip-version-check './$(VENV)/$(1)/build$(2)'
	@$(3) $(VENV)/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps './$(VENV)/$(1)/build'
	@touch $$@
endef

$(eval $(call environment,demo,[perf],))
$(eval $(call environment,test,[test],IPV4BATCH_WERROR=1))
$(eval $(call environment,nommsg,[test],IPV4BATCH_WERROR=1 IPV4BATCH_NO_MMSG=1))
$(eval $(call environment,sanitize,[test],IPV4BATCH_SANITIZE=1))
# Newer Hypotheses are compiled, and not for a free-threaded 3.13.
$(eval $(call environment,freethreaded,[suite],IPV4BATCH_WERROR=1 PIP_ONLY_BINARY=hypothesis))
$(eval $(call environment,tsan,[suite],CC=clang IPV4BATCH_SANITIZE=thread PIP_ONLY_BINARY=hypothesis))
$(eval $(call environment,leaks,[test],))
$(eval $(call environment,coverage,[coverage],CC=gcc IPV4BATCH_COVERAGE=1))
$(eval $(call environment,docs,[docs],))
$(eval $(call environment,bench,[bench],))

demo: $(VENV)/demo/installed
	@$(VENV)/demo/bin/python -m ipv4batch perf

test: $(VENV)/test/installed test-c
	@$(VENV)/test/bin/$(PYTEST)

test-nommsg: $(VENV)/nommsg/installed
	@$(VENV)/nommsg/bin/$(PYTEST)

# The interpreter at hand, and those of newer suites of Debian in roots of their own.
test-pythons: | prerequisites
	@$(PYTHON) tools/test_pythons.py $(PYTHON) $(PYTHONS)

# With leaks: each process of the suite is searched at its end, and fails for one. What Python's own lists still
# lead to is none to LeakSanitizer; tests/faults/test_memory.py and tools/leaks.py count that.
sanitize: $(VENV)/sanitize/installed test-c test-msan
	@LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
	    LSAN_OPTIONS="suppressions='$(CURDIR)/tests/lsan.supp':print_suppressions=0" \
	    IPV4BATCH_TEST_SANITIZED=1 \
	    $(VENV)/sanitize/bin/$(PYTEST)

# Both build their interpreter first, if it is not there: that takes some minutes, once.
HAMMER_SECONDS ?= 60

freethreaded:
	@python=$$($(PYTHON) tools/build_freethreaded.py plain) && $(MAKE) PYTHON="$$python" freethreaded-tests

freethreaded-tests: $(VENV)/freethreaded/installed
	@IPV4BATCH_HAMMER_SECONDS=$(HAMMER_SECONDS) $(VENV)/freethreaded/bin/$(PYTEST)

TSAN_TESTS = tests/io/test_hammer.py tests/io/test_concurrency.py \
    tests/offload/test_offload_threads.py tests/errors/test_network_errors_threads.py

# The environment is the plain interpreter's, which is the faster one by far to install with.
tsan:
	@plain=$$($(PYTHON) tools/build_freethreaded.py plain) && \
	    tsan=$$($(PYTHON) tools/build_freethreaded.py tsan) && \
	    $(MAKE) PYTHON="$$plain" TSAN_PYTHON="$$tsan" tsan-tests

# What CPython has listed itself is no finding, nor what we have.
tsan-tests: $(VENV)/tsan/installed
	@cat "$$(dirname '$(TSAN_PYTHON)')/../tsan.supp" tests/tsan.supp >$(VENV)/tsan/suppressions
	@IPV4BATCH_HAMMER_SECONDS=$(HAMMER_SECONDS) IPV4BATCH_TEST_SANITIZED=thread \
	    TSAN_OPTIONS="suppressions=$(VENV)/tsan/suppressions $(TSAN_OPTIONS)" \
	    PYTHONPATH="$$(echo $(VENV)/tsan/lib/python*/site-packages)" \
	    $(TSAN_PYTHON) -m pytest $(PYTEST_ARGS) -rP $(TSAN_TESTS)

# A debug build of Python counts every reference. Some modules at a time: LEAKS_ARGS='test_addr.py ...'.
LEAKS_PYTHON ?= python3-dbg
LEAKS_ARGS ?=
leaks:
	@command -v $(LEAKS_PYTHON) >/dev/null || { echo 'ipv4batch: $(LEAKS_PYTHON) is needed for leaks: install it (Debian: python3-dbg, python3-venv)' >&2; exit 1; }
	@$(MAKE) --no-print-directory PYTHON=$(LEAKS_PYTHON) leaks-here

leaks-here: $(VENV)/leaks/installed
	@$(VENV)/leaks/bin/python tools/leaks.py $(LEAKS_ARGS)

# Some tests under valgrind: no byte that nobody set decides anything here, or goes to the kernel.
MEMCHECK_TESTS ?= tests/io/test_batch.py tests/values/test_control.py tests/io/test_control_io.py \
    tests/io/test_datagram.py tests/io/test_datagram_raw.py tests/values/test_header.py \
    tests/faults/test_held.py tests/messages/test_message.py tests/errors/test_network_errors.py \
    tests/offload/test_offload.py tests/options/test_options.py tests/types/test_rawconn.py \
    tests/messages/test_segments.py tests/messages/test_truncation.py tests/io/test_write_all.py
.PHONY: memcheck
memcheck: $(VENV)/test/installed
	@command -v valgrind >/dev/null || { echo 'make memcheck needs valgrind (Debian: valgrind)' >&2; exit 1; }
	@PYTHONMALLOC=malloc valgrind --quiet --error-exitcode=1 --num-callers=20 --suppressions=tests/memcheck.supp \
	    $(VENV)/test/bin/$(PYTEST) -o timeout=0 $(MEMCHECK_TESTS)

# Which lines and branches of csrc the suite and the tests in C reach, and the least that they must. A process
# counts that ends by itself: not the child of a fork that a test ends by os._exit.
GCOVR = $(VENV)/coverage/bin/gcovr --exclude-unreachable-branches --merge-mode-functions=separate
.PHONY: coverage
coverage: $(VENV)/coverage/installed
	@rm -rf build/c/coverage && find $(VENV)/coverage/build -name '*.gcda' -delete
	$(call run_c_tests,coverage,gcc,--coverage -fprofile-update=atomic)
	@$(VENV)/coverage/bin/$(PYTEST)
	@$(GCOVR) --root $(VENV)/coverage/build --json build/coverage-suite.json $(VENV)/coverage/build
	@$(GCOVR) --filter csrc/core --json build/coverage-c.json build/c/coverage
	@$(GCOVR) --add-tracefile build/coverage-suite.json --add-tracefile build/coverage-c.json \
	    --txt --txt-metric branch
	@$(GCOVR) --add-tracefile build/coverage-suite.json --add-tracefile build/coverage-c.json \
	    --txt --print-summary --fail-under-line 95 --fail-under-branch 85

# The C core with no Python, in both builds: with and without recvmmsg. Once for a compiler, until
# something changes.
C_TESTS := $(patsubst tests/core/%.c,%,$(wildcard tests/core/test_*.c))
C_TESTED = build/c/passed-$(notdir $(CC))
test-c: $(C_TESTED)
test-msan: build/c/passed-msan

BUILDS = -UX -DIPV4BATCH_NO_MMSG=1
C_ASAN = -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
C_MSAN = -O1 -fsanitize=memory -fsanitize-memory-track-origins

# Builds the core and runs the tests in C on it, in build/c/FOLDER: $(call run_c_tests,FOLDER,COMPILER,FLAGS)
define run_c_tests
	@for build in $(BUILDS); do \
	    mkdir -p build/c/$(1)/$$build && ( \
	        cd build/c/$(1)/$$build && root=../../../.. || exit 1; \
	        compile="$(2) $(C_WARNINGS) -g $(3) $$build -I$$root/csrc/core -I$$root/tests/core"; \
	        $$compile -c $$root/csrc/core/*.c || exit 1; \
	        for test in $(C_TESTS); do \
	            $$compile -o $$test $$root/tests/core/$$test.c *.o -lpthread && ./$$test || exit 1; \
	        done \
	    ) || exit 1; \
	done
endef

C_TESTED_FILES := $(wildcard csrc/core/*.[ch] tests/core/*.[ch])
$(C_TESTED): $(C_TESTED_FILES) | prerequisites
	$(call run_c_tests,$(notdir $(CC)),$(CC),$(C_ASAN))
	@touch $@

# MemorySanitizer is clang's: it follows each byte that nobody set, into branches and into the kernel.
build/c/passed-msan: $(C_TESTED_FILES)
	@command -v clang >/dev/null || { echo 'make test-msan needs clang (Debian: clang libclang-rt-dev)' >&2; exit 1; }
	$(call run_c_tests,msan,clang,$(C_MSAN))
	@touch $@

include tests/core/cross.mk
include tests/fuzz/targets.mk

# The programs import each other from their own directory, here and below.
SOAK_ARGS ?=
soak: $(VENV)/test/installed
	@env -u PYTHONSAFEPATH $(VENV)/test/bin/python tests/soak.py $(SOAK_ARGS)

BENCH = env -u PYTHONSAFEPATH $(VENV)/bench/bin/python benchmarks

bench: $(VENV)/bench/installed
	@$(BENCH)/run.py

bench-quick: $(VENV)/bench/installed
	@$(BENCH)/run.py --quick

instructions: $(VENV)/bench/installed
	@$(BENCH)/instructions.py

scaling: $(VENV)/bench/installed
	@$(BENCH)/scaling.py

# Tables and picture are of one run; the counts are exact, and made anew.
.PHONY: bench-record
bench-record: instructions
	@cp $(addprefix build/benchmarks/,benchmarks.txt benchmarks-grid.txt benchmarks.svg benchmarks.png instructions.txt) docs

# The tools' environment has the package too, for mypy; it is built as users build it.
$(VENV)/lint/installed: $(SOURCES) | prerequisites
	@test -x $(VENV)/lint/bin/python || $(PYTHON) -m venv $(VENV)/lint
	@$(VENV)/lint/bin/python -m pip install --quiet --disable-pip-version-check '.[lint]'
	@rm -rf build/lib* build/temp* build/bdist* ipv4batch.egg-info
	@touch $@

C_FILES := $(wildcard csrc/*/*.[ch] csrc/*/*/*.[ch] tests/core/*.[ch] tests/fuzz/*.[ch] tests/support/*.c benchmarks/peers/*.[ch])
INCLUDES = -Icsrc -isystem $$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')

lint: $(VENV)/lint/installed
	$(VENV)/lint/bin/ruff check .
	$(VENV)/lint/bin/ruff format --check .
	$(VENV)/lint/bin/clang-format --dry-run -Werror $(C_FILES)
	$(VENV)/lint/bin/python -m mypy
	! grep -rn 'Python\.h' csrc/core
	@for tool in gcc clang cppcheck; do command -v $$tool >/dev/null || \
	    { echo "$$tool is needed for lint" >&2; exit 1; }; done
	@$(MAKE) --no-print-directory --jobs="$$(nproc)" --output-sync=target analyse

# Each file of csrc by both compilers, in both builds, with every warning an error, by gcc's analyzer and by
# clang-tidy (.clang-tidy); all of it by cppcheck, which reads a dozen of the platforms' branches.
C_SOURCES := $(wildcard csrc/*/*.c csrc/*/*/*.c)
C_HEADERS := $(wildcard csrc/*/*.h csrc/*/*/*.h)

.PHONY: analyse
analyse: $(C_SOURCES:csrc/%.c=build/lint/%) build/lint/cppcheck

build/lint/%: csrc/%.c $(C_HEADERS) .clang-tidy | $(VENV)/lint/installed
	@mkdir -p $(@D)
	@echo 'gcc -fanalyzer, clang and clang-tidy: $<'
	@for build in $(BUILDS); do \
	    gcc $(C_WARNINGS) -O2 -fanalyzer $$build $(INCLUDES) -c -o /dev/null $< || exit 1; \
	    clang $(C_WARNINGS) -O2 $$build $(INCLUDES) -c -o /dev/null $< || exit 1; \
	    $(VENV)/lint/bin/clang-tidy --quiet $< -- -std=c11 $$build $(INCLUDES) || exit 1; \
	    grep -q IPV4B_HAVE_ $< || break; \
	done
	@touch $@

build/lint/cppcheck: $(C_SOURCES) $(C_HEADERS)
	@mkdir -p $(@D)
	@echo 'cppcheck: csrc'
	@cppcheck --quiet --std=c11 --library=posix,gnu,python --enable=warning,performance,portability \
	    --suppress=toomanyconfigs --inline-suppr --error-exitcode=1 -Icsrc csrc
	@touch $@

format: $(VENV)/lint/installed
	$(VENV)/lint/bin/ruff check --fix .
	$(VENV)/lint/bin/ruff format .
	$(VENV)/lint/bin/clang-format -i $(C_FILES)

docs: $(VENV)/docs/installed
	$(VENV)/docs/bin/python -m sphinx -q -W -n --keep-going -b html docs docs/_build/html

dist: | prerequisites
	@test -x $(VENV)/dist/bin/python || $(PYTHON) -m venv $(VENV)/dist
	@$(VENV)/dist/bin/python -m pip install --quiet --disable-pip-version-check 'build>=1.2'
	@rm -rf dist && $(VENV)/dist/bin/python -m build --outdir dist . >build-dist.log 2>&1 || { cat build-dist.log; exit 1; }
	@rm -rf build-dist.log ipv4batch.egg-info
	@$(PYTHON) tools/check_dist.py dist

clean:
	rm -rf .venv build dist docs/_build ipv4batch.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
