"""write_all over several paths: runs are formed by path, and each outcome is exact."""

import collections
import errno
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import stripes
from support.faults import build
from support.net import leaks_allowed, open_udp
from support.offload import ALL, compose, exchange, expect
from support.stripes import READERS, TOO_LONG, TTLS, Case

from ipv4batch import ControlMessage, Message, PacketConn, capabilities, new_messages

TESTS = pathlib.Path(__file__).parent.parent
CODES = [errno.EAGAIN, errno.EINTR, errno.EPERM, errno.ENETDOWN, errno.ECONNREFUSED]
REFUSALS = [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP]

needs_sendmmsg = pytest.mark.skipif(
    not capabilities()["sendmmsg"], reason="the faults are of sendmmsg"
)


@pytest.fixture(scope="module")
def writer_process(
    require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Case], Any]]:
    """What becomes of a case, in a process under the library of faults."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        require("the library of faults needs a C compiler")
        raise AssertionError
    library = build(compiler, tmp_path_factory.mktemp("stripes"))
    before = os.environ.get("LD_PRELOAD", "")
    env = {**leaks_allowed(), "LD_PRELOAD": f"{before} {library}".strip(), "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-P", stripes.__file__]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        cases: IO[str] = process.stdin  # type: ignore[assignment]
        outcomes: IO[str] = process.stdout  # type: ignore[assignment]

        def run(case: Case) -> Any:
            print(json.dumps(case), file=cases, flush=True)
            return json.loads(outcomes.readline())

        yield run
        cases.close()
        assert process.wait(10) == 0


sizes = st.sampled_from([4, 4, 4, 9, 1200, 1200, 0, 20_000, 40_000, TOO_LONG])
message = st.tuples(
    st.sampled_from([0, 0, 1, 1, 2, 2, READERS]), st.integers(0, len(TTLS) - 1), sizes
)
stripe = st.builds(
    lambda each, times: each * times, st.lists(message, min_size=1, max_size=6), st.integers(1, 40)
)
fault = st.tuples(
    st.just("sendmmsg"),
    st.sampled_from(CODES + REFUSALS),
    st.integers(0, 12),
    st.integers(1, 4),
)
case = st.fixed_dictionaries(
    {
        "messages": st.lists(stripe, min_size=1, max_size=4).map(
            lambda parts: [*itertools.chain(*parts)]
        ),
        "faults": st.lists(fault, max_size=1),
        "skip": st.booleans(),
        "batch": st.sampled_from([False, False, False, True]),
        "recv_errors": st.booleans(),
        "timeout": st.sampled_from([0, 5]),
    }
)


def check(case: Case, outcome: Any) -> None:
    """Whatever failed: what arrived is what has the errno 0, once, in its path's order."""
    messages, errnos = case["messages"], outcome["errnos"]
    went = [k for k, n in enumerate(outcome["ns"]) if n == messages[k][2] and errnos[k] == 0]
    if case["batch"]:
        went = list(range(outcome["count"]))  # a prefix
    by_path: dict[Any, list[Any]] = collections.defaultdict(list)
    for number in went:
        to, ttl, size = messages[number]
        by_path[to, ttl].append((size, number if size >= 4 else -1))
    arrived: dict[Any, list[Any]] = collections.defaultdict(list)
    for to, ttl, size, number in outcome["arrived"]:
        arrived[to, ttl].append((size, number))
    assert arrived == by_path
    if case["batch"]:
        assert outcome["raised"] is None or outcome["count"] == 0
        return
    # What has no bytes has n 0 either way; its errno tells.
    assert [k for k, code in enumerate(errnos) if code == 0] == went
    assert outcome["last"] == len(went)
    not_tried = [k for k, code in enumerate(errnos) if code == errno.ECANCELED]
    if outcome["raised"] is None:
        assert outcome["count"] == len(went)
        assert not_tried == []
        if not case["skip"]:
            assert len(went) == len(messages)
        return
    code, index, written = outcome["raised"]
    assert written == len(went)
    assert errnos[index] == code
    if not case["skip"]:
        assert len(went) + 1 + len(not_tried) == len(messages)


@needs_sendmmsg
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(case=case)
def test_whatever_fails_each_outcome_is_exact(
    writer_process: Callable[[Case], Any], case: Case
) -> None:
    check(case, writer_process(case))


@needs_sendmmsg
@pytest.mark.parametrize("code", [*CODES, *REFUSALS], ids=errno.errorcode.get)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_a_fault_at_each_run(
    writer_process: Callable[[Case], Any], code: int, skip: bool, times: int
) -> None:
    """Three paths take turns, with one message too long and one to nobody among them."""
    messages = [(k % 3, k % 2, 1200) for k in range(300)]
    messages[50] = (1, 0, TOO_LONG)
    messages[70] = (READERS, 0, 9)
    for before in range(12):
        found = {
            "messages": messages,
            "faults": [("sendmmsg", code, before, times)],
            "skip": skip,
            "batch": False,
            "recv_errors": False,
            "timeout": 5,
        }
        outcome = writer_process(found)
        check(found, outcome)
        # Only what the socket cannot do is for all paths.
        assert outcome["gso"] or code == errno.EOPNOTSUPP


@pytest.mark.parametrize("stripe", [1, 2, 5])
@pytest.mark.parametrize("gro", [False, True])
def test_stripes_arrive_as_they_were_sent(stripe: int, gro: bool) -> None:
    with open_udp() as writer, open_udp() as one, open_udp("127.0.0.2") as other:
        readers = [one, other]
        writer.gso = True
        for reader in readers:
            reader.gro = gro
            reader.set_control_message(ALL)
        oob = ControlMessage(src="127.0.0.3", tos=8).marshal()
        datas = [compose(k, 1000) for k in range(200)]
        messages = [
            Message(data, oob if k % 3 == 0 else None, readers[k // stripe % 2].local_addr)
            for k, data in enumerate(datas)
        ]
        assert writer.write_all(messages) == 200
        assert {(m.n, m.errno) for m in messages} == {(1000, 0)}
        for k, got in enumerate(exchange(writer, readers, [])):
            numbers = [i for i in range(200) if i // stripe % 2 == k]
            expected = {
                with_control: [
                    expect(
                        writer,
                        datas[i],
                        dst=("127.0.0.1", "127.0.0.2")[k],
                        **({"src": "127.0.0.3", "tos": 8} if with_control else {}),
                    )
                    for i in numbers
                    if (i % 3 == 0) is with_control
                ]
                for with_control in (False, True)
            }
            for with_control, path in expected.items():
                host = "127.0.0.3" if with_control else "127.0.0.1"
                assert [r for r in got if r.addr and r.addr[0] == host] == path
        assert (writer.gso, writer.gso_error, writer.gso_refusals) == (True, None, [])


def test_write_batch_keeps_the_order_of_the_list(reader: PacketConn, writer: PacketConn) -> None:
    """Over all paths: the first one that cannot go ends it."""
    writer.gso = True
    addr = reader.local_addr
    messages = [
        Message(b"%04d" % k, None, ("127.0.0.1", 0) if k in (7, 12) else addr) for k in range(20)
    ]
    assert writer.write_batch(messages) == 7
    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        writer.write_batch(messages[7:])
    assert writer.write_batch(messages[8:]) == 4
    into = new_messages(20, 4)
    count = reader.read_batch(into)
    assert [m.data for m in into[:count]] == [b"%04d" % k for k in (*range(7), *range(8, 12))]
