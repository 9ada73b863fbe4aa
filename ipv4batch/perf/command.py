"""What `python -m ipv4batch perf` does once its arguments are read."""

import errno
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from .channel import Channel, PerfError
from .loopback import HOST, receiver_process
from .progress import show_progress
from .receiver import make_data_socket, serve
from .report import as_json, as_text, make_report
from .sender import Sender, Settings
from .ways import Address

# With port 0 the kernel chooses the TCP port, whose number may be taken for UDP: then another is
# tried.
_PORT_TRIES = 16


def send_on_loopback(settings: Settings, timeout: float, json_output: bool) -> bool:
    """Measure on this machine and print the report; tell whether no content was corrupt.

    `timeout` is how many seconds the other side may be silent. Raises PerfError and OSError.
    """
    with receiver_process(timeout) as channel:
        return _send(channel, HOST, HOST, settings, json_output)


def send_to(receiver: Address, settings: Settings, timeout: float, json_output: bool) -> bool:
    """Measure with the receiver that listens there, else like `send_on_loopback`."""
    host, port = receiver
    name = f"{host}:{port}"
    try:
        sock = socket.create_connection(receiver, timeout)
    except OSError as error:
        raise PerfError(
            f"cannot reach {name}: {error.strerror or error}; "
            f"is `python -m ipv4batch perf --listen {name}` running there?"
        ) from error
    with Channel(sock, f"the receiver {name}", timeout) as channel:
        return _send(channel, host, name, settings, json_output)


def listen(address: Address, forever: bool, timeout: float, json_output: bool) -> None:
    """Receive for one sender, or for one after the other, and print what came of each run.

    Waits for a sender without a limit; from then on `timeout` seconds of silence end the run.
    Raises PerfError and OSError; with `forever` a run's error is printed, and the next sender is
    served.
    """
    with _listening(address) as (listener, data):
        host, port = listener.getsockname()
        if json_output:
            _print_json({"event": "listening", "host": host, "port": port})
        else:
            print(f"listening on {host}:{port} (control by TCP, datagrams by UDP)", flush=True)
        while True:
            sock, (peer_host, peer_port) = listener.accept()
            peer = f"{peer_host}:{peer_port}"
            try:
                with Channel(sock, f"the sender {peer}", timeout) as channel:
                    tally = serve(channel, data)
            except (PerfError, OSError) as error:
                if not forever:
                    raise
                print(f"ipv4batch perf: error: {error}", file=sys.stderr, flush=True)
                continue
            if json_output:
                _print_json({"event": "served", "sender": peer, **asdict(tally)})
            else:
                print(
                    f"served {peer}: {tally.intact:,} datagrams intact, {tally.missing:,} lost, "
                    f"{tally.corrupt:,} corrupt, {tally.duplicate:,} duplicate, "
                    f"{tally.stray:,} stray",
                    flush=True,
                )
            if not forever:
                return


def serve_descriptor(descriptor: int, timeout: float) -> None:
    """Be the receiver of `send_on_loopback`, whose control channel this descriptor is."""
    with Channel(socket.socket(fileno=descriptor), "the sender", timeout) as channel:
        channel.send("started")
        with make_data_socket(HOST, 0) as data:
            serve(channel, data)


def _send(channel: Channel, host: str, target: str, settings: Settings, json_output: bool) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sender = Sender(channel, sock, host, settings)
        with show_progress(sender.transfers * settings.count) as progress:
            rounds = sender.run(progress)
    report = make_report(target, settings, sender.setup, rounds)
    if json_output:
        _print_json(as_json(report))
    else:
        print(as_text(report))
    return not any(way.tally.corrupt for way in report.ways.values())


@contextmanager
def _listening(address: Address) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP listener and a UDP socket, on the same port number."""
    host, port = address
    for tries_left in reversed(range(_PORT_TRIES if port == 0 else 1)):
        with socket.create_server(address) as listener:
            try:
                data = make_data_socket(host, listener.getsockname()[1])
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not tries_left:
                    raise
                continue
            with data:
                yield listener, data
            return


def _print_json(value: dict[str, object]) -> None:
    print(json.dumps(value), flush=True)
