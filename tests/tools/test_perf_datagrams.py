"""The content of perf's datagrams, and what judges it."""

import pytest
from support.perf import RUN, SIZE, check, datagrams

from ipv4batch.perf.datagrams import HEADER_SIZE, Checker, Composer, Tally

# The content of datagrams


def test_composed_datagrams_are_intact_in_any_order() -> None:
    made = datagrams(600, first=10**12)
    assert check(*reversed(made), count=600, first=10**12) == Tally(600, 0, 0, 0, 0, ())


def test_neighbours_have_different_payloads() -> None:
    payloads = [bytes(datagram[HEADER_SIZE:]) for datagram in datagrams(251)]
    assert len(set(payloads)) == 251


def test_datagrams_of_the_smallest_size_have_a_header_alone() -> None:
    datagram = bytearray(HEADER_SIZE)
    Composer(RUN, HEADER_SIZE).compose(3, memoryview(datagram))
    checker = Checker(RUN, HEADER_SIZE, 0, 4)
    checker.check(memoryview(datagram))
    assert checker.tally() == Tally(1, 0, 0, 0, 3, (0, 1, 2))


@pytest.mark.parametrize("offset", range(8, SIZE))
def test_an_altered_byte_after_the_run_number_makes_a_datagram_corrupt(offset: int) -> None:
    made = datagrams(3)
    made[1][offset] ^= 0x40
    assert check(*made, count=3) == Tally(2, 1, 0, 0, 1, (1,))


@pytest.mark.parametrize("offset", range(8))
def test_a_datagram_with_another_magic_or_run_is_stray(offset: int) -> None:
    made = datagrams(3)
    made[1][offset] ^= 0x40
    assert check(*made, count=3) == Tally(2, 0, 0, 1, 1, (1,))


@pytest.mark.parametrize("length", [HEADER_SIZE, SIZE - 1, SIZE + 1])
def test_a_wrong_length_makes_a_datagram_corrupt(length: int) -> None:
    made = datagrams(1)
    assert check(bytes(made[0]).ljust(length, b"\0")[:length], count=1) == Tally(
        0, 1, 0, 0, 1, (0,)
    )


def test_less_than_a_header_is_stray() -> None:
    assert check(b"", b"i4bp", count=1) == Tally(0, 0, 0, 2, 1, (0,))


def test_duplicates_are_counted_and_do_not_hide_what_is_missing() -> None:
    made = datagrams(4)
    assert check(made[0], made[2], made[2], made[2], count=4) == Tally(2, 0, 2, 0, 2, (1, 3))


def test_the_lowest_ten_missing_numbers_are_named() -> None:
    made = datagrams(100, first=1000)
    tally = check(*made[:50], count=100, first=1000)
    assert (tally.intact, tally.missing) == (50, 50)
    assert tally.first_missing == tuple(range(1050, 1060))


@pytest.mark.parametrize("first", [0, 20])
def test_numbers_of_another_transfer_are_stray(first: int) -> None:
    assert check(*datagrams(10, first=first), count=10, first=10).stray == 10


def test_datagrams_of_another_run_are_stray() -> None:
    assert check(*datagrams(10, run_id=RUN + 1), count=10).stray == 10


def test_a_total_adds_up_and_keeps_the_lowest_missing_numbers() -> None:
    one = Tally(5, 1, 2, 3, 8, (1, 3, 5, 7, 9, 11, 13, 15))
    other = Tally(7, 1, 1, 1, 4, (0, 2, 4, 6))
    assert Tally.total([one, other]) == Tally(12, 2, 3, 4, 12, (0, 1, 2, 3, 4, 5, 6, 7, 9, 11))
