"""The ways in: run, EventLoop, new_event_loop, loop_factory, and the policy."""

import asyncio
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from support.aio import Recorder
from support.net import LOOPBACK

from ipv4batch import aio


async def kind_of_transport() -> type[Any]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Recorder, local_addr=(LOOPBACK, 0))
    transport.close()
    await protocol.lost
    return type(transport)


def uvloop() -> type[asyncio.AbstractEventLoop]:
    return pytest.importorskip("uvloop").Loop  # type: ignore[no-any-return]


def test_run() -> None:
    assert aio.run(kind_of_transport()) is aio.DatagramTransport
    factory = aio.loop_factory(uvloop())
    assert aio.run(kind_of_transport(), loop_factory=factory) is aio.DatagramTransport

    async def debugging() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert aio.run(debugging(), debug=True) is True
    assert aio.run(debugging(), debug=False) is False


def test_run_inside_of_run() -> None:
    async def main() -> None:
        again = kind_of_transport()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            aio.run(again)
        again.close()

    aio.run(main())


@pytest.mark.parametrize("make", [aio.EventLoop, aio.new_event_loop, aio.loop_factory()])
def test_loops(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=make) as runner:
        assert runner.run(kind_of_transport()) is aio.DatagramTransport
        assert isinstance(runner.get_loop(), asyncio.SelectorEventLoop)


def test_a_factory_makes_a_subclass() -> None:
    base = uvloop()
    factory = aio.loop_factory(base)
    assert isinstance(factory, type)
    assert issubclass(factory, base)
    assert factory is not base


def test_the_stock_loop_stays_as_it_is() -> None:
    assert asyncio.run(kind_of_transport()) is not aio.DatagramTransport


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has no policies to speak of")
def test_the_policy() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(aio.EventLoopPolicy())
        try:
            assert asyncio.run(kind_of_transport()) is aio.DatagramTransport
        finally:
            asyncio.set_event_loop_policy(None)
