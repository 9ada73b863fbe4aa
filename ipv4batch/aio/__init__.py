"""Datagrams in batches for programs with an event loop.

`run`, `EventLoop` and `loop_factory` make each UDP endpoint of an asyncio program faster;
`create_datagram_endpoint` makes one, on any loop; a `BatchProtocol` gets whole batches; and
`AsyncPacketConn` has the calls of PacketConn as coroutines, under asyncio and under trio.
"""

import sys

from .conn import AsyncPacketConn
from .endpoint import create_datagram_endpoint
from .loops import EventLoop, loop_factory, new_event_loop, run
from .protocol import BatchProtocol
from .transport import DatagramTransport

__all__ = [
    "AsyncPacketConn",
    "BatchProtocol",
    "DatagramTransport",
    "EventLoop",
    "create_datagram_endpoint",
    "loop_factory",
    "new_event_loop",
    "run",
]

if sys.version_info < (3, 14):
    from .loops import EventLoopPolicy

    __all__ += ["EventLoopPolicy"]
