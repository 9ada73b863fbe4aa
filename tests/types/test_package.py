"""The package: its names, signatures and types, what an import costs, several interpreters."""

import gc
import importlib.metadata
import importlib.resources
import importlib.util
import inspect
import os
import pathlib
import socket
import subprocess
import sys
import sysconfig
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.net import leaks_allowed

import ipv4batch
from ipv4batch import Header, capabilities, drops_between
from ipv4batch import _ipv4batch as compiled

TYPES = {name: value for name, value in vars(compiled).items() if isinstance(value, type)}
UDP_SEGMENT, UDP_GRO = 103, 104
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def run(script: str, where: pathlib.Path, frees_all: bool = True) -> str:
    """The output of a script in a process of its own, which must end well."""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        env=None if frees_all else leaks_allowed(),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def callables() -> Iterator[tuple[str, Any]]:
    """Every public function, type and method that is written in C."""
    for name, value in vars(compiled).items():
        if callable(value) and not name.startswith("_"):
            yield name, value
    for type_name, kind in TYPES.items():
        for name, value in vars(kind).items():
            if inspect.ismethoddescriptor(value) and not name.startswith("_"):
                yield f"{type_name}.{name}", value


CALLABLES = dict(callables())


@pytest.mark.parametrize("name", ipv4batch.__all__)
def test_public_names_exist_and_are_described(name: str) -> None:
    value = getattr(ipv4batch, name)
    if not isinstance(value, int):
        assert value.__module__.partition(".")[0] == "ipv4batch"
        assert inspect.getdoc(value)


def test_all_is_all() -> None:
    assert sorted(set(ipv4batch.__all__)) == sorted(ipv4batch.__all__)
    public = {
        name
        for name, value in vars(ipv4batch).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(ipv4batch.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    assert ipv4batch.__version__ == importlib.metadata.version("ipv4batch")


OWN = {"", ".enums", ".drops", "._version", "._ipv4batch"}


def test_an_import_loads_nothing_but_its_own_modules() -> None:
    """Beside what a program with sockets, enumerations and addresses has anyway."""
    script = """
import sys, socket, enum, ipaddress
before = set(sys.modules)
import ipv4batch
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    # What an environment has imported at its start, a coverage tool for instance, is there before.
    assert set(done.stdout.split()) <= {f"ipv4batch{name}" for name in OWN}


@pytest.mark.parametrize("name", ["py.typed", "_ipv4batch.pyi"])
def test_the_package_tells_its_types(name: str) -> None:
    assert (importlib.resources.files("ipv4batch") / name).is_file()


@pytest.mark.parametrize("name", CALLABLES)
def test_what_is_written_in_c_has_a_docstring_and_a_signature(name: str) -> None:
    value = CALLABLES[name]
    assert inspect.getdoc(value)
    assert value.__text_signature__ is not None or name in ("QueuedError", "TxTimestamp")
    parameters = inspect.signature(value).parameters.values()
    assert {parameter.kind for parameter in parameters}.isdisjoint(
        {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    )


@pytest.mark.parametrize("name", TYPES)
def test_attributes_have_docstrings(name: str) -> None:
    attributes = {
        attribute: value
        for attribute, value in vars(TYPES[name]).items()
        if inspect.isdatadescriptor(value) and not attribute.startswith("_")
    }
    assert [attribute for attribute, value in attributes.items() if not inspect.getdoc(value)] == []


def test_there_is_something_to_look_at() -> None:
    assert {"checksum", "Header.marshal", "Conn.close", "PacketConn.read_from"} <= set(CALLABLES)
    assert "Message" in TYPES


@pytest.mark.skipif(
    FREE_THREADED and importlib.util.find_spec("mypy") is None,
    reason="mypy cannot be had for every free-threaded Python",
)
def test_the_stub_agrees_with_the_package(tmp_path: pathlib.Path) -> None:
    # In a directory of its own mypy finds the installed package, and leaves its cache there. It has
    # to be shown that of `pip install -e`, and refuses to be shown what is in site-packages.
    home = pathlib.Path(ipv4batch.__file__).parent.parent
    shown = {} if home.name.endswith("-packages") else {"MYPYPATH": str(home)}
    ended = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "ipv4batch"],
        cwd=tmp_path,
        env=os.environ | shown,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_an_import_costs_no_foreign_module(tmp_path: pathlib.Path) -> None:
    imported = run(
        "import sys; before = set(sys.modules); import ipv4batch\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})",
        tmp_path,
    ).split()
    assert "ipv4batch" in imported
    assert set(imported) - sys.stdlib_module_names == {"ipv4batch"}
    tools = {"argparse", "asyncio", "subprocess", "ctypes", "multiprocessing"}
    assert tools.isdisjoint(imported)


def test_an_import_opens_nothing(tmp_path: pathlib.Path) -> None:
    opened = run(
        "import os; before = os.listdir('/proc/self/fd'); import ipv4batch\n"
        "print(os.listdir('/proc/self/fd') == before)",
        tmp_path,
    )
    assert opened == "True\n"


def has_udp_option(option: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.getsockopt(socket.IPPROTO_UDP, option)
        except OSError:
            return False
    return True


def may_open_raw_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except PermissionError:
        return False
    return True


def test_capabilities_are_bools() -> None:
    found = capabilities()
    assert type(found) is dict
    assert set(found) == {
        *("recvmmsg", "sendmmsg", "gso", "gro", "raw_sockets"),
        *("tx_timestamps", "txtime", "max_pacing_rate"),
    }
    assert {type(value) for value in found.values()} == {bool}
    assert found["recvmmsg"] == found["sendmmsg"]
    assert found["gso"] == has_udp_option(UDP_SEGMENT)
    assert found["gro"] == has_udp_option(UDP_GRO)
    assert found["raw_sockets"] == may_open_raw_sockets()


def test_capabilities_are_the_callers_own() -> None:
    capabilities().clear()
    assert len(capabilities()) == 8


def load_again() -> ModuleType:
    """A second module object from the same extension, as another interpreter would have it."""
    spec = importlib.util.find_spec("ipv4batch._ipv4batch")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_module_object_has_types_of_its_own() -> None:
    other = load_again()
    assert other is not compiled
    for name, kind in TYPES.items():
        assert getattr(other, name) is not kind
    assert other.checksum(b"12") == ipv4batch.checksum(b"12")
    assert type(other.parse_header(other.Header(dst="1.2.3.4").marshal())) is other.Header
    assert other.Header() != Header()
    with pytest.raises(TypeError, match="into: a ControlMessage is required"):
        other.Message().control_message(ipv4batch.ControlMessage())


def test_objects_outlive_the_module_that_they_are_from() -> None:
    header = load_again().Header(src="10.0.0.1", dst="10.0.0.2")
    message = load_again().Message(bytearray(4), addr=("10.0.0.1", 7))
    gc.collect()
    assert header == type(header)(src=header.src, dst=b"\n\0\0\2")
    message.addr = (b"\n\0\0\2", 8)
    assert message.addr == ("10.0.0.2", 8)


@pytest.mark.skipif(
    FREE_THREADED and sys.version_info < (3, 14),
    reason="without a GIL Python 3.13 never frees modules once there was a second thread",
)
@pytest.mark.parametrize("keeps", [False, True])
def test_a_module_object_is_freed(keeps: bool) -> None:
    module = load_again()
    if keeps:
        module.own = module.new_messages(2, 100)
    dead = weakref.ref(module)
    del module
    gc.collect()
    assert dead() is None


def test_the_package_is_imported_again(tmp_path: pathlib.Path) -> None:
    script = """
import gc, importlib, sys
import ipv4batch
old = ipv4batch.Message(bytearray(4), addr=("10.0.0.1", 7))
for _ in range(3):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ipv4batch"]:
        del sys.modules[name]
    import ipv4batch
    importlib.reload(ipv4batch)
    gc.collect()
    assert type(ipv4batch.Message()) is not type(old)
    assert ipv4batch.Header(dst="1.2.3.4").marshal()[0] == 0x45
print(old.addr)
"""
    assert run(script, tmp_path) == "('10.0.0.1', 7)\n"


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_a_free_threaded_python_stays_so(tmp_path: pathlib.Path) -> None:
    script = "import sys, ipv4batch; print(sys._is_gil_enabled())"
    assert run(script, tmp_path) == "False\n"


def test_several_interpreters_use_it(tmp_path: pathlib.Path) -> None:
    script = '''
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import ipv4batch

code = """
import socket, ipv4batch
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    sock.bind(("127.0.0.1", 0))
    conn = ipv4batch.PacketConn(sock)
    conn.write_batch([ipv4batch.Message(b"hello", addr=conn.local_addr)])
    kept = ipv4batch.new_messages(2, 10)
    assert conn.read_batch(kept) == 1
    assert (kept[0].data, kept[0].addr) == (b"hello", conn.local_addr)
"""
for _ in range(3):
    pair = [interpreters.create(), interpreters.create()]
    for interpreter in pair * 2:
        # Older Pythons raise what went wrong there, newer ones return it.
        assert interpreters.run_string(interpreter, code) is None
    for interpreter in pair:
        interpreters.destroy(interpreter)
print(ipv4batch.Message(addr=("10.0.0.1", 7)).addr)
'''
    # An interpreter that imported socket, enum and ipaddress leaves memory behind without us, too.
    assert run(script, tmp_path, frees_all=False) == "('10.0.0.1', 7)\n"


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        (0, 0, 0),
        (3, 10, 7),
        (None, None, 0),
        (None, 5, 5),
        (0, None, 0),
        (2**32 - 1, 0, 1),
        (2**32 - 1, 1, 2),
        (1, 0, 2**32 - 1),
        (2**31, 2**31 - 1, 2**32 - 1),
    ],
)
def test_drops_between(earlier: int | None, later: int | None, expected: int) -> None:
    assert drops_between(earlier, later) == expected


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@example(2**32 - 1, 2**32 - 1)
def test_a_counter_wraps(earlier: int, dropped: int) -> None:
    assert drops_between(earlier, (earlier + dropped) % 2**32) == dropped
