"""checksum: the Internet checksum of RFC 1071, against a plain model and scapy's."""

import array
import ctypes
import mmap
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.utils import checksum as scapys

from ipv4batch import checksum

RFC_1071 = bytes.fromhex("0001f203f4f5f6f7")
STARTS = st.integers(0, 2**32 - 1)


def model(data: bytes, start: int = 0) -> int:
    """One's complement sum of 16-bit words, as RFC 1071 describes it, and its complement."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded)) + start
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RFC_1071, 0xDDF2 ^ 0xFFFF),
        (b"", 0xFFFF),
        (bytes(20), 0xFFFF),
        (b"\xff\xff", 0),
        (b"\xff" * 65535, 0x00FF),
        (b"\x12", 0x1200 ^ 0xFFFF),
        (b"\x12\x34\x56", 0x6834 ^ 0xFFFF),
        (b"\xff\xff\x00\x01", 0xFFFE),
        (bytes.fromhex("4500003c1c4640004006b1e6ac100a63ac100a0c"), 0),
    ],
)
def test_golden_sums(data: bytes, expected: int) -> None:
    assert checksum(data) == expected


@pytest.mark.parametrize("size", range(70))
def test_every_length(size: int) -> None:
    data = bytes(255 - i * 7 % 251 for i in range(size))
    assert checksum(data) == model(data) == scapys(data)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_scapy_agrees(data: bytes) -> None:
    assert checksum(data) == scapys(data)


@settings(deadline=None)
@given(st.binary(max_size=200), STARTS)
@example(b"", 2**32 - 1)
@example(b"\xff" * 4, 2**32 - 1)
@example(b"\xff\xfe", 1)
def test_the_model_agrees(data: bytes, start: int) -> None:
    assert checksum(data, start) == checksum(data=data, start=start) == model(data, start)


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(0, 50))
def test_a_sum_goes_on_from_data_of_even_length(data: bytes, words: int) -> None:
    first, rest = data[: 2 * words], data[2 * words :]
    if len(first) % 2 == 0:
        assert checksum(rest, checksum(first) ^ 0xFFFF) == checksum(data)


@settings(deadline=None)
@given(st.binary(min_size=2, max_size=100).filter(lambda data: len(data) % 2 == 0))
def test_data_with_its_checksum_sums_to_zero(data: bytes) -> None:
    assert checksum(data + checksum(data).to_bytes(2, "big")) == 0


def test_many_carries() -> None:
    data = b"\xff\xfe" * (1 << 20)
    assert checksum(data) == model(data)


@pytest.mark.parametrize(
    "convert",
    [
        bytearray,
        memoryview,
        lambda b: memoryview(b"?" + b + b"?")[1:-1],
        lambda b: memoryview(b).cast("B", (2, 4)),
        lambda b: array.array("B", b),
        lambda b: array.array("Q", b),
        lambda b: (ctypes.c_char * len(b)).from_buffer_copy(b),
    ],
    ids=["bytearray", "memoryview", "odd start", "two dimensions", "array", "words", "ctypes"],
)
def test_any_buffer_will_do(convert: Callable[[bytes], Any]) -> None:
    assert checksum(convert(RFC_1071)) == 0x220D


def test_the_buffer_is_free_afterwards() -> None:
    data = bytearray(RFC_1071)
    checksum(data)
    data.append(0)
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        page[:8] = RFC_1071
        assert checksum(page) == 0x220D


def test_only_memory_in_one_piece_is_summed() -> None:
    with pytest.raises(BufferError):
        checksum(memoryview(RFC_1071)[::2])


@pytest.mark.parametrize("start", [-1, 2**32, 2**64, -(2**64)])
def test_a_start_out_of_range(start: int) -> None:
    with pytest.raises(ValueError, match=f"^start: {start} is out of range, 0 to 4294967295$"):
        checksum(b"", start)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), r"checksum\(\) missing argument 'data'"),
        ((b"", 0, 0), r"checksum\(\) takes at most 2 arguments, 3 given"),
        ((b"", None), "start: an int is required, not NoneType"),
        ((b"", 1.0), "start: an int is required, not float"),
        (("text",), "data: a bytes-like object is required"),
        ((None,), "data: a bytes-like object is required"),
        ((7,), "data: a bytes-like object is required"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}"):
        checksum(*arguments)
