"""What `python -m ipv4batch info` finds out, and what it says of a capability that is missing."""

import platform
from typing import NamedTuple

from ipv4batch import __version__, capabilities


class Need(NamedTuple):
    """What a capability gives, and what it takes to have it."""

    gives: str
    kernel: tuple[int, int]
    otherwise: str
    """What is in the way where the kernel is new enough."""


NEEDS = {
    "recvmmsg": Need(
        "a batch of reads is one system call",
        (2, 6),
        "a build without IPV4BATCH_NO_MMSG, and a sandbox that allows recvmmsg",
    ),
    "sendmmsg": Need(
        "a batch of writes is one system call",
        (3, 0),
        "a build without IPV4BATCH_NO_MMSG, and a sandbox that allows sendmmsg",
    ),
    "gso": Need(
        "the kernel splits one large send into datagrams",
        (4, 18),
        "a sandbox that allows the option UDP_SEGMENT; any device will do, the kernel splits "
        "where the device cannot",
    ),
    "gro": Need(
        "the kernel joins datagrams of one sender",
        (5, 0),
        "a sandbox that allows the option UDP_GRO",
    ),
    "tx_timestamps": Need(
        "the time at which each message leaves",
        (6, 13),
        "a sandbox that allows the option SO_TIMESTAMPING",
    ),
    "txtime": Need(
        "the kernel has the option SO_TXTIME",
        (4, 19),
        "a sandbox that allows the option SO_TXTIME",
    ),
    "max_pacing_rate": Need(
        "the kernel keeps to the most bytes a second, with the qdisc fq",
        (3, 13),
        "a sandbox that allows the option SO_MAX_PACING_RATE",
    ),
    "raw_sockets": Need(
        "RawConn: whole IPv4 packets",
        (2, 0),
        "the privilege CAP_NET_RAW: run as root, or add it to the container",
    ),
}


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release, (0, 0) where it does not begin with two."""
    numbers = release.split("-")[0].split(".")[:2]
    if len(numbers) < 2 or not all(number.isdecimal() for number in numbers):
        return 0, 0
    return int(numbers[0]), int(numbers[1])


def needed(name: str, system: str, release: str) -> str:
    """What a system lacks that misses a capability."""
    need = NEEDS[name]
    if name == "raw_sockets":
        return need.otherwise
    if system != "Linux" or (0, 0) < kernel_version(release) < need.kernel:
        return "Linux {}.{} or later".format(*need.kernel)
    return need.otherwise


def facts() -> dict[str, str]:
    """The versions that a report of a bug needs."""
    libc = " ".join(part for part in platform.libc_ver() if part)
    return {
        "version": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": libc or "unknown",
    }


def report() -> dict[str, object]:
    """All of it, as JSON has it."""
    can = capabilities()
    system, release = platform.system(), platform.release()
    missing = {name: needed(name, system, release) for name, there in can.items() if not there}
    return {**facts(), "capabilities": can, "needs": missing}


def lines() -> list[str]:
    """All of it, for people."""
    can = capabilities()
    system, release = platform.system(), platform.release()
    told = [f"{name:<15} {value}" for name, value in facts().items()]
    for name, there in can.items():
        told.append(f"{name:<15} {'yes' if there else 'no'}")
        if not there:
            told.append(f"{'':<15} gives: {NEEDS[name].gives}")
            told.append(f"{'':<15} needs: {needed(name, system, release)}")
    return told
