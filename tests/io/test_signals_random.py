"""Signals before a wait, in it, and between the last look and the sleep: none is handled late."""

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.net import LIMIT, SLACK, Call, send, wait_for
from support.signals import (
    SignalError,
    handled,
    interrupt,
    main_waits,
    signal_main,
    when_main_waits,
)

from ipv4batch import Message, PacketConn, new_messages

LATE = 0.01
"""Seconds from a signal to its handler. A lost one would take as long as the wait."""

COUNT = 2_500
"""Signals of one way; there are four."""


class Pest:
    """Sends signals to the process at random times, each after the last one was handled."""

    def __init__(self, conn: PacketConn, to_process: bool) -> None:
        self.conn = conn
        self.addr = conn.local_addr
        self.to_process = to_process
        self.handled = threading.Semaphore(0)
        self.over = False
        self.sent = 0.0
        self.delays: list[float] = []

    def handle(self, signum: int, frame: Any) -> None:
        """A datagram ends this read or the next; an exception could come up between the two."""
        self.delays.append(time.monotonic() - self.sent)
        self.conn.write_to(b"", self.addr)
        self.handled.release()

    def run(self) -> None:
        chance = random.Random(17)
        while not self.over and len(self.delays) < COUNT:
            end = time.perf_counter() + chance.random() * 1e-4
            while time.perf_counter() < end:
                time.sleep(0)
            self.sent = time.monotonic()
            if self.to_process:
                os.kill(os.getpid(), signal.SIGUSR1)
            else:
                signal_main()
            assert self.handled.acquire(timeout=LIMIT)


@pytest.mark.parametrize("to_process", [False, True], ids=["to the thread", "to the process"])
@pytest.mark.parametrize("room", [1, 1000])
def test_no_signal_is_handled_late(conn: PacketConn, room: int, to_process: bool) -> None:
    """In a process of three threads, of which the kernel may give a signal to any."""
    messages = new_messages(room, 64)
    idle = threading.Event()
    bystander = threading.Thread(target=idle.wait)
    pest = Pest(conn, to_process)
    bystander.start()
    with handled(signal.SIGUSR1, pest.handle):
        call = Call(pest.run)
        try:
            while len(pest.delays) < COUNT:
                conn.read_batch(messages)
        finally:
            pest.over = True
            call.result()
            idle.set()
            bystander.join()
    # A machine that is busy with something else may keep a thread waiting; no wait of ours does.
    assert max(pest.delays) < SLACK
    assert sum(delay > LATE for delay in pest.delays) <= COUNT // 1000


def test_a_signal_that_another_thread_takes_ends_the_wait(conn: PacketConn) -> None:
    """The main thread blocks it, so the kernel interrupts the other one."""
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        with handled(signal.SIGUSR1, interrupt):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            call = when_main_waits(lambda: os.kill(os.getpid(), signal.SIGUSR1))
            started = time.monotonic()
            with pytest.raises(SignalError):
                conn.read_batch([Message(bytearray(8))])
            assert time.monotonic() - started < LIMIT / 2
            call.result()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        over.set()
        other.join()


def test_an_alarm_during_the_preparation_of_a_large_batch(conn: PacketConn) -> None:
    messages = new_messages(100_000, 1)
    sent = 0.0

    def late(signum: int, frame: Any) -> None:
        nonlocal sent
        sent = time.monotonic() - sent
        raise SignalError

    with handled(signal.SIGALRM, late):
        for _ in range(10):
            with pytest.raises(SignalError):
                sent = time.monotonic() + 0.002
                signal.setitimer(signal.ITIMER_REAL, 0.002)
                conn.read_batch(messages)
            assert sent < LIMIT / 4


@pytest.fixture
def wakeup() -> Iterator[socket.socket]:
    """The reading end of a wake-up descriptor as event loops set one."""
    ours, pythons = socket.socketpair()
    with ours, pythons:
        for end in (ours, pythons):
            end.setblocking(False)
        before = signal.set_wakeup_fd(pythons.fileno())
        yield ours
        assert signal.set_wakeup_fd(before) == pythons.fileno()


def test_a_programs_own_wakeup_descriptor_gets_its_bytes(
    conn: PacketConn, wakeup: socket.socket
) -> None:
    with handled(signal.SIGUSR1, interrupt):
        call = when_main_waits(signal_main)
        with pytest.raises(SignalError):
            conn.read_batch([Message(bytearray(8))])
        call.result()
    assert wakeup.recv(8) == bytes([signal.SIGUSR1])
    # The wait was for something else: the byte is not lost with it.
    with handled(signal.SIGUSR1, lambda *_: None):
        call = when_main_waits(signal_main, lambda: send(conn, b"data"))
        assert conn.read_batch([Message(bytearray(8))]) == 1
        call.result()
    assert wakeup.recv(8) == bytes([signal.SIGUSR1])
    with pytest.raises(BlockingIOError):
        wakeup.recv(1)


def test_a_handler_that_sets_a_wakeup_descriptor_keeps_it(conn: PacketConn) -> None:
    ours, pythons = socket.socketpair()
    with ours, pythons:
        ours.settimeout(LIMIT)
        pythons.setblocking(False)
        replaced: list[int] = []

        def handler(signum: int, frame: Any) -> None:
            if not replaced:
                replaced.append(signal.set_wakeup_fd(pythons.fileno()))

        with handled(signal.SIGUSR1, handler):
            call = when_main_waits(
                signal_main,
                lambda: wait_for(lambda: bool(replaced), "the handler has run"),
                signal_main,
                lambda: ours.recv(1),
                lambda: send(conn, b"data"),
            )
            assert conn.read_batch([Message(bytearray(8))]) == 1
            call.result()
        assert signal.set_wakeup_fd(-1) == pythons.fileno()


def test_a_handler_that_reads_and_waits_itself(conn: PacketConn, reader: PacketConn) -> None:
    """A wait within a wait: each has its watch."""
    inner: list[int] = []

    def handler(signum: int, frame: Any) -> None:
        inner.append(reader.read_batch([Message(bytearray(8))]))

    with handled(signal.SIGUSR1, handler):
        call = when_main_waits(signal_main, lambda: send(reader, b"in"), lambda: send(conn, b"out"))
        assert conn.read_batch([Message(bytearray(8))]) == 1
        call.result()
    assert inner == [1]
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_in_the_child_of_another_thread_does_not_reach_the_parent(
    conn: PacketConn, wakeup: socket.socket
) -> None:
    """The fork comes while the main thread waits and has signals watched."""
    status = -1

    def fork() -> None:
        nonlocal status
        time.sleep(0.05)  # The first milliseconds of a wait are not watched.
        child = os.fork()
        if child == 0:
            # The forking thread is the main thread of the child.
            os.kill(os.getpid(), signal.SIGUSR1)
            conn.timeout = 0.05
            try:
                conn.read_batch([Message(bytearray(8))])
            except TimeoutError:
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        send(conn, b"data")

    with handled(signal.SIGUSR1, lambda *_: None):
        call = when_main_waits(fork)
        assert conn.read_batch([Message(bytearray(8))]) == 1
        call.result()
    assert status == 0
    with pytest.raises(BlockingIOError):
        wakeup.recv(1)


def test_a_handler_that_forks(conn: PacketConn) -> None:
    """In the midst of a wait: the child's own read goes on there, and the parent's here."""
    children: list[int] = []

    def handler(signum: int, frame: Any) -> None:
        if not children:
            children.append(os.fork())

    with handled(signal.SIGUSR1, handler):

        def steps() -> None:
            wait_for(main_waits, "the main thread waits")
            time.sleep(0.05)  # until its signals are watched
            signal_main()
            wait_for(lambda: bool(children), "the handler has forked")
            send(conn, b"one", b"two")

        call = Call(steps)
        assert conn.read_batch([Message(bytearray(8))]) == 1
        if children == [0]:
            os._exit(signal.set_wakeup_fd(-1) != -1)
        call.result()
    conn.timeout = LIMIT
    assert os.waitpid(children[0], 0)[1] == 0
    assert signal.set_wakeup_fd(-1) == -1
