"""Batch datagram I/O on IPv4 sockets, with the path and the metadata of every single message.

`PacketConn` and `RawConn` take a socket and move lists of `Message` through recvmmsg and sendmmsg;
`Header` and `ControlMessage` turn IPv4 headers and control data into objects and back.
"""

from ._ipv4batch import (
    Conn,
    ControlMessage,
    Header,
    ICMPFilter,
    Message,
    PacketConn,
    QueuedError,
    RawConn,
    TxTimestamp,
    capabilities,
    checksum,
    new_control_message,
    new_messages,
    parse_header,
)
from ._version import __version__ as __version__
from .drops import drops_between
from .enums import (
    ECN,
    ControlFlags,
    ErrorOrigin,
    HeaderFlags,
    ICMPType,
    MTUDiscover,
    TimestampKind,
)

VERSION = 4
"""The IP version of every header."""

HEADER_LEN = 20
"""The length of an IPv4 header without options, in bytes (RFC 791)."""

__all__ = [
    "ECN",
    "HEADER_LEN",
    "VERSION",
    "Conn",
    "ControlFlags",
    "ControlMessage",
    "ErrorOrigin",
    "Header",
    "HeaderFlags",
    "ICMPFilter",
    "ICMPType",
    "MTUDiscover",
    "Message",
    "PacketConn",
    "QueuedError",
    "RawConn",
    "TimestampKind",
    "TxTimestamp",
    "capabilities",
    "checksum",
    "drops_between",
    "new_control_message",
    "new_messages",
    "parse_header",
]
