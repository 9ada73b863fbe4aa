"""create_datagram_endpoint on any running event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from .transport import DatagramTransport, is_address

logger = logging.getLogger("asyncio")

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)
_Addr = tuple[str, int]

SO_REUSEPORT: int | None = getattr(socket, "SO_REUSEPORT", None)


def is_ours(sock: Any) -> bool:
    """Whether a socket is one of UDP over IPv4."""
    return (
        getattr(sock, "family", None) == socket.AF_INET
        and getattr(sock, "type", None) == socket.SOCK_DGRAM
        and getattr(sock, "proto", None) in (0, socket.IPPROTO_UDP)
    )


async def create_datagram_endpoint(
    protocol_factory: Callable[[], _ProtocolT],
    local_addr: _Addr | None = None,
    remote_addr: _Addr | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
    gso: bool = True,
    gro: bool = True,
    control: int = 0,
    recv_errors: bool = False,
    tx_timestamps: int = 0,
) -> tuple[DatagramTransport, _ProtocolT]:
    """Open a datagram endpoint over IPv4 on the running event loop, and return (transport,
    protocol).

    The arguments, and what is raised for them, are those of asyncio's
    loop.create_datagram_endpoint; a host name is resolved to an IPv4 address, and neither address
    means a socket of IPv4. `gso` and `gro` are PacketConn's, and stay off where the kernel has
    none. `control` (ControlFlags) is what each message of a BatchProtocol brings. With
    `recv_errors` the network's errors come to error_received though the endpoint has no
    remote_addr: OSErrors whose queued_error is the QueuedError. With `tx_timestamps`
    (TimestampKind) each message of send_messages that goes at once gets a tx_id, and
    tx_timestamps_received of a BatchProtocol the times at which they left.
    """
    loop = asyncio.get_running_loop()
    address: _Addr | None = None
    made = sock is None
    if sock is not None:
        _check_alone(
            sock,
            local_addr=local_addr,
            remote_addr=remote_addr,
            family=family,
            proto=proto,
            flags=flags,
            reuse_port=reuse_port,
            allow_broadcast=allow_broadcast,
        )
        sock.setblocking(False)
    else:
        if family not in (0, socket.AF_INET):
            raise ValueError(f"family: AF_INET is required, not {family!r}")
        sock, address = await open_socket(
            loop, local_addr, remote_addr, proto, flags, reuse_port, allow_broadcast
        )
    return await start(
        loop,
        protocol_factory,
        sock,
        address,
        local_addr,
        remote_addr,
        made,
        gso=gso,
        gro=gro,
        control=control,
        recv_errors=recv_errors,
        tx_timestamps=tx_timestamps,
    )


def _check_alone(sock: socket.socket, **others: object) -> None:
    """Refuse a socket of another kind, and what goes with a new socket only."""
    if not is_ours(sock):
        raise ValueError(f"A UDP Socket of AF_INET was expected, got {sock!r}")
    if any(others.values()):
        problems = ", ".join(f"{name}={value}" for name, value in others.items() if value)
        raise ValueError(
            "socket modifier keyword arguments can not be used when sock is specified. "
            f"({problems})"
        )


async def _resolve(
    loop: asyncio.AbstractEventLoop, addr: _Addr | None, proto: int, flags: int
) -> list[tuple[int, Any]]:
    """The (protocol, address) pairs that an address stands for."""
    if addr is None:
        return []
    if not (isinstance(addr, tuple) and len(addr) == 2):
        raise TypeError("2-tuple is expected")
    if is_address(addr[0]) and isinstance(addr[1], int):
        return [(proto or socket.IPPROTO_UDP, addr)]
    found = await loop.getaddrinfo(
        *addr, family=socket.AF_INET, type=socket.SOCK_DGRAM, proto=proto, flags=flags
    )
    if not found:
        raise OSError("getaddrinfo() returned empty list")
    return [(number, address) for _, _, number, _, address in found]


async def open_socket(
    loop: asyncio.AbstractEventLoop,
    local_addr: _Addr | None,
    remote_addr: _Addr | None,
    proto: int,
    flags: int,
    reuse_port: bool | None,
    allow_broadcast: bool | None,
) -> tuple[socket.socket, _Addr | None]:
    """A new socket, bound and connected, and the one address that it sends to, if there is one.

    As asyncio does it: the first pair of resolved addresses that works is taken.
    """
    local = dict(reversed(await _resolve(loop, local_addr, proto, flags)))
    remote = dict(reversed(await _resolve(loop, remote_addr, proto, flags)))
    protocols = list({**local, **remote} or {proto: None})
    errors = []
    for number in protocols:
        if (local_addr and number not in local) or (remote_addr and number not in remote):
            continue
        sock = None
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, number)
            if reuse_port:
                _set_reuse_port(sock)
            if allow_broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setblocking(False)
            if local_addr:
                sock.bind(local[number])
            if remote_addr and not allow_broadcast:
                await loop.sock_connect(sock, remote[number])
        except OSError as error:
            if sock is not None:
                sock.close()
            errors.append(error)
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        else:
            return sock, remote[number] if remote_addr else None
    if not errors:
        raise ValueError("can not get address information")
    raise errors[0]


def _set_reuse_port(sock: socket.socket) -> None:
    if SO_REUSEPORT is None:
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None


async def start(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], _ProtocolT],
    sock: socket.socket,
    address: _Addr | None,
    local_addr: _Addr | None = None,
    remote_addr: _Addr | None = None,
    made: bool = True,
    **options: Any,
) -> tuple[DatagramTransport, _ProtocolT]:
    """A protocol and its transport on a socket, once connection_made was called.

    A socket that was `made` for them is closed if they cannot be.
    """
    try:
        protocol = protocol_factory()
        waiter = loop.create_future()
        transport = DatagramTransport(loop, sock, protocol, address, waiter, **options)
    except BaseException:
        if made:
            sock.close()
        raise
    if loop.get_debug():
        log = logger.info if local_addr else logger.debug
        log(
            "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
            local_addr,
            remote_addr,
            transport,
            protocol,
        )
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol
