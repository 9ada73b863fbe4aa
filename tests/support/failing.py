"""Messages that the kernel refuses, each for a reason of its own."""

import errno
from collections.abc import Callable

from ipv4batch import ControlMessage, Message

Endpoint = tuple[str, int]


FAILING: dict[int, Callable[[Endpoint], Message]] = {
    errno.EDESTADDRREQ: lambda addr: Message(b"to nobody"),
    errno.EINVAL: lambda addr: Message(b"to no port", None, ("127.0.0.1", 0)),
    errno.EMSGSIZE: lambda addr: Message(bytes(65508), None, addr),
    errno.EACCES: lambda addr: Message(b"to all", None, ("127.255.255.255", 9)),
    errno.ENODEV: lambda addr: Message(b"", ControlMessage(ifindex=2**31 - 1).marshal(), addr),
}
"""Messages that the kernel refuses, by the errno that it does it with."""
