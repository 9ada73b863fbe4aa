"""Interpreters that end while calls wait."""

import pytest
from support.clogged import WRITING, Clogged
from support.net import run_script as run

WAITING = """
import atexit, os, socket, sys, threading, time
from support.net import Call, open_udp
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
    assert run(script, frees_all=False) == "over\n"


@pytest.mark.parametrize(
    "ending", ["", "sys.exit(0)", "import atexit; atexit.register(conn.close)"]
)
def test_the_interpreter_ends_with_writes_waiting(clogged: Clogged, ending: str) -> None:
    number = clogged.conn.fileno()
    script = f"{WRITING}\nprint('over', flush=True)\n{ending}"
    assert run(script, str(number), frees_all=False, pass_fds=(number,)) == "over\n"


def test_the_interpreter_waits_for_other_threads() -> None:
    """As it does for every thread that is no daemon: it ends when their calls have."""
    script = """
import os, threading
from support.net import open_udp
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
from support.net import open_udp
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
    assert run(script, frees_all=False) == "over\n"
