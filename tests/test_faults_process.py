"""Links, sockets, processes and interpreters that end while they are in use."""

import errno
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute
from support_net import LIMIT, Call, open_udp, wait_for
from support_router import NEAR, Network, linked

from ipv4batch import Message, PacketConn, new_messages

TESTS = pathlib.Path(__file__).parent


def run(script: str, *arguments: str) -> str:
    """What a script prints; it must end well and complain of nothing."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def numbered(numbers: range, addr: tuple[str, int]) -> list[Message]:
    return [Message(b"%04d" % number, None, addr) for number in numbers]


# A link


@pytest.fixture
def network(needs_netns: None) -> Iterator[Network]:
    with linked() as made:
        yield made


def set_link(network: Network, state: str) -> None:
    """Turn the client's end of the link on or off."""
    client = network.places["client"]
    with client.entered(), IPRoute() as routes:
        index = socket.if_nametoindex("link")
        routes.link("set", index=index, state=state)
        if state == "up":
            lookup = {"ifname": "link", "operstate": "UP"}
            wait_for(lambda: bool(routes.link_lookup(**lookup)), "the link is up")


@pytest.mark.parametrize("offload", [False, True])
def test_a_link_goes_down_and_comes_back(network: Network, offload: bool) -> None:
    with network.open_udp("server") as reader, network.open_udp("client") as writer:
        writer.gso = reader.gro = offload
        addr = (NEAR, reader.local_addr[1])
        messages = numbered(range(40), addr)
        found: list[bytes] = []

        def read_all() -> None:
            room = new_messages(64, 100)
            while len(found) < 60:
                found.extend(message.data for message in room[: reader.read_batch(room)])

        call = Call(read_all).wait_until_waiting()
        assert writer.write_all(messages[:20]) == 20
        set_link(network, "down")
        call.wait_until_waiting()
        with pytest.raises(OSError, match="unreachable") as caught:
            writer.write_all(messages[20:])
        error: Any = caught.value
        assert (error.errno, error.index, error.written) == (errno.ENETUNREACH, 0, 0)
        assert writer.write_all(messages[20:], errors="skip") == 0
        assert {message.errno for message in messages[20:]} == {errno.ENETUNREACH}
        with pytest.raises(OSError, match="unreachable"):
            writer.write_to(b"lost", addr)
        assert call.is_alive()
        set_link(network, "up")
        assert writer.write_all(messages[20:]) == 20
        assert writer.write_all(numbered(range(40, 60), addr)) == 20
        call.result()
        assert found == [b"%04d" % number for number in range(60)]
        assert writer.gso is reader.gro is offload


# A socket


def assert_closed(call: Call) -> None:
    with pytest.raises(OSError, match="The connection is closed: 'read udp4'") as caught:
        call.result()
    assert caught.value.errno == errno.EBADF


def open_pair() -> tuple[socket.socket, PacketConn]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock, PacketConn(sock)


@pytest.mark.parametrize("end", ["close", "timeout", "datagram"])
@pytest.mark.parametrize("gro", [False, True])
def test_a_socket_is_closed_under_a_call(end: str, gro: bool) -> None:
    """The call ends with the first thing that wakes it, and does not look for the number."""
    sock, conn = open_pair()
    conn.gro = gro
    conn.timeout = 0.3 if end == "timeout" else LIMIT
    addr, number = conn.local_addr, sock.fileno()
    call = Call(conn.read_batch, new_messages(3, 100)).wait_until_waiting()
    sock.close()
    # Another socket has the number at once, and something to read.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, open_udp() as sender:
        other.bind(("127.0.0.1", 0))
        assert other.fileno() == number
        sender.write_to(b"for another", other.getsockname())
        if end == "close":
            conn.close()
        elif end == "datagram":
            sender.write_to(b"for nobody", addr)  # the waiting call keeps the socket alive
        assert_closed(call)
        assert other.recv(100, socket.MSG_DONTWAIT) == b"for another"


def test_a_number_is_free_when_the_last_call_is_out() -> None:
    """close() and a new file at once, again and again: the call never gets the other's datagram."""
    with open_udp() as sender:
        for turn in range(100):
            sock, conn = open_pair()
            conn.timeout = LIMIT
            messages = new_messages(3, 100)
            call = Call(conn.read_batch, messages)
            if turn % 2:  # else it may be anywhere
                wait_for(lambda m=messages[0]: "in use" in repr(m), "the call is inside")
            conn.close()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", 0))
                sender.write_to(b"for another", other.getsockname())
                assert_closed(call)
                assert other.recv(100, socket.MSG_DONTWAIT) == b"for another"
            assert sock.fileno() == -1


def test_a_borrowed_number_that_is_another_file() -> None:
    """It is the lender's business; the connection says what the system says."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    conn = PacketConn(sock.fileno())
    number = sock.detach()
    pipe = os.pipe()
    os.dup2(pipe[0], number)
    for call in (
        lambda: conn.read_batch(new_messages(1)),
        lambda: conn.read_from(bytearray(9)),
        lambda: conn.write_to(b"x", ("127.0.0.1", 9)),
        lambda: conn.write_all([Message(b"x", None, ("127.0.0.1", 9))], errors="skip"),
    ):
        with pytest.raises(OSError, match=r"\[Errno 88\]") as caught:
            call()
        assert caught.value.errno == errno.ENOTSOCK
    conn.close()
    for opened in (*pipe, number):
        os.close(opened)


# A process


FORK = """
import os, socket, sys, threading, time
from support_net import Call, open_udp
from ipv4batch import new_messages

def in_a_child(function):
    child = os.fork()
    if child == 0:
        function()
        os._exit(0)  # an exception would end it otherwise, with a message
    return child

def is_open(number):
    return os.path.exists(f"/proc/self/fd/{number}")

conn = open_udp(timeout=None)
conn.gro = sys.argv[1] == "gro"
number = conn.fileno()
call = Call(conn.read_batch, messages := new_messages(4, 100)).wait_until_waiting()

def end():
    clock = time.pthread_getcpuclockid(call.ident)
    before = time.clock_gettime(clock)
    time.sleep(0.2)
    print("sleeps" if time.clock_gettime(clock) - before < 0.02 else "spins")
    with open_udp() as sender:
        sender.write_to(b"after", conn.local_addr)
    print(call.result(), messages[0].data)
"""

CHILDREN = {
    "closes": """
conn.close()
assert conn.fileno() == -1
assert not is_open(number)
""",
    "sets a deadline": """
conn.set_deadline(0)
conn.set_deadline(None)
""",
    "reads": """
conn.timeout = 0.01
for call in (lambda: conn.read_batch(new_messages(2)), lambda: conn.read_from(bytearray(9))):
    try:
        call()
    except TimeoutError:
        continue
    raise AssertionError
assert conn.pending == 0
""",
    "writes and closes": """
with open_udp() as peer:
    conn.write_to(b"from the child", peer.local_addr)
    peer.read_from(buffer := bytearray(20))
    assert buffer.startswith(b"from the child")
conn.close()
assert not is_open(number)
""",
    "closes what another thread waits for": """
ours = Call(conn.read_batch, new_messages(2)).wait_until_waiting()
conn.close()
try:
    ours.result()
except OSError as error:
    assert "The connection is closed" in str(error)
else:
    raise AssertionError
assert not is_open(number)
""",
    "forgets it": """
global conn, call
del conn, call
""",
}


@pytest.mark.parametrize("offload", ["plain", "gro"])
@pytest.mark.parametrize("does", CHILDREN)
def test_a_child_has_a_copy_of_its_own(does: str, offload: str) -> None:
    """Whatever it does with it, the thread of the parent that waited goes on waiting."""
    body = CHILDREN[does].replace("\n", "\n    ")
    script = f"def child():{body}\n\nassert os.waitpid(in_a_child(child), 0)[1] == 0\nend()"
    assert run(FORK + script, offload) == "sleeps\n1 b'after'\n"


def test_a_fork_while_a_thread_takes_datagrams_apart() -> None:
    """What that thread held when it was not copied, the child does not wait for."""
    script = """
reading = True

def read():
    room = new_messages(4, 100)
    while reading:
        try:
            conn.read_batch(room, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

def child():
    signal.setitimer(signal.ITIMER_REAL, 2)  # ends it
    assert conn.pending == 0
    conn.timeout = 0
    try:
        conn.read_batch(new_messages(2))
    except BlockingIOError:
        conn.close()
        assert not is_open(number)

import signal
call.wait_until_waiting()
readers = [Call(read), Call(read)]
ends = []
while len(ends) < 100 and not any(ends):
    ends.append(os.waitpid(in_a_child(child), 0)[1])
reading = False
for reader in readers:
    reader.result()
print(any(ends))
end()
"""
    assert run(FORK + script, "gro") == "False\nsleeps\n1 b'after'\n"


# The end of the interpreter

WAITING = """
import atexit, os, socket, sys, threading, time
from support_net import Call, open_udp
from ipv4batch import Message, new_messages

def open_with_error():
    # Nobody reads its queue, so that it waits for a change and not in poll alone.
    conn = open_udp(timeout=None)
    conn.recv_errors = True
    with open_udp() as closed:
        nobody = closed.local_addr
    conn.write_to(b"x", nobody)
    conn.write_to(b"x", conn.local_addr)
    conn.read_from(bytearray(9))
    return conn

conns = [open_udp(timeout=None) for _ in range(4)] + [open_with_error()]
conns[1].gro = conns[1].gso = True
conns[3].recv_errors = True
calls = [
    Call(conns[0].read_batch, new_messages(4, 100)),
    Call(conns[1].read_batch, new_messages(4, 100)),
    Call(conns[2].read_from, bytearray(100)),
    Call(conns[3].read_errors, 1, True),
    Call(conns[4].read_batch, new_messages(4, 100)),
]
for call in calls:
    call.wait_until_waiting()

def wake_all():
    with open_udp() as sender:
        for conn in conns:
            sender.write_to(b"late", conn.local_addr)

def close_all():
    for conn in conns:
        conn.close()
"""

ENDINGS = {
    "falls off the end": "",
    "exits": "sys.exit(0)",
    "exits at once": "os._exit(0)",
    "wakes at exit": "atexit.register(wake_all)",
    "closes at exit": "atexit.register(close_all)",
    "wakes and forgets": "wake_all(); del conns, calls, call",
    "an exception, caught": """
try:
    raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_ends_with_daemons_waiting(ending: str) -> None:
    script = f"{WAITING}\nprint('over', flush=True)\n{ENDINGS[ending]}"
    assert run(script) == "over\n"


def test_the_interpreter_waits_for_other_threads() -> None:
    """As it does for every thread that is no daemon: it ends when their calls have."""
    script = """
import os, threading
from support_net import open_udp
from ipv4batch import new_messages

def read(conn, read):
    try:
        read(conn)
    except OSError as error:
        os.write(1, error.strerror.encode() + b"\\n")

reads = [
    lambda conn: conn.read_batch(new_messages(3)),
    lambda conn: conn.read_from(bytearray(9)),
    lambda conn: conn.read_errors(wait=True),
]
conns = [open_udp(timeout=0.2) for _ in reads]
for conn, each in zip(conns, reads):
    threading.Thread(target=read, args=(conn, each)).start()
forever = open_udp(timeout=None)
threading.Thread(target=read, args=(forever, reads[0])).start()
threading.Timer(0.3, forever.close).start()
print("over", flush=True)
"""
    expected = ["The connection is closed", "over", *["timed out"] * 3]
    assert sorted(run(script).splitlines()) == expected


@pytest.mark.parametrize("turn", range(5))
def test_the_interpreter_ends_with_daemons_at_work(turn: int) -> None:
    """They are anywhere in their calls when it goes."""
    script = """
import sys, threading, time
from support_net import open_udp
from ipv4batch import Message, new_messages

conn = open_udp()
conn.gso = conn.gro = True
moved = 0

def read():
    global moved
    room = new_messages(32, 100)
    while True:
        moved += conn.read_batch(room)
        bytes().join(message.data for message in room)

def write():
    messages = [Message(bytes(100), None, conn.local_addr)] * 32
    while True:
        conn.write_all(messages)

for function in (read, read, write, write):
    threading.Thread(target=function, daemon=True).start()
while moved < 1000:
    time.sleep(0.001)
print("over", flush=True)
"""
    assert run(script) == "over\n"


# Interpreters in one process

INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import os, socket, sys, threading
from support_net import Call, open_udp
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


def test_an_interpreter_is_left_as_it_is() -> None:
    """Neither connections nor interpreters are ended by hand."""
    script = """
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
    assert run(INTERPRETERS + script) == "over\n"
