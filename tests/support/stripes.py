"""Lists that alternate between paths, with a fault somewhere: the process that writes them.

As a script it reads cases from its input, one line of JSON each, and prints what became of each. It
runs under the library of faults.c, which makes the calls fail that a case names.
"""

import contextlib
import ctypes
import json
import sys
from typing import Any

from ipv4batch import ControlFlags, ControlMessage, Message, new_messages
from support.net import open_udp
from support.offload import enlarge

READERS = 3
TTLS = [None, 9, 10]
BAD_PORT, TOO_LONG = 0, 65508
LONGEST = 2500

Case = dict[str, Any]
"""messages: (reader, or READERS for nobody; number in TTLS; size), each; faults: [call, errno,
how many pass, how often it fails]; skip, recv_errors, timeout, batch (write_batch)."""


class Ends:
    """A writer, and readers that see by which TTL a datagram went."""

    def __init__(self) -> None:
        self.writer = open_udp()
        self.writer.gso = True
        self.usual = self.writer.ttl
        self.readers = [open_udp() for _ in range(READERS)]
        for reader in self.readers:
            enlarge(reader)
            reader.timeout = 0
            reader.set_control_message(ControlFlags.TTL)
        self.into = new_messages(64, 65535, ControlFlags.TTL)
        self.controls = [None if t is None else ControlMessage(ttl=t).marshal() for t in TTLS]

    def compose(self, number: int, to: int, ttl: int, size: int) -> Message:
        addr = ("127.0.0.1", BAD_PORT) if to == READERS else self.readers[to].local_addr
        data = number.to_bytes(4, "big")[: max(size, 0)] + bytes(max(size - 4, 0))
        return Message(data, self.controls[ttl], addr)

    def arrived(self) -> list[tuple[int, int, int, int]]:
        """Reader, number in TTLS, size and number of each datagram, in the order of arrival."""
        found = []
        for k, reader in enumerate(self.readers):
            while True:
                try:
                    n = reader.read_batch(self.into)
                except BlockingIOError:
                    break
                for m in self.into[:n]:
                    control = m.control_message()
                    assert control is not None
                    ttl = None if control.ttl == self.usual else control.ttl
                    number = int.from_bytes(m.data[:4], "big") if m.n >= 4 else -1
                    found.append((k, TTLS.index(ttl), m.n, number))
        return found


def run(ends: Ends, case: Case) -> dict[str, Any]:
    library = ctypes.CDLL(None)
    writer = ends.writer
    writer.gso = True
    writer.recv_errors = case["recv_errors"]
    writer.timeout = case["timeout"]
    messages = [ends.compose(k, *each) for k, each in enumerate(case["messages"])]
    for name, error, before, times in case["faults"]:
        library.faults_arm(name.encode(), error, before, times)
    raised = None
    count = 0
    try:
        if case["batch"]:
            count = writer.write_batch(messages)
        else:
            count = writer.write_all(messages, errors="skip" if case["skip"] else "raise")
    except OSError as error:
        raised = [error.errno, getattr(error, "index", None), getattr(error, "written", None)]
    finally:
        for name, *_ in case["faults"]:
            library.faults_disarm(name.encode())
    outcome = {
        "count": count,
        "raised": raised,
        "last": writer.last_written,
        "errnos": [message.errno for message in messages],
        "ns": [message.n for message in messages],
        "gso": writer.gso,
        "refusals": len(writer.gso_refusals),
    }
    writer.recv_errors = False
    # The next call raises the report of an earlier datagram.
    with contextlib.suppress(OSError):
        writer.write_all([ends.compose(0, READERS, 0, 0)], errors="skip")
    return {**outcome, "arrived": ends.arrived()}


def main() -> None:
    ends = Ends()
    for line in sys.stdin:
        print(json.dumps(run(ends, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
