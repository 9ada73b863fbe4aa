"""The transport with each of its allocations failed in turn: nothing that was read is lost."""

import asyncio
import errno
from typing import Any

import pytest
from support.aio import Recorder, loop_errors, run_on, until
from support.net import LOOPBACK, open_udp

from ipv4batch import Message, aio

_testcapi = pytest.importorskip("_testcapi", reason="this Python cannot fail its allocations")

MOST = 60
"""No call here makes so many allocations before it is through."""


class Late(Recorder):
    """Notes what comes, also when that needs memory which is not there at first."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            self.datagrams.append(data)
        except MemoryError:
            self.datagrams.append(data)


@pytest.mark.parametrize("offload", [False, True])
def test_what_was_read_is_delivered(offload: bool) -> None:
    async def main() -> None:
        sent = [b"%d" % number * 100 for number in range(5)]
        with open_udp() as writer, loop_errors(asyncio.get_running_loop()) as found:
            writer.gso = offload
            transport, protocol = await aio.create_datagram_endpoint(Late, local_addr=(LOOPBACK, 0))
            messages = [Message(d, addr=transport.get_extra_info("sockname")) for d in sent]
            for number in range(MOST):
                protocol.datagrams.clear()
                writer.write_all(messages)
                _testcapi.set_nomemory(number, number + 1)
                try:
                    transport._core.read_ready()
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
                await until(lambda: len(protocol.datagrams) >= 5)
                assert protocol.datagrams == sent
                assert not transport.is_closing()
            assert {type(context["exception"]) for context in found} == {MemoryError}
            transport.close()
            await protocol.lost

    run_on(None, main)


def test_what_could_not_be_sent_raises() -> None:
    async def main() -> None:
        with open_udp() as reader, loop_errors(asyncio.get_running_loop()) as found:
            transport, protocol = await aio.create_datagram_endpoint(Late, local_addr=(LOOPBACK, 0))
            for number in range(MOST):
                addresses = [(LOOPBACK, reader.local_addr[1]) for _ in range(4)]
                left = iter(addresses)
                failed = 0
                _testcapi.set_nomemory(number, number + 1)
                try:
                    while (address := next(left, None)) is not None:
                        try:
                            transport.sendto(b"datagram", address)
                        except MemoryError:
                            failed += 1
                finally:
                    _testcapi.remove_mem_hooks()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert failed <= 1
                for _ in range(4 - failed):
                    reader.read_from(bytearray(9))
                with pytest.raises(OSError, match="unavailable") as caught:
                    reader.read_from(bytearray(9), 0x40)
                assert caught.value.errno == errno.EAGAIN
                assert not transport.is_closing()
            assert protocol.errors == []
            assert {type(context["exception"]) for context in found} <= {MemoryError}
            transport.close()
            await protocol.lost

    run_on(None, main)
