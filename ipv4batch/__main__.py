"""The command `python -m ipv4batch`: perf, info and completion; docs/perf.rst tells them.

Exit codes: 0 all is well; 1 a run failed, or content arrived corrupt; 2 wrong arguments; 130
Ctrl-C. Errors are one line on standard error.
"""

import argparse
import dataclasses
import ipaddress
import json
import sys
from collections.abc import Sequence
from typing import NoReturn

from ipv4batch import __version__, _info
from ipv4batch.perf import command
from ipv4batch.perf.channel import PerfError
from ipv4batch.perf.datagrams import HEADER_SIZE, MAX_SIZE
from ipv4batch.perf.receiver import MAX_BATCH, MAX_COUNT
from ipv4batch.perf.sender import Settings
from ipv4batch.perf.ways import Address

_DEFAULTS = Settings(count=20_000, size=1200, batch=64, rounds=10)
_MAX_ROUNDS = 1000
_MAX_TIMEOUT = 3600.0


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return its exit code."""
    arguments = _parse(argv)
    if arguments.command is None:
        parser().print_help()
        return 0
    run = {"info": _show_info, "perf": _perf, "completion": _completion}[arguments.command]
    try:
        return run(arguments)
    except (PerfError, OSError) as error:
        print(f"ipv4batch {arguments.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"ipv4batch {arguments.command}: interrupted", file=sys.stderr)
        return 130


_BEGIN = """\
examples:
  python -m ipv4batch info                  what this machine can do, for a bug report too
  python -m ipv4batch perf                  what batches and offload gain here, ten seconds
  python -m ipv4batch perf --listen ADDR:0  receive from another machine's perf --to
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    # The completion and the help name the command as the package's script is named.
    top = _Parser(
        prog="ipv4batch",
        description="Batch datagram I/O on IPv4 sockets.",
        epilog=_BEGIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ipv4batch {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    info = commands.add_parser(
        "info", help="versions, what this kernel and process can do, and what is missing"
    )
    info.add_argument("--json", action="store_true", help="print JSON")

    completion = commands.add_parser("completion", help="print a script that completes in a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")

    perf = commands.add_parser(
        "perf",
        help="measure what batches gain",
        description="Move datagrams through socket calls and through batches, and compare the two: "
        "between two processes on loopback, or, with --to, to another machine's --listen.",
    )
    sides = perf.add_mutually_exclusive_group()
    sides.add_argument(
        "--listen",
        metavar="ADDR:PORT",
        type=lambda text: _address(text, lowest_port=0),
        help="be the receiver of another machine's --to; with port 0 the system chooses one",
    )
    sides.add_argument(
        "--to",
        metavar="ADDR:PORT",
        type=lambda text: _address(text, lowest_port=1),
        help="send to the --listen of another machine",
    )
    # The receiver's process of a loopback run is this command as well.
    sides.add_argument("--control-fd", type=int, help=argparse.SUPPRESS)
    perf.add_argument(
        "--forever", action="store_true", help="with --listen: serve one sender after the other"
    )
    _add_number(
        perf, "count", 1, MAX_COUNT, "datagrams a measurement; a round has two for each way"
    )
    _add_number(perf, "size", HEADER_SIZE, MAX_SIZE, "bytes of a datagram")
    _add_number(perf, "batch", 1, MAX_BATCH, "messages in a batch")
    _add_number(perf, "rounds", 1, _MAX_ROUNDS, "rounds, in which the ways take turns")
    perf.add_argument(
        "--timeout",
        metavar="S",
        type=_timeout,
        default=5.0,
        help="seconds that the other side may be silent (5)",
    )
    perf.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")

    perf.set_defaults(error=perf.error)
    return top


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = parser().parse_args(argv)
    if arguments.command == "perf":
        if arguments.forever and arguments.listen is None:
            arguments.error("--forever goes with --listen")
        if arguments.listen is not None and (given := _given_settings(arguments)):
            arguments.error(f"--{next(iter(given))} is for the sender to say, not with --listen")
    return arguments


def _add_number(
    parser: argparse.ArgumentParser, name: str, low: int, high: int, help_text: str
) -> None:
    """Add an option for one of the settings; without it, the setting keeps its default."""

    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() else -1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return value

    default = getattr(_DEFAULTS, name)
    parser.add_argument(f"--{name}", metavar="N", type=number, help=f"{help_text} ({default})")


def _given_settings(arguments: argparse.Namespace) -> dict[str, int]:
    """The settings that the command line names."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)}
    return {name: value for name, value in values.items() if value is not None}


def _address(text: str, lowest_port: int) -> Address:
    host, _, port_text = text.rpartition(":")
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no IPv4ADDRESS:PORT; host names have to be resolved first"
        ) from None
    port = int(port_text) if port_text.isascii() and port_text.isdigit() else -1
    if not lowest_port <= port <= 65535:
        raise argparse.ArgumentTypeError(
            f"the port of {text!r} is no number from {lowest_port} to 65535"
        )
    return host, port


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    # Written so that "nan" fails as well.
    if not 0 < seconds <= _MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds over 0 and up to {_MAX_TIMEOUT:g}"
        )
    return seconds


def _show_info(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps(_info.report()))
    else:
        print(*_info.lines(), sep="\n")
    return 0


def _completion(arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        print(
            "ipv4batch completion: error: shtab is needed: pip install 'ipv4batch[completion]'",
            file=sys.stderr,
        )
        return 1
    print(shtab.complete(parser(), arguments.shell))
    return 0


def _perf(arguments: argparse.Namespace) -> int:
    timeout = arguments.timeout
    if arguments.control_fd is not None:
        command.serve_descriptor(arguments.control_fd, timeout)
        return 0
    if arguments.listen is not None:
        command.listen(arguments.listen, arguments.forever, timeout, arguments.json)
        return 0
    settings = dataclasses.replace(_DEFAULTS, **_given_settings(arguments))
    if arguments.to is not None:
        intact = command.send_to(arguments.to, settings, timeout, arguments.json)
    else:
        intact = command.send_on_loopback(settings, timeout, arguments.json)
    if not intact:
        raise PerfError("datagrams arrived corrupt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
