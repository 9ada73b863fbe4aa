"""Every system call that can fail, with every errno: what docs/faults.rst says becomes of it."""

import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.fault_trials import (
    CALLS,
    COLUMNS,
    ERRNOS,
    LIMIT,
    MMSG,
    PAUSES,
    QUEUE,
    RECEIVE,
    SEND,
    TABLE,
    WAKE,
    WORDS,
    Place,
    Trial,
    expect,
    expect_failure,
    failure,
    of_raises,
    of_skips,
)
from support.faults import ERRORS, TOTAL, Outcome, build, run

from ipv4batch import ControlFlags, MTUDiscover


def transfers() -> Iterator[Trial]:
    """The calls that move datagrams, each errno, at the start and in the middle."""
    for op, column in COLUMNS.items():
        for name in ERRNOS:
            for offload in (False, True):
                for recv_errors in (False, True) if "write" in op else (False,):
                    for before in (0, 2):
                        place = Place(op, offload, recv_errors, before)
                        yield from WORDS[TABLE[name, column]](place, getattr(errno, name))


def storms() -> Iterator[Trial]:
    """EINTR without end, until a signal's handler raises."""
    for op in COLUMNS:
        for offload in (False, True):
            for before in (0, 2):
                place = Place(op, offload, False, before)
                first = [place.first] if place.first and not op.startswith("write_all") else []
                total = ERRORS if op == "read_errors" else TOTAL
                expected = expect(op, [*first, "alarm", total - place.first])
                trial = place.trial("without end", errno.EINTR, -1, expected)
                yield trial._replace(group=(op, "storm"), case={**trial.case, "alarm": 0.05})


def ignored() -> Iterator[Trial]:
    """What cannot be helped, and does not matter."""
    for name in ERRNOS:
        code = getattr(errno, name)
        ended = {"ended": errno.EBADF, "left": False}
        closes = {"op": "close", "faults": [("close", code, 0, 1)]}
        yield Trial(("close", "close"), name, closes, ended)
        reads = {"op": "read_batch", "offload": False, "recv_errors": False, "timeout": LIMIT}
        if MMSG:
            call, faults = "close", wait_faults("read_batch", "epoll", 0, 1)[:-1]
            faults += [("close", code, 0, 1)]
        else:
            call, faults = "fcntl", [(RECEIVE, errno.EAGAIN, 0, 1), ("fcntl", code, 0, 2)]
        expected = Place("read_batch", False, False, 0).whole()
        yield Trial(("read_batch", call), name, {**reads, "faults": faults}, expected)
    for times in (1, 100):
        faults = [("write", errno.EINTR, 0, times)]
        yield Trial(
            ("close", "write"), f"EINTR {times} times", {"op": "close", "faults": faults}, ended
        )


WAITS = ["poll", "epoll_create1", "epoll_ctl", "epoll_wait"] if MMSG else ["poll"]


def wait_faults(op: str, call: str, code: int, times: int) -> list[tuple[str, int, int, int]]:
    """One that makes the call wait, and one of the wait: each is followed by another attempt."""
    count = abs(times)
    if not call.startswith("epoll") and call != "pipe2":
        return [(CALLS[op], errno.EAGAIN, 0, count), (call, code, 0, times)]
    # epoll and the pipe for signals are for a wait after one that announced an error alone.
    announced = ("poll", 0, 0, 1)
    return [(CALLS[op], errno.EAGAIN, 0, count + 1), announced, (call, code, 0, times)]


def waits() -> Iterator[Trial]:
    """The calls that wait, of each operation and with each errno."""
    for op in COLUMNS:
        for call in [*WAITS, WAKE, "pipe2"]:
            for name in ERRNOS:
                code = getattr(errno, name)
                word = TABLE[name, "others" if call in (WAKE, "pipe2") else "waits"]
                for times in (1, 100 if word == "goes on" else -1):
                    for offload in (False, True):
                        case = {"op": op, "offload": offload, "recv_errors": False}
                        faults = wait_faults(op, call, code, times)
                        yield Trial(
                            (op, call),
                            f"{name} {times} times" + " offload" * offload,
                            {**case, "timeout": LIMIT, "faults": faults},
                            {
                                "goes on": Place(op, offload, False, 0).whole(),
                                "raises": expect_failure(op, 0, code),
                            }[word],
                        )


def pauses() -> Iterator[Trial]:
    """The pauses of write_all, which are waits too, and not shorter for signals."""
    for op in ("write_all", "write_all_skip"):
        for name in ERRNOS:
            code = getattr(errno, name)
            if name == "EINTR":
                times, seconds = 100, PAUSES
                expected = expect_failure(op, 0, errno.ENOBUFS)
                if op == "write_all_skip":
                    expected = expect(op, [0], range(TOTAL), errno.ENOBUFS)
            else:
                times, seconds = -1, 0.0
                own = [errno.ENOBUFS, *[errno.ECANCELED] * (TOTAL - 1)]
                expected = expect_failure(op, 0, code, errnos=own)
            yield Trial(
                (op, "pause"),
                name,
                {
                    "op": op,
                    "offload": False,
                    "recv_errors": False,
                    "timeout": LIMIT,
                    "faults": [(SEND, errno.ENOBUFS, 0, -1), ("poll", code, 0, times)],
                },
                expected,
                seconds,
            )


def reports() -> Iterator[Trial]:
    """With recv_errors: errors of the network that are in the queue, and a report that fails."""
    for op in ("write_batch", "write_to", "write_all", "write_all_skip"):
        for place in (Place(op, gso, True, before) for gso in (False, True) for before in (0, 2)):
            for times in (1, 100):
                trial = place.trial(
                    f"{times} times", errno.ECONNREFUSED, times, expect(op, [TOTAL])
                )
                yield trial._replace(group=(op, "report"))
        # It can be no message's own where what is too long is cut up; else it is taken for that.
        for before in (0, 2):
            place = Place(op, False, True, before)
            trial = place.trial("cut up", errno.EMSGSIZE, 1, expect(op, [TOTAL]))
            yield trial._replace(group=(op, "report"))
            for trial in (of_skips if op == "write_all_skip" else of_raises)(place, errno.EMSGSIZE):
                case = {**trial.case, "mtu_discover": MTUDiscover.DO}
                yield trial._replace(
                    group=(op, "report"), variant=f"{trial.variant} whole", case=case
                )
        for name in ERRNOS:
            case = {"op": op, "offload": False, "recv_errors": True, "timeout": LIMIT}
            faults = [("getsockopt", getattr(errno, name), 0, -1)]
            expected = expect(op, [TOTAL])
            yield Trial((op, "SO_ERROR"), name, {**case, "faults": faults}, expected)


OPTIONS = {
    **dict.fromkeys(["tos", "ttl", "multicast_ttl", "multicast_loopback"], "setsockopt"),
    "multicast_all": "setsockopt",
    **dict.fromkeys(["multicast_interface", "mtu_discover", "recv_errors"], "setsockopt"),
    **dict.fromkeys(["gro", "join_group", "set_bpf"], "setsockopt"),
    **dict.fromkeys(["gso", "look at tos", "look at multicast_interface"], "getsockopt"),
    "look at local_addr": "getsockname",
    "look at remote_addr": "getpeername",
}
NAMES = {"look at local_addr": "getsockname", "look at remote_addr": "getpeername"}


def option_failure(operation: str, code: int) -> dict[str, Any]:
    where = f": '{operation} udp4 127.0.0.1:PORT'" if operation else ""
    return {
        "type": type(OSError(code, "")).__name__,
        "errno": code,
        "text": f"[Errno {code}] {os.strerror(code)}{where}",
        "index": None,
        "written": None,
    }


def option_trial(
    option: str, call: str, name: str, before: int = 0, operation: str = "", **expected: Any
) -> Trial:
    assert TABLE[name, "others"] == "raises"
    code = getattr(errno, name)
    case = {"op": "option", "option": option, "faults": [(call, code, before, 1)]}
    expected = {"raised": option_failure(operation, code), **expected}
    return Trial(("option", option), f"{name} at {before}", case, expected)


def refusals() -> Iterator[Trial]:
    """What speaks against offload alone: the rest of the path goes without it, and with EOPNOTSUPP
    the rest of all.

    Two of them can also be the report of an earlier datagram, which does not come again, and is
    then what the next write raises.
    """
    for op in ("write_batch", "write_all", "write_all_skip"):
        for code in (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP):
            for before in (0, 2):
                place = Place(op, True, False, before)
                can_be_report = code in (errno.EMSGSIZE, errno.EOPNOTSUPP)
                expected = expect(op, [TOTAL])
                refused = {**expected, "gso": code != errno.EOPNOTSUPP}
                yield place.trial("refused", code, 1 + can_be_report, refused)
                if can_be_report:
                    yield place.trial("reported", code, 1, {**expected, "pending": code})


def full_queues() -> Iterator[Trial]:
    """A batch that takes more than one system call, of which the second fails."""
    for name in ERRNOS:
        code = getattr(errno, name)
        total = QUEUE + 16
        word = TABLE[name, "reads"]
        error = [failure("read_batch", code, 0)] if word == "raises" else []
        for offload in (False, True):
            case = {"op": "read_batch", "offload": offload, "recv_errors": False, "total": total}
            faults = [(RECEIVE, code, QUEUE, 1)]
            expected = {"steps": [QUEUE, *error, 16], "arrived": [[*range(total)]]}
            variant = f"{name} offload" if offload else name
            case |= {"timeout": LIMIT, "faults": faults}
            yield Trial(("read_batch", "full queue"), variant, case, expected)


def options() -> Iterator[Trial]:
    for name in ERRNOS:
        for option, call in OPTIONS.items():
            operation = NAMES.get(option, option.removeprefix("look at "))
            yield option_trial(option, call, name, operation=operation, changed=False)
        yield option_trial(
            *("set_control_message beside gro", "setsockopt", name, 0, "set_control_message"),
            changed=False,
            after=int(ControlFlags.SEGMENT | ControlFlags.TTL),
        )
        for before in range(3):
            yield option_trial("PacketConn", "getsockopt", name, before, changed=False)
            flags = [0, int(ControlFlags.TTL), int(ControlFlags.TTL | ControlFlags.SRC)][before]
            kernel = [int(before > i) for i in range(3)]
            yield option_trial(
                *("set_control_message", "setsockopt", name, before, "set_control_message"),
                between=[flags, *kernel],
                after=[int(ControlFlags.TTL | ControlFlags.SRC | ControlFlags.TOS), 1, 1, 1],
            )


TRIALS = [
    *(*transfers(), *full_queues(), *waits(), *pauses()),
    *(*refusals(), *reports(), *options(), *storms(), *ignored()),
]


@pytest.fixture(scope="module")
def library(
    require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        require("the library of faults needs a C compiler")
        raise AssertionError
    return build(compiler, tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def outcomes(library: pathlib.Path) -> dict[tuple[tuple[str, ...], str], Outcome]:
    """What became of every trial, by its group and variant."""
    found = run(library, [trial.case for trial in TRIALS])
    return {
        (trial.group, trial.variant): outcome for trial, outcome in zip(TRIALS, found, strict=True)
    }


@pytest.mark.parametrize("group", dict.fromkeys(t.group for t in TRIALS), ids="-".join)
def test_a_fault_has_its_outcome(group: tuple[str, ...], outcomes: Any) -> None:
    trials = [trial for trial in TRIALS if trial.group == group]
    found = {trial.variant: outcomes[group, trial.variant] for trial in trials}
    assert {
        trial.variant: {name: found[trial.variant][name] for name in trial.expected}
        for trial in trials
    } == {trial.variant: trial.expected for trial in trials}
    for trial in trials:
        outcome = found[trial.variant]
        assert trial.seconds == 0 or outcome["seconds"] >= trial.seconds
        if "pending" in outcome:
            # Nothing is kept back, and offload stays on, unless the trial is about that.
            others = {"gso": trial.case["offload"], "pending": 0, **trial.expected}
            assert {name: outcome[name] for name in ("gso", "pending")}.items() <= others.items()
        # Every fault came to pass.
        for call, _, _, times in trial.case["faults"]:
            hits = outcome["hits"][call]
            assert hits == times if times > 0 else hits > 0


def test_the_table_is_whole() -> None:
    assert {name for name, _ in TABLE} == {*ERRNOS}
    assert {column for _, column in TABLE} == {*COLUMNS.values(), "waits", "others"}
    assert len(TRIALS) == len({(trial.group, trial.variant) for trial in TRIALS})
