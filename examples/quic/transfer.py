"""A transfer over QUIC by aioquic, on IPv4 loopback: the program as it is, and with batches.

Needs aioquic (`pip install aioquic`); takes no privileges. A server sends megabytes to a client,
both in this process. "unchanged" is aioquic's own protocol class, on asyncio's loop and on
ipv4batch's. "batches" is a BatchProtocol at both ends: it feeds each batch to the QUIC connection
as a whole, and has it transmit once, where aioquic's own class transmits after each datagram. Most
of the time is QUIC's own: packets, acknowledgements and TLS in Python; answering less often saves
some of it.

aioquic's `connect` opens an IPv6 socket. To have one of IPv4, this program makes the endpoint
itself.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipv4batch import Message, aio

try:
    from aioquic.asyncio import QuicConnectionProtocol
    from aioquic.asyncio.server import QuicServer
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as error:
    print(f"{error.name} is needed: pip install aioquic", file=sys.stderr)
    sys.exit(77)

HOST = "127.0.0.1"


class BatchedConnection(QuicConnectionProtocol):
    """One connection that gets whole batches, and transmits once for each."""

    def messages_received(self, msgs: list[Message]) -> None:
        self.datagrams_received([(m.data, m.addr) for m in msgs])

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        now = self._loop.time()
        for data, addr in datagrams:
            self._quic.receive_datagram(data, addr, now=now)
            self._process_events()
        self.transmit()


class BatchedServer(QuicServer):
    """The same for a server: a batch goes to its connections, each of which transmits once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(create_protocol=LateConnection, **options)

    def messages_received(self, msgs: list[Message]) -> None:
        for m in msgs:
            # aioquic finds the connection; that one transmits when the batch is over.
            self.datagram_received(m.data, m.addr)
        for protocol in set(self._protocols.values()):
            protocol.transmit_what_is_due()


class LateConnection(QuicConnectionProtocol):
    """A server's connection, which transmits at the end of a batch."""

    due = False

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        self._quic.receive_datagram(data, addr, now=self._loop.time())
        self._process_events()
        self.due = True

    def transmit_what_is_due(self) -> None:
        if self.due:
            self.due = False
            self.transmit()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for localhost, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(encoding))
    paths[1].write_bytes(
        key.private_bytes(
            encoding,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def transfer(size: int, batches: bool, certificate: tuple[Path, Path]) -> float:
    """Seconds that a client takes to get so many bytes."""
    loop = asyncio.get_running_loop()
    config = QuicConfiguration(is_client=False, max_datagram_size=1200)
    config.load_cert_chain(*certificate)

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def answer() -> None:
            await reader.read()
            writer.write(bytes(size))
            writer.write_eof()

        tasks.append(loop.create_task(answer()))

    tasks: list[asyncio.Task[None]] = []
    server_class = BatchedServer if batches else QuicServer
    listening, server = await loop.create_datagram_endpoint(
        lambda: server_class(configuration=config, stream_handler=serve), local_addr=(HOST, 0)
    )
    there = listening.get_extra_info("sockname")
    client_config = QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE)
    client_config.server_name = "localhost"
    client_class = BatchedConnection if batches else QuicConnectionProtocol
    transport, client = await loop.create_datagram_endpoint(
        lambda: client_class(QuicConnection(configuration=client_config)), local_addr=(HOST, 0)
    )
    client.connect(there)
    await client.wait_connected()
    start = time.perf_counter()
    reader, writer = await client.create_stream()
    writer.write(b"all of it, please")
    writer.write_eof()
    got = 0
    while chunk := await reader.read(1 << 20):
        got += len(chunk)
    seconds = time.perf_counter() - start
    if got != size:
        raise SystemExit(f"{got} bytes of {size} came")
    client.close()
    await client.wait_closed()
    server.close()
    transport.close()
    listening.close()
    await asyncio.sleep(0)
    return seconds


def loops() -> dict[str, tuple[Callable[[], asyncio.AbstractEventLoop], bool]]:
    """The ways to measure: a loop, and whether the protocols take batches."""
    found: dict[str, tuple[Callable[[], asyncio.AbstractEventLoop], bool]] = {
        "asyncio, unchanged": (asyncio.SelectorEventLoop, False),
        "ipv4batch, unchanged": (aio.EventLoop, False),
        "ipv4batch, batches": (aio.EventLoop, True),
    }
    try:
        import uvloop
    except ImportError:
        return found
    found["uvloop, unchanged"] = (uvloop.Loop, False)
    found["ipv4batch on uvloop, unchanged"] = (aio.loop_factory(uvloop.Loop), False)
    found["ipv4batch on uvloop, batches"] = (aio.loop_factory(uvloop.Loop), True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    size = int(arguments.megabytes * 1e6)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        for _ in range(arguments.rounds):
            for name, (factory, batches) in loops().items():
                with asyncio.Runner(loop_factory=factory) as runner:
                    seconds = runner.run(transfer(size, batches, certificate))
                times.setdefault(name, []).append(seconds)
    for name, found in times.items():
        print(f"{name:32} {size / 1e6 / min(found):6.2f} megabytes a second")


if __name__ == "__main__":
    main()
