"""Every script under examples/, run as a reader would run it."""

import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("[!_]*.py"))
LIMIT = 30.0
LACKS_A_PRIVILEGE = 77

EXPECTED = {
    "ecn.py": """\
receiver: NOT_ECT 0, ECT_1 0, ECT_0 24, CE 8
sender: NOT_ECT 0, ECT_1 0, ECT_0 24, CE 8
sender: 25% met congestion
""",
    "load_generator.py": """\
sent 1000, 5000 a second in bursts of 10
lost 0, repeated 0
late: median TIME ms, most TIME ms
""",
    "lookup.py": """\
1000 questions, 1000 answers, 985 of them known
host7.example is 192.0.2.7
""",
    "mdns.py": """\
responder: a question for printer.local to 224.0.0.251
host: printer.local is 192.0.2.2, says 192.0.2.2
""",
    "multicast.py": """\
host: 'to 239.1.2.3' on left for 239.1.2.3 from 192.0.2.2, ttl 1
host: 'to 239.4.5.6' on right for 239.4.5.6 from 198.51.100.2, ttl 1
station: 'hello' from 192.0.2.1, ttl 3
""",
    "multipath.py": """\
'0 by fibre' came on fibre to 192.0.2.2 after TIME ms
'1 by copper' came on copper to 198.51.100.2 after TIME ms
'2 by radio' came on radio to 203.0.113.2 after TIME ms
'3 by fibre' came on fibre to 192.0.2.2 after TIME ms
'4 by copper' came on copper to 198.51.100.2 after TIME ms
'5 by radio' came on radio to 203.0.113.2 after TIME ms
""",
    "ntp_client.py": """\
the clocks differ by TIME ms
round trip TIME ms
""",
    "one_way_delay.py": """\
100 datagrams of 100
one-way delay: median TIME ms, most TIME ms
jitter: median TIME ms, most TIME ms
""",
    "ospf.py": """\
router: sent 44 bytes
neighbour: ver=4 hdrlen=20 tos=0xc0 totallen=64 id=ID flags=0x0 fragoff=0x0 ttl=1 proto=89 \
cksum=ID src=192.0.2.1 dst=224.0.0.5
neighbour: came to 224.0.0.5 from 192.0.2.1
neighbour: OSPF version 2, type 1 from router 192.0.2.1 of area 0.0.0.0, every 10 s, dead after 40 s
""",
    "ping_sweep.py": """\
64 requests in one batch
64 of 64 hosts answer
round trip: median TIME ms, most TIME ms
""",
    "replay.py": """\
12 datagrams over 0.06 s
off the capture's times: median TIME ms, most TIME ms
""",
    "source_specific.py": """\
joined one source: 192.0.2.2
joined another: 192.0.2.2, 192.0.2.4
left the first: 192.0.2.4
left both: nobody
joined the group: 192.0.2.2, 192.0.2.3, 192.0.2.4
shut one out: 192.0.2.2, 192.0.2.4
let it in again: 192.0.2.2, 192.0.2.3, 192.0.2.4
""",
    "traceroute.py": """\
30 datagrams to 203.0.113.2
1: 192.0.2.2, time exceeded, code 0
2: 198.51.100.2, time exceeded, code 0
3: 203.0.113.2, destination unreachable, code 3
""",
    "traceroute_icmp.py": """\
1: 192.0.2.2, time exceeded, came back with ttl 64
2: 198.51.100.2, time exceeded, came back with ttl 63
3: 203.0.113.2, echo reply, came back with ttl 62
""",
    "unicast.py": """\
server: b'ping' with ttl=12 src=127.0.0.1 dst=127.0.0.2 ifindex=1
client: b'pong' with ttl=34 src=127.0.0.2 dst=127.0.0.1 ifindex=1
tcp: b'marked' sent with tos=0x28 ttl=56
""",
}

# Numbers of Linux: PR_CAPBSET_DROP of prctl(2), and those of capabilities(7).
WITHOUT = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(24, {capability}) < 0:
    sys.exit("this process may not drop privileges")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}


def run(*arguments: str, cwd: pathlib.Path) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "error",
        "PYTHONMALLOC": "debug",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # With it a script does not find the modules beside it.
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def repeatable(output: str) -> str:
    """What a script printed, without what the kernel chose, follows from that, or took time."""
    output = re.sub(r"\b(id|cksum)=0x[0-9a-f]+", r"\1=ID", output)
    return re.sub(r"\b[0-9]+\.[0-9]{3} ms", "TIME ms", output)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_prints_what_it_promises(script: str, tmp_path: pathlib.Path) -> None:
    interfaces = socket.if_nameindex()
    done = run(str(EXAMPLES / script), cwd=tmp_path)
    if done.returncode == LACKS_A_PRIVILEGE:
        assert done.stdout == ""
        required = os.environ.get("IPV4BATCH_REQUIRE_PRIVILEGED") == "1"
        if required and "needs Linux" not in done.stderr:
            pytest.fail(done.stderr)
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert repeatable(done.stdout) == EXPECTED[script]
    assert socket.if_nameindex() == interfaces
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_explains_itself(script: str) -> None:
    path = EXAMPLES / script
    source = path.read_text()
    assert source.startswith('"""')
    explanation = source.split('"""')[1]
    assert len(explanation.split()) > 30
    assert ("_namespaces" in source) == ("CAP_SYS_ADMIN" in explanation)
    assert script in EXPECTED


@pytest.mark.parametrize(
    ("script", "lacking"),
    [
        ("mdns.py", "CAP_SYS_ADMIN"),
        ("ospf.py", "CAP_NET_RAW"),
        ("one_way_delay.py", "CAP_SYS_ADMIN"),
        ("traceroute_icmp.py", "CAP_NET_RAW"),
        ("multicast.py", "CAP_NET_ADMIN"),
        ("multipath.py", "CAP_NET_ADMIN"),
        ("traceroute.py", "CAP_SYS_ADMIN"),
    ],
)
def test_an_example_names_the_privilege_that_it_lacks(
    script: str, lacking: str, tmp_path: pathlib.Path
) -> None:
    """Root without the capability; whoever else has none of them is not even asked."""
    if os.geteuid() == 0:
        prefix = ["-c", WITHOUT.format(capability=CAPABILITIES[lacking])]
    else:
        prefix = []
        lacking = "CAP_SYS_ADMIN"
    done = run(*prefix, str(EXAMPLES / script), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (LACKS_A_PRIVILEGE, "")
    assert re.fullmatch(rf"{script}: needs {lacking}, [^\n]*\n", done.stderr)


@pytest.mark.parametrize("script", ["ecn.py", "unicast.py"])
def test_an_example_on_loopback_needs_no_privilege(script: str, tmp_path: pathlib.Path) -> None:
    if os.geteuid() == 0:
        prefix = ["-c", WITHOUT.format(capability=CAPABILITIES["CAP_NET_RAW"])]
    else:
        prefix = []
    done = run(*prefix, str(EXAMPLES / script), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == EXPECTED[script]


def test_traceroute_needs_no_raw_socket(tmp_path: pathlib.Path) -> None:
    """Which is its point; without the rest of root's privileges it has no network to show."""
    if os.geteuid() != 0:
        pytest.skip("only root can do without one privilege and keep the others")
    prefix = ["-c", WITHOUT.format(capability=CAPABILITIES["CAP_NET_RAW"])]
    done = run(*prefix, str(EXAMPLES / "traceroute.py"), cwd=tmp_path)
    if done.returncode == LACKS_A_PRIVILEGE:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == EXPECTED["traceroute.py"]
