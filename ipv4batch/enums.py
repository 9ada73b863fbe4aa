"""The enumerations of ipv4batch; every function takes and gives their values as plain ints too."""

from enum import IntEnum, IntFlag

__all__ = [
    "ECN",
    "ControlFlags",
    "ErrorOrigin",
    "HeaderFlags",
    "ICMPType",
    "MTUDiscover",
    "TimestampKind",
]


class HeaderFlags(IntFlag):
    """The flag bits of an IPv4 header (RFC 791), as in Header.flags."""

    MORE_FRAGMENTS = 1
    DONT_FRAGMENT = 2


class ControlFlags(IntFlag):
    """What the kernel is asked to deliver with a datagram; the first four have Go's values."""

    TTL = 1
    SRC = 2
    DST = 4
    INTERFACE = 8
    TOS = 16
    TIMESTAMP = 32
    DROPS = 64
    SEGMENT = 128


class ECN(IntEnum):
    """The codepoints of explicit congestion notification (RFC 3168), as in ControlMessage.ecn."""

    NOT_ECT = 0
    ECT_1 = 1
    ECT_0 = 2
    CE = 3


class ICMPType(IntEnum):
    """The types of ICMP messages (IANA); str() is the name in lower case, as in Go."""

    ECHO_REPLY = 0
    DESTINATION_UNREACHABLE = 3
    REDIRECT = 5
    ECHO = 8
    ROUTER_ADVERTISEMENT = 9
    ROUTER_SOLICITATION = 10
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    TIMESTAMP = 13
    TIMESTAMP_REPLY = 14
    PHOTURIS = 40
    EXTENDED_ECHO_REQUEST = 42
    EXTENDED_ECHO_REPLY = 43

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")

    @property
    def protocol(self) -> int:
        """The number of the protocol that these types belong to: ICMP, 1."""
        return 1


class MTUDiscover(IntEnum):
    """How a socket finds the path MTU (ip(7), IP_MTU_DISCOVER), as in PacketConn.mtu_discover."""

    DONT = 0
    WANT = 1
    DO = 2
    PROBE = 3
    INTERFACE = 4
    OMIT = 5


class TimestampKind(IntFlag):
    """Where a message is stamped on its way out, in the order in which it passes there, as in
    PacketConn.tx_timestamps and TxTimestamp.kind (timestamping.rst of the kernel).
    """

    SCHED = 1
    """It enters the queueing discipline."""
    SOFTWARE = 2
    """The driver passes it to the device."""
    HARDWARE = 4
    """The device sends it. The time is that of the device's own clock."""


class ErrorOrigin(IntEnum):
    """Where an entry of the error queue comes from (linux/errqueue.h), as in QueuedError.origin."""

    NONE = 0
    LOCAL = 1
    ICMP = 2
    ICMP6 = 3
    TIMESTAMPING = 4
    ZEROCOPY = 5
    TXTIME = 6
