"""Processes that fork while their calls wait."""

import sys

import pytest
from support.clogged import WRITING, Clogged
from support.net import run_script as run

FORK = """
import os, socket, sys, threading, time
from support.net import Call, open_udp
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


FORK_IN_C = """
import ctypes
os.fork = ctypes.PyDLL(None).fork  # nothing of Python's is told of it
"""


@pytest.mark.parametrize("offload", ["plain", "gro"])
@pytest.mark.parametrize("does", ["closes", "sets a deadline", "forgets it"])
def test_a_fork_in_c_is_seen(does: str, offload: str) -> None:
    body = CHILDREN[does].replace("\n", "\n    ")
    script = f"def child():{body}\n\nassert os.waitpid(in_a_child(child), 0)[1] == 0\nend()"
    assert run(FORK + FORK_IN_C + script, offload) == "sleeps\n1 b'after'\n"


def test_a_hook_that_runs_before_any_of_ours() -> None:
    """It was registered before the package was imported, and closes the connection in the child."""
    hook = """
import os
conn = None
os.register_at_fork(after_in_child=lambda: conn is not None and conn.close())
"""
    script = """
assert os.waitpid(in_a_child(lambda: None), 0)[1] == 0
end()
"""
    assert run(hook + FORK + script, "plain") == "sleeps\n1 b'after'\n"


def test_a_child_of_multiprocessing_reads_for_itself() -> None:
    script = """
import multiprocessing

def child():
    conn.timeout = 10
    assert conn.pending == 0
    conn.close()

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert process.exitcode == 0
end()
"""
    assert run(FORK + script, "gro") == "sleeps\n1 b'after'\n"


def test_every_descriptor_is_closed_by_exec() -> None:
    """The wake-up descriptor of a call that waits, for instance."""
    script = """
import fcntl

ours = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}
flags = []
for number in ours:
    try:
        flags.append(fcntl.fcntl(number, fcntl.F_GETFD))
    except OSError:
        pass  # that of the listing
print(len(flags) > 1, all(flag & fcntl.FD_CLOEXEC for flag in flags))
end()
"""
    assert run(FORK + script, "plain") == "True True\nsleeps\n1 b'after'\n"


@pytest.mark.parametrize("does", ["conn.close()", "conn.set_deadline(0)", "del conn, calls, call"])
def test_a_fork_while_writes_wait(clogged: Clogged, does: str) -> None:
    """What the child does with its copy ends none of the parent's calls."""
    script = f"""
import os

def child():
    global conn, calls, call
    {does}

if (pid := os.fork()) == 0:
    child()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
for call in calls:
    print(call.wait_until_waiting().is_alive())
conn.close()
for call in calls:
    try:
        call.result()
    except OSError as error:
        print(error.strerror)
"""
    number = clogged.conn.fileno()
    expected = "True\n" * 4 + "The connection is closed\n" * 4
    assert run(WRITING + script, str(number), pass_fds=(number,)) == expected


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL the lock may be another thread's, as that of Python's own lists",
)
def test_a_fork_while_a_thread_splits_coalesced_datagrams() -> None:
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


HOW_TO_FORK = {
    "before its first call": """
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
try:
    conn.read_batch(new_messages(1), socket.MSG_DONTWAIT)
except BlockingIOError:
    pass
""",
    "in the middle of a call": """
def fork(*args):
    if os.fork():
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    with open_udp() as sender:
        sender.write_to(b"arrives", conn.local_addr)

signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.05)
conn.read_batch(new_messages(1))
""",
    "by a call that ends": """
def fork(*args):
    if os.fork():
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    raise InterruptedError

signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    conn.read_batch(new_messages(1))
except InterruptedError:
    pass
""",
}


@pytest.mark.parametrize("when", HOW_TO_FORK)
def test_the_last_call_of_a_child_closes(when: str) -> None:
    """In the child too, close() leaves the socket open for the calls that are inside."""
    script = f"""
import os, signal, socket, threading
from support.net import Call, open_udp
from ipv4batch import PacketConn, new_messages

class Socket(socket.socket):
    def close(self):
        if self.fileno() >= 0:
            print("closed by the thread that waited:", threading.current_thread() is call)
        super().close()

sock = Socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
conn = PacketConn(sock)
{HOW_TO_FORK[when]}
call = Call(conn.read_batch, new_messages(1)).wait_until_waiting()
conn.close()
try:
    call.result()
except OSError as error:
    print(error.strerror)
"""
    # CPython 3.11 does not free the locks of its own that it makes anew in a child.
    expected = "closed by the thread that waited: True\nThe connection is closed\n"
    assert run(script, frees_all=False) == expected


def test_a_child_closes_what_its_parent_was_about_to() -> None:
    """Closed before the fork with a call inside, which the child has not."""
    script = """
def child():
    conn.close()
    assert not is_open(number)

sys.setswitchinterval(1000)  # no other thread runs until this one waits
conn.close()
print(os.waitpid(in_a_child(child), 0)[1])
try:
    call.result()
except OSError as error:
    print(error.strerror, is_open(number))
"""
    assert run(FORK + script, "plain") == "0\nThe connection is closed False\n"
