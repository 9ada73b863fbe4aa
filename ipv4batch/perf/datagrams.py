"""What a datagram of a measurement holds, how it is written, and how it is checked.

A datagram is a header of `HEADER_SIZE` bytes in network order, and a payload that fills it up to
the size that was asked for::

    magic "i4bp" (4) | run (4) | sequence number (8) | CRC-32 (4) | payload

The CRC-32 covers the payload and then the 16 bytes before it, so that an altered number shows
too. The payload goes by the sequence number and differs between neighbours and between one use of
a buffer and the next, so that bytes left over from an earlier datagram do not pass for the right
ones.
"""

import random
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_HEADER = struct.Struct("!4sIQI")
_COVERED = struct.Struct("!4sIQ")
_MAGIC = b"i4bp"

HEADER_SIZE = _HEADER.size
"""Bytes of the header, and so the smallest datagram."""

MAX_SIZE = 65507
"""Bytes that fit one IPv4 UDP datagram: 65535 less the IP and UDP headers."""

# A prime, so that no common burst size maps a sequence number and the next user of its buffer to
# the same payload.
_PAYLOADS = 251

MISSING_LISTED = 10
"""How many missing sequence numbers a tally names."""


class Composer:
    """Writes the datagrams of one run."""

    def __init__(self, run: int, size: int) -> None:
        """`run` is a 32-bit number that tells runs apart, `size` the bytes of a datagram."""
        self._run = run
        length = size - HEADER_SIZE
        pool = random.Random(run).randbytes(length + _PAYLOADS - 1)
        payloads = [pool[start : start + length] for start in range(_PAYLOADS)]
        self._payloads = [(payload, zlib.crc32(payload)) for payload in payloads]

    def compose(self, sequence: int, into: memoryview) -> None:
        """Write the datagram of this number over the whole of `into`, which has the run's size."""
        payload, payload_crc = self._payloads[sequence % _PAYLOADS]
        crc = zlib.crc32(_COVERED.pack(_MAGIC, self._run, sequence), payload_crc)
        _HEADER.pack_into(into, 0, _MAGIC, self._run, sequence, crc)
        into[HEADER_SIZE:] = payload


@dataclass(frozen=True)
class Tally:
    """What became of the datagrams of a transfer, in datagrams."""

    intact: int
    """Arrived as they were sent, each counted once."""
    corrupt: int
    """Of this run, but of the wrong length or with the wrong checksum. The number of such a
    datagram cannot be trusted, so the one that was sent is missing as well."""
    duplicate: int
    """Arrived intact once more."""
    stray: int
    """Of another run, of another transfer of this run, or nothing of ours."""
    missing: int
    """Never arrived intact."""
    first_missing: tuple[int, ...]
    """The lowest sequence numbers that are missing, ten at most."""

    @classmethod
    def total(cls, tallies: Iterable["Tally"]) -> Self:
        """The sum over several transfers."""
        parts = list(tallies)
        return cls(
            intact=sum(part.intact for part in parts),
            corrupt=sum(part.corrupt for part in parts),
            duplicate=sum(part.duplicate for part in parts),
            stray=sum(part.stray for part in parts),
            missing=sum(part.missing for part in parts),
            first_missing=tuple(sorted(number for part in parts for number in part.first_missing))[
                :MISSING_LISTED
            ],
        )


class Checker:
    """Checks what arrives of one transfer: `count` datagrams, numbered from `first` on."""

    def __init__(self, run: int, size: int, first: int, count: int) -> None:
        self._run = run
        self._size = size
        self._first = first
        self._seen = bytearray(count)
        self._corrupt = 0
        self._duplicate = 0
        self._stray = 0

    def check(self, datagram: memoryview) -> None:
        """Count one received datagram, given as all of its bytes and no more."""
        if len(datagram) < HEADER_SIZE:
            self._stray += 1
            return
        magic, run, sequence, crc = _HEADER.unpack_from(datagram)
        if magic != _MAGIC or run != self._run:
            self._stray += 1
            return
        payload_crc = zlib.crc32(datagram[HEADER_SIZE:])
        if len(datagram) != self._size or crc != zlib.crc32(datagram[: _COVERED.size], payload_crc):
            self._corrupt += 1
            return
        index = sequence - self._first
        if not 0 <= index < len(self._seen):
            self._stray += 1
        elif self._seen[index]:
            self._duplicate += 1
        else:
            self._seen[index] = 1

    def tally(self) -> Tally:
        """What was counted so far; what has not come is missing."""
        missing = self._seen.count(0)
        listed: list[int] = []
        index = -1
        while len(listed) < min(missing, MISSING_LISTED):
            index = self._seen.index(0, index + 1)
            listed.append(self._first + index)
        return Tally(
            intact=len(self._seen) - missing,
            corrupt=self._corrupt,
            duplicate=self._duplicate,
            stray=self._stray,
            missing=missing,
            first_missing=tuple(listed),
        )
