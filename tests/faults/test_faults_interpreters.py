"""Many interpreters in one process."""

import sys

import pytest
from support.net import run_script as run

INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import os, socket, sys, threading
from support.net import Call, open_udp
from ipv4batch import new_messages

CODE = '''
import socket
import ipv4batch
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    sock.bind(("127.0.0.1", 0))
    conn = ipv4batch.PacketConn(sock)
    conn.gso = conn.gro = True
    conn.set_control_message(ipv4batch.ControlFlags.TTL)
    kept = ipv4batch.new_messages(8, 100, ipv4batch.ControlFlags.TTL)
    for turn in range(20):
        sent = [ipv4batch.Message(b"%d" % k, None, conn.local_addr) for k in range(5)]
        assert conn.write_all(sent) == 5
        read = 0
        while read < 5:
            for message in kept[:(n := conn.read_batch(kept))]:
                assert message.control_message().ttl == 64
            read += n
    out = [ipv4batch.Message(NAME + b"%d" % k, None, ("127.0.0.1", PORT)) for k in range(10)]
    assert conn.write_all(out) == 10
    try:
        conn.tos = 256
    except ValueError:
        pass
'''

def use(interpreter, port):
    # Older Pythons raise what went wrong there, newer ones return it.
    code = f"PORT, NAME = {port}, b'{interpreter} '{CODE}"
    assert interpreters.run_string(interpreter, code) is None

def read(conn, count):
    room, found = new_messages(64, 100), []
    while len(found) < count:
        found += [message.data for message in room[: conn.read_batch(room)]]
    return found
"""


def test_many_interpreters_come_and_go() -> None:
    script = """
with open_udp() as conn:
    for turn in range(20):
        number = interpreters.create()
        use(number, conn.local_addr[1])
        interpreters.destroy(number)
        assert len(set(read(conn, 10))) == 10
        if turn == 0:
            before = sorted(os.listdir("/proc/self/fd"))
    assert sorted(os.listdir("/proc/self/fd")) == before
print("over")
"""
    assert run(INTERPRETERS + script) == "over\n"


def test_many_interpreters_side_by_side() -> None:
    """Each in a thread of its own, and from 3.12 on with a GIL of its own."""
    script = """
with open_udp() as conn:
    numbers = [interpreters.create() for _ in range(8)]
    for number in numbers:
        # At its end an interpreter waits for the thread that imported this.
        interpreters.run_string(number, "import threading")
    for _ in range(2):
        calls = [Call(use, number, conn.local_addr[1]) for number in numbers]
        for call in calls:
            call.result()
        expected = {b"%d %d" % (int(number), k) for number in numbers for k in range(10)}
        assert set(read(conn, 80)) == expected
    for number in numbers:
        interpreters.destroy(number)
print("over")
"""
    assert run(INTERPRETERS + script) == "over\n"


def test_interpreters_come_and_go_side_by_side() -> None:
    """One is imported into while others are used and end."""
    script = """
def come_and_go(port):
    for _ in range(3):
        number = interpreters.create()
        # At its end an interpreter waits for the thread that imported this.
        interpreters.run_string(number, "import threading")
        use(number, port)
        interpreters.destroy(number)

with open_udp() as conn:
    calls = [Call(come_and_go, conn.local_addr[1]) for _ in range(4)]
    assert len(read(conn, 4 * 3 * 10)) == 4 * 3 * 10
    for call in calls:
        call.result()
print("over")
"""
    assert run(INTERPRETERS + script) == "over\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all interpreters share one GIL")
def test_an_interpreter_has_a_gil_of_its_own() -> None:
    """It moves datagrams while the main one holds its GIL; imports take that for a moment."""
    script = """
import ctypes
BEGIN = '''
import socket, time, ipv4batch
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"begun", ("127.0.0.1", PORT))
time.sleep(0.2)
'''
number = interpreters.create()
# At its end an interpreter waits for the thread that imported this.
interpreters.run_string(number, "import threading")
conn = open_udp()
code = f"PORT, NAME = {conn.local_addr[1]}, b'x'" + BEGIN + CODE
call = Call(interpreters.run_string, number, code)
with conn:
    assert read(conn, 1) == [b"begun"]
    # A function of a PyDLL is called with the GIL held.
    poll = ctypes.PyDLL(None).poll
    entry = (ctypes.c_int * 2)(conn.fileno(), 1)
    assert poll(entry, 1, 10_000) == 1
    call.result()
interpreters.destroy(number)
print("over")
"""
    assert run(INTERPRETERS + script) == "over\n"


def test_an_interpreter_is_left_as_it_is() -> None:
    """Neither connections nor interpreters are ended by hand."""
    script = """
import warnings
# From 3.14 on Python tells of interpreters that are left.
warnings.filterwarnings("ignore", "remaining subinterpreters", RuntimeWarning)
for _ in range(3):
    number = interpreters.create()
    assert interpreters.run_string(number, '''
import socket, ipv4batch
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
conn = ipv4batch.PacketConn(sock)
conn.gro = True
conn.timeout = 0.01
messages = ipv4batch.new_messages(4)
try:
    conn.read_batch(messages)
except TimeoutError:
    pass
''') is None
print("over")
"""
    assert run(INTERPRETERS + script, frees_all=False) == "over\n"
