"""The ways of perf to send and receive, and its receiver against a sender that breaks things."""

import socket
import threading
from collections.abc import Iterator

import pytest
from support.perf import LIMIT, RUN, SIZE, datagrams, wait_until

from ipv4batch.perf import receiver
from ipv4batch.perf.channel import Channel, PeerGoneError, PerfError
from ipv4batch.perf.datagrams import HEADER_SIZE, Composer, Tally
from ipv4batch.perf.ways import WAYS, make_slots, ways_here

# The ways


@pytest.mark.parametrize("writer", ways_here())
@pytest.mark.parametrize("reader", ways_here())
def test_every_way_delivers_to_every_other(writer: str, reader: str) -> None:
    """More than a batch, to a reader that finds less than it has room for."""
    with (
        receiver.make_data_socket("127.0.0.1", 0) as data,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        source.setblocking(False)
        slots = make_slots(20, SIZE)
        composer = Composer(RUN, SIZE)
        for index, slot in enumerate(slots):
            composer.compose(index, slot)
        receiving = WAYS[reader].reader(data, make_slots(30, SIZE + 1), 8)
        receiving.start()
        sending = WAYS[writer].writer(source, slots, data.getsockname(), 8)
        assert sending.write(1, 20) == 20
        assert receiving.read(2, 4) == 4
        assert receiving.read(4, 30) == 21
        assert receiving.read(21, 30) == 21
        arrived = [bytes(receiving.datagram(index)) for index in range(2, 21)]
        assert arrived == [bytes(slot) for slot in slots[1:]]
        with pytest.raises(BlockingIOError):
            receiving.late(bytearray(SIZE))
        receiving.stop()


@pytest.mark.parametrize(
    ("rcvbuf", "size", "batch", "burst"),
    [
        (8 << 20, 1200, 64, 256),
        (8 << 20, 1200, 100, 200),
        (8 << 20, 1200, 1000, 1000),
        (2 * 212992, 1200, 64, 64),
        (2 * 212992, 9000, 64, 19),
        (8 << 20, 65507, 1, 47),
        (2304, 65507, 64, 1),
    ],
)
def test_bursts_fit_the_receive_buffer(rcvbuf: int, size: int, batch: int, burst: int) -> None:
    assert receiver.burst_length(rcvbuf, size, batch) == burst


# The receiving side, against a sender that breaks things


class Script:
    """A sender in the test's hands, with a receiver in a thread of its own."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours, "the receiver", LIMIT)
        self._far = Channel(theirs, "the sender", LIMIT)
        self._data = receiver.make_data_socket("127.0.0.1", 0)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outcome: Tally | Exception | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self.outcome = receiver.serve(self._far, self._data)
        except (PerfError, OSError) as error:
            self.outcome = error
        finally:
            self._far.close()

    def hello(self, **changes: object) -> None:
        fields = {"protocol": receiver.PROTOCOL, "run": RUN, "size": SIZE, "count": 20, "batch": 4}
        self.channel.send("hello", **{**fields, **changes})

    def burst(self, *sent: bytes | bytearray, count: int) -> int:
        """Send a burst that announces `count` datagrams; return how many the receiver has read."""
        self.channel.send("burst", count=count)
        self.channel.receive("ready")
        for datagram in sent:
            self.sock.sendto(datagram, self._data.getsockname())
        self.channel.send("sent")
        return self.channel.receive("done").integer("received", 0, count)

    def close(self) -> None:
        self.channel.close()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        self.sock.close()
        self._data.close()


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("mode", receiver.MODES)
@pytest.mark.parametrize("way", ways_here())
def test_the_receiver_finds_what_is_lost_altered_and_doubled(
    script: Script, way: str, mode: str
) -> None:
    made = datagrams(20)
    made[4][50] ^= 1
    script.hello()
    script.channel.receive("welcome")
    script.channel.send("transfer", way=way, mode=mode, first=0)
    # Number 2 is lost, 4 altered, and 5 comes twice, so that 9 finds no room and comes late.
    assert script.burst(*made[:2], *made[3:6], *made[5:10], count=10) == 10
    assert script.burst(*made[10:19], b"stranger", count=10) == 10
    script.channel.send("finish")
    result = script.channel.receive("result")
    assert result.integer("datagrams", 0, 20) == 20
    assert result.integer("intact", 0, 20) == 17
    assert result.integer("corrupt", 0, 20) == 1
    assert result.integer("duplicate", 0, 20) == 1
    assert result.integer("stray", 0, 20) == 1
    assert result.integer("missing", 0, 20) == 3
    assert result.integers("first_missing", 0, 20) == (2, 4, 19)
    assert result.integer("cpu_ns", 1, 10**9) > 0
    script.channel.send("bye")


@pytest.mark.parametrize("mode", receiver.MODES)
def test_a_burst_of_which_nothing_arrives_ends(script: Script, mode: str) -> None:
    script.hello()
    script.channel.receive("welcome")
    script.channel.send("transfer", way="batch", mode=mode, first=0)
    assert script.burst(count=10) == 0
    script.channel.send("finish")
    assert script.channel.receive("result").integer("missing", 0, 20) == 20
    script.channel.send("bye")


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 65508), ("size", HEADER_SIZE - 1), ("count", 0), ("batch", "64"), ("run", None)],
)
def test_the_receiver_refuses_what_it_cannot_do(script: Script, field: str, value: object) -> None:
    script.hello(**{field: value})
    with pytest.raises(PerfError, match=f"the receiver reports: .*{field} = {value!r} in 'hello'"):
        script.channel.receive("welcome")


def test_another_protocol_is_refused(script: Script) -> None:
    script.hello(protocol=receiver.PROTOCOL + 1)
    with pytest.raises(PerfError, match="run the same version of ipv4batch on both sides"):
        script.channel.receive("welcome")


def test_an_unknown_way_is_refused(script: Script) -> None:
    script.hello()
    script.channel.receive("welcome")
    script.channel.send("transfer", way="pigeon", mode="turns", first=0)
    with pytest.raises(PerfError, match="unknown transfer: 'pigeon'"):
        script.channel.receive("result")


def test_a_sender_that_goes_ends_the_receiver(script: Script) -> None:
    script.hello()
    script.channel.receive("welcome")
    script.channel.close()
    wait_until(lambda: script.outcome is not None, "the receiver has ended")
    assert isinstance(script.outcome, PeerGoneError)
