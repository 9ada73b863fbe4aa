"""The enumerations: Go's values, and those of the system's headers and of Python's socket."""

import os
import pickle
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from enum import Enum, IntEnum, IntFlag

import pytest
from support.net import leaks_allowed

import ipv4batch
from ipv4batch import ECN, ControlFlags, ErrorOrigin, HeaderFlags, ICMPType, MTUDiscover

ENUMS = (ECN, ControlFlags, ErrorOrigin, HeaderFlags, ICMPType, MTUDiscover)

HEADERS = ("netinet/in.h", "netinet/ip.h", "netinet/ip_icmp.h", "time.h", "linux/errqueue.h")

IN_HEADERS = {
    "IP_MF": HeaderFlags.MORE_FRAGMENTS << 13,
    "IP_DF": HeaderFlags.DONT_FRAGMENT << 13,
    "IPTOS_ECN_NOT_ECT": ECN.NOT_ECT,
    "IPTOS_ECN_ECT1": ECN.ECT_1,
    "IPTOS_ECN_ECT0": ECN.ECT_0,
    "IPTOS_ECN_CE": ECN.CE,
    "IP_PMTUDISC_DONT": MTUDiscover.DONT,
    "IP_PMTUDISC_WANT": MTUDiscover.WANT,
    "IP_PMTUDISC_DO": MTUDiscover.DO,
    "IP_PMTUDISC_PROBE": MTUDiscover.PROBE,
    "IP_PMTUDISC_INTERFACE": MTUDiscover.INTERFACE,
    "IP_PMTUDISC_OMIT": MTUDiscover.OMIT,
    "SO_EE_ORIGIN_NONE": ErrorOrigin.NONE,
    "SO_EE_ORIGIN_LOCAL": ErrorOrigin.LOCAL,
    "SO_EE_ORIGIN_ICMP": ErrorOrigin.ICMP,
    "SO_EE_ORIGIN_ICMP6": ErrorOrigin.ICMP6,
    "SO_EE_ORIGIN_TXSTATUS": ErrorOrigin.TIMESTAMPING,
    "SO_EE_ORIGIN_ZEROCOPY": ErrorOrigin.ZEROCOPY,
    "SO_EE_ORIGIN_TXTIME": ErrorOrigin.TXTIME,
    "ICMP_ECHOREPLY": ICMPType.ECHO_REPLY,
    "ICMP_DEST_UNREACH": ICMPType.DESTINATION_UNREACHABLE,
    "ICMP_REDIRECT": ICMPType.REDIRECT,
    "ICMP_ECHO": ICMPType.ECHO,
    "ICMP_TIME_EXCEEDED": ICMPType.TIME_EXCEEDED,
    "ICMP_PARAMETERPROB": ICMPType.PARAMETER_PROBLEM,
    "ICMP_TIMESTAMP": ICMPType.TIMESTAMP,
    "ICMP_TIMESTAMPREPLY": ICMPType.TIMESTAMP_REPLY,
}


def members(enum: type[Enum]) -> dict[str, int]:
    return {member.name: member.value for member in enum}


def test_gos_flags() -> None:
    assert members(HeaderFlags) == {"MORE_FRAGMENTS": 1, "DONT_FRAGMENT": 2}
    assert list(members(ControlFlags).items())[:4] == [
        ("TTL", 1),
        ("SRC", 2),
        ("DST", 4),
        ("INTERFACE", 8),
    ]


def test_our_flags_go_on_from_16() -> None:
    assert list(members(ControlFlags).items())[4:] == [
        ("TOS", 16),
        ("TIMESTAMP", 32),
        ("DROPS", 64),
        ("SEGMENT", 128),
    ]
    assert ControlFlags.TTL | ControlFlags.SEGMENT == 129


def test_gos_icmp_types() -> None:
    assert members(ICMPType) == {
        "ECHO_REPLY": 0,
        "DESTINATION_UNREACHABLE": 3,
        "REDIRECT": 5,
        "ECHO": 8,
        "ROUTER_ADVERTISEMENT": 9,
        "ROUTER_SOLICITATION": 10,
        "TIME_EXCEEDED": 11,
        "PARAMETER_PROBLEM": 12,
        "TIMESTAMP": 13,
        "TIMESTAMP_REPLY": 14,
        "PHOTURIS": 40,
        "EXTENDED_ECHO_REQUEST": 42,
        "EXTENDED_ECHO_REPLY": 43,
    }


@pytest.mark.parametrize("kind", ICMPType)
def test_icmp_types_have_gos_text_and_protocol(kind: ICMPType) -> None:
    assert str(kind) == f"{kind}" == kind.name.lower().replace("_", " ")
    assert kind.protocol == socket.IPPROTO_ICMP


def test_some_of_gos_texts() -> None:
    assert str(ICMPType.ECHO_REPLY) == "echo reply"
    assert str(ICMPType.DESTINATION_UNREACHABLE) == "destination unreachable"
    assert str(ICMPType.TIME_EXCEEDED) == "time exceeded"


@pytest.fixture(scope="module")
def macros(require: Callable[[str], None]) -> dict[str, int]:
    """The numbers that the C headers define, by the names that they have there."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        require("the headers are read by a C compiler")
    preprocessed = subprocess.run(
        [*compiler, "-E", "-dM", "-"],
        input="".join(f"#include <{header}>\n" for header in HEADERS),
        capture_output=True,
        text=True,
        check=True,
        env=leaks_allowed(),
    ).stdout
    numbers = re.findall(r"^#define (\w+) (0x[0-9a-fA-F]+|\d+)$", preprocessed, re.MULTILINE)
    return {name: int(value, 16 if value.startswith("0x") else 10) for name, value in numbers}


def test_the_systems_headers_agree(macros: dict[str, int]) -> None:
    assert {name: macros[name] for name in IN_HEADERS} == IN_HEADERS


def test_pythons_socket_agrees_where_it_has_a_name() -> None:
    shared = {name: value for name, value in vars(socket).items() if name in IN_HEADERS}
    assert shared == {name: IN_HEADERS[name] for name in shared}


def test_the_kernel_knows_each_way_of_mtu_discovery(macros: dict[str, int]) -> None:
    option = macros["IP_MTU_DISCOVER"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for way in MTUDiscover:
            sock.setsockopt(socket.IPPROTO_IP, option, way)
            assert sock.getsockopt(socket.IPPROTO_IP, option) == way
        with pytest.raises(OSError, match="Invalid argument"):
            sock.setsockopt(socket.IPPROTO_IP, option, max(MTUDiscover) + 1)


@pytest.mark.parametrize("enum", ENUMS)
def test_members_are_ints_with_names(enum: type[Enum]) -> None:
    assert issubclass(enum, IntFlag if enum in (ControlFlags, HeaderFlags) else IntEnum)
    for member in enum:
        assert enum(int(member)) is member
        assert pickle.loads(pickle.dumps(member)) is member
    assert getattr(ipv4batch, enum.__name__) is enum
