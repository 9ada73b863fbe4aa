"""Arithmetic on counters of the kernel."""

__all__ = ["drops_between"]

_MODULUS = 1 << 32


def drops_between(earlier: int | None, later: int | None) -> int:
    """How many datagrams a socket dropped between two values of ControlMessage.drops.

    The kernel's counter is 32 bits wide and wraps (SO_RXQ_OVFL, socket(7)), so the result is right
    up to 2**32 - 1. None, which the kernel gives until the first drop, counts as 0.
    """
    return ((later or 0) - (earlier or 0)) % _MODULUS
