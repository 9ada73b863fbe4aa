"""A run on this machine alone: the receiver in a process of its own, this process the sender."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .channel import Channel, PeerGoneError, PerfError

HOST = "127.0.0.1"

# Seconds that a new interpreter may take on a busy machine; one that fails is noticed at once.
_START_TIMEOUT = 30.0

# Seconds that the receiver gets to end by itself once the channel is closed; it ends at once,
# unless the machine is badly overloaded.
_END_TIMEOUT = 2.0


@contextmanager
def receiver_process(timeout: float) -> Iterator[Channel]:
    """The channel to a receiver in a new process, which ends with the context.

    The two are connected by a socket pair, and the receiver ends when its end reports that this
    one is closed: however this process dies, none stays behind. A PeerGoneError that leaves the
    context becomes a PerfError that says how the receiver ended.
    """
    ours, theirs = socket.socketpair()
    with Channel(ours, "the receiver", timeout) as channel:
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    # Like this process, the new one must not find another ipv4batch where it runs.
                    *(["-P"] if sys.flags.safe_path else []),
                    *("-m", "ipv4batch", "perf"),
                    *("--control-fd", str(theirs.fileno()), "--timeout", str(timeout)),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                # Ctrl-C is for this process alone, which then closes the channel.
                process_group=0,
            )
        try:
            channel.receive("started", timeout=_START_TIMEOUT)
            yield channel
        except PeerGoneError as gone:
            raise PerfError(f"{gone} ({_end(channel, process)})") from gone
        finally:
            if process.returncode is None:
                _end(channel, process)


def _end(channel: Channel, process: subprocess.Popen[str]) -> str:
    """Have the process ended; say how it ended and what it said last."""
    channel.close()
    try:
        _, said = process.communicate(timeout=_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    last = (said or "").strip().rpartition("\n")[2]
    if process.returncode < 0:
        return f"its process was ended by signal {-process.returncode}"
    return f"its process ended with code {process.returncode}: {last or 'no message'}"
