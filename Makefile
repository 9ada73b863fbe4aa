# make demo and make test do all the set-up. They need Python 3.11 with its headers, a C compiler and a package
# index. Everything else is a session of nox (noxfile.py); make NAME runs it with the Python that PYTHON names.

PYTHON ?= python3
CC ?= cc
export CC PYTHON

# The name of the interpreter's environments: see python_tag in noxfile.py.
TAG := $(shell $(PYTHON) -c 'import sys, zlib, os; \
    where = os.path.realpath(getattr(sys, "_base_executable", sys.executable)).encode(); \
    print("%d.%d.%d-%08x" % (sys.version_info[:3] + (zlib.crc32(where) & 0xffffffff,)))' 2>/dev/null)
TOOLS := .venv/$(or $(TAG),none)/nox
NOX = $(TOOLS)/bin/python -m nox --no-error-on-external-run

SESSIONS = demo test-c test-msan test-nommsg test-pythons test-cross sanitize freethreaded tsan leaks memcheck coverage \
    fuzz soak bench bench-aio bench-quick bench-record instructions scaling lint format docs judges dist

.PHONY: help test clean prerequisites $(SESSIONS)

help:
	@echo 'make demo    build, and move datagrams over loopback: socket against batches'
	@echo 'make test    build, and run the whole suite (PYTEST_ARGS=... passes arguments on)'
	@echo 'make NAME    a session of nox, one of:'
	@echo '    $(SESSIONS)'
	@echo 'PYTHON=... names the interpreter, now $(PYTHON); CC=... the compiler, now $(CC)'
	@echo 'CONTRIBUTING.rst says what the sessions do, and so does nox --list'

prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo 'ipv4batch: Python 3.11 or later is needed, $(PYTHON) is not there: install it (Debian: python3)' >&2; exit 1; }
	@$(PYTHON) tools/check_prerequisites.py '$(CC)'

# nox, in an environment of its own.
$(TOOLS)/installed: pyproject.toml | prerequisites
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check 'nox>=2025.2.9'
	@touch $@

test: $(TOOLS)/installed
	@$(NOX) -s test-c test

$(SESSIONS): $(TOOLS)/installed
	@$(NOX) -s $@

clean:
	rm -rf .venv build dist docs/_build ipv4batch.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
