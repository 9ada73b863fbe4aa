"""Event loops whose datagram endpoints over IPv4 are ours, and all else their own."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import selector_events
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from .endpoint import is_ours, open_socket, start
from .transport import DatagramTransport

_T = TypeVar("_T")


class _MakesTransports:
    """For asyncio's own loops, which make a socket and then a transport by this method."""

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: tuple[str, int] | None = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.BaseTransport:
        if is_ours(sock):
            loop = cast(asyncio.AbstractEventLoop, self)
            return DatagramTransport(loop, sock, protocol, address, waiter, extra)
        base = cast(Any, super())
        made: asyncio.BaseTransport = base._make_datagram_transport(
            sock, protocol, address, waiter, extra
        )
        return made


class _CreatesEndpoints:
    """For the loops of others."""

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], Any],
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
        **others: Any,
    ) -> tuple[Any, Any]:
        loop = cast(asyncio.AbstractEventLoop, self)
        given = (local_addr, remote_addr, family, proto, flags, reuse_port, allow_broadcast, others)
        if sock is not None and is_ours(sock) and not any(given):
            sock.setblocking(False)
            return await start(loop, protocol_factory, sock, None, made=False)
        if (
            sock is None
            and not others
            and proto in (0, socket.IPPROTO_UDP)
            and await self._is_ipv4(local_addr, remote_addr, family, proto, flags)
        ):
            new, address = await open_socket(
                loop, local_addr, remote_addr, proto, flags, reuse_port, allow_broadcast
            )
            return await start(loop, protocol_factory, new, address, local_addr, remote_addr)
        base = cast(Any, super())
        found: tuple[Any, Any] = await base.create_datagram_endpoint(
            protocol_factory,
            local_addr,
            remote_addr,
            family=family,
            proto=proto,
            flags=flags,
            reuse_port=reuse_port,
            allow_broadcast=allow_broadcast,
            sock=sock,
            **others,
        )
        return found

    async def _is_ipv4(
        self, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> bool:
        """Whether an endpoint for these would be of IPv4: the first family that an address has."""
        if family:
            return family == socket.AF_INET
        addr = local_addr or remote_addr
        if not (isinstance(addr, tuple) and len(addr) == 2):
            return False
        loop = cast(asyncio.AbstractEventLoop, self)
        found = await loop.getaddrinfo(
            *addr, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
        )
        return bool(found) and found[0][0] == socket.AF_INET


def loop_factory(
    base: type[asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop,
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make what makes event loops, for asyncio.Runner(loop_factory=...), on top of another's class.

    The result is a subclass of `base` (asyncio.SelectorEventLoop, uvloop.Loop), with ipv4batch's
    transport in its endpoints for UDP over IPv4, and with all else as it is in `base`.
    """
    is_asyncios = issubclass(base, selector_events.BaseSelectorEventLoop)
    mixin = _MakesTransports if is_asyncios else _CreatesEndpoints
    return type("EventLoop", (mixin, base), {"__module__": __name__, "__doc__": base.__doc__})


class EventLoop(_MakesTransports, asyncio.SelectorEventLoop):
    """asyncio.SelectorEventLoop with ipv4batch's transport for UDP over IPv4."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an EventLoop."""
    return EventLoop()


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = EventLoop,
) -> _T:
    """Run a coroutine as asyncio.run does, on an EventLoop or on what `loop_factory` makes."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


if sys.version_info < (3, 14):

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """For asyncio.set_event_loop_policy: loops are EventLoops. Python 3.14 ends policies."""

        _loop_factory = EventLoop
