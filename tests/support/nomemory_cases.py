"""Every public call, with what it gives and what it changes."""

import ipv4batch
from support.nomemory import case

# Functions and enumerations

case("checksum", r"ipv4batch.checksum(b'\1\2\3', start=0)", "0xFBFD")
case("checksum: refused", "ipv4batch.checksum('text')", show="None", raises=TypeError)
case("new_control_message", "ipv4batch.new_control_message(4)", "bytearray(32)")
case("parse_header", "ipv4batch.parse_header(bytearray(PLAIN.marshal()))", "PLAIN")
case("parse_header: refused", "ipv4batch.parse_header(b'E')", show="None", raises=ValueError)
case("drops_between", "ipv4batch.drops_between(2**31, None)", "2**31")
case("capabilities", "ipv4batch.capabilities()", "ipv4batch.capabilities()")
case("new_messages: none", "ipv4batch.new_messages(0)", "[]")
case(
    "new_messages",
    "ipv4batch.new_messages(3, 1500, ControlFlags.DST)",
    "[(1500, 32)] * 3",
    "[(len(m.buffers[0]), len(m.oob)) for m in r]",
)
for enumeration, number in [
    ("ECN", 3),
    ("ControlFlags", 6),
    ("ErrorOrigin", 2),
    ("HeaderFlags", 3),
    ("ICMPType", 8),
    ("MTUDiscover", 2),
    ("TimestampKind", 3),
]:
    case(enumeration, f"ipv4batch.{enumeration}({number})", f"{number}")
case("ICMPType: text", "str(ipv4batch.ICMPType.ECHO_REPLY)", "'echo reply'")
case("QueuedError", "QueuedError(QUEUED)", "QUEUED")
case("TxTimestamp", "ipv4batch.TxTimestamp((1, 2, 10**18))", "(1, 2, 10**18)")


# Records and messages: every attribute is read and set, in each form that it takes


def attribute(name: str, make: str, value: str, needs: str | None = None, read: str = "") -> None:
    """Enter the reading and the setting of an attribute of what `make` makes."""
    attr = name.partition(".")[2]
    label = f": {value}"
    set_it = f"setattr(it, '{attr}', {value})"
    case(f"{name}{label}", f"it.{attr}", read or value, given=f"it = {make}; {set_it}", needs=needs)
    case(
        f"{name} ={label}",
        set_it,
        given=f"it = {make}",
        state=f"it.{attr}",
        after=read or value,
        needs=needs,
    )


for name, values in {
    "ControlMessage.ttl": "7",
    "ControlMessage.src": "'127.0.0.5' None",
    "ControlMessage.dst": "'127.0.0.6'",
    "ControlMessage.ifindex": "1000",
    "ControlMessage.tos": "43 None",
    "ControlMessage.timestamp_ns": "10**18 None",
    "ControlMessage.drops": "70000",
    "ControlMessage.segment_size": "1200",
    "ControlMessage.ecn": "1",
    "ControlMessage.dscp": "46",
    "Header.version": "4",
    "Header.len": "24",
    "Header.tos": "1",
    "Header.total_len": "48879",
    "Header.id": "51966",
    "Header.flags": "2",
    "Header.frag_off": "1500",
    "Header.ttl": "255",
    "Header.protocol": "1",
    "Header.checksum": "57005",
    "Header.src": "'172.16.254.254' None",
    "Header.dst": "'192.168.0.1'",
    "Header.options": r"b'\1\1\1\1' bytearray(8)",
    "Message.buffers": "() (b'1',bytearray(2)) (memoryview(bytearray(9))[3:],)",
    "Message.oob": "bytearray(9) None",
    "Message.addr": "('10.1.2.3',40000) None",
}.items():
    for value in values.split():
        attribute(name, f"{name.partition('.')[0]}()", value)
for name in ("ControlMessage.src", "Header.dst"):
    for form in ("IPv4Address('10.1.2.3')", r"b'\12\1\2\3'"):
        attribute(name, f"{name.partition('.')[0]}()", form, read="'10.1.2.3'")

RECORDS = {
    "ControlMessage": "ControlMessage(9, '10.0.0.1', '10.0.0.2', 300, 7, 10**18, 2**31, 1000)",
    "Header": "Header(4, 24, 7, 999, 888, 2, 777, 64, 17, 666, '10.0.0.1', '10.0.0.2', b'1234')",
    "ICMPFilter": "ICMPFilter(0xFFFFFF00)",
}
for kind, record in RECORDS.items():
    case(kind, record, record)
    for name, call in {
        "__eq__": f"it == {record}",
        "__ne__": f"it != {record}",
        "__repr__": "repr(it)",
        "__str__": "str(it)",
        "__getnewargs__": "it.__getnewargs__()",
        "marshal": "it.marshal()",
        "will_block": "it.will_block(8)",
        "blocked": "it.blocked",
    }.items():
        if name in vars(getattr(ipv4batch, kind)):
            case(f"{kind}.{name}", call, call, given=f"it = {record}", state="copy.copy(it)")
for kind, call, after in [
    ("ControlMessage", "parse(PARSED.marshal())", "PARSED"),
    ("ControlMessage", "parse(bytes(17))", ""),
    ("Header", "parse(PLAIN.marshal())", "PLAIN"),
    ("Header", "parse(b'E')", ""),
    ("ICMPFilter", "accept(8)", "ICMPFilter(0)"),
    ("ICMPFilter", "block(31)", "ICMPFilter(1 << 31)"),
    ("ICMPFilter", "block(32)", ""),
    ("ICMPFilter", "set_all(True)", "ICMPFilter(2**32 - 1)"),
]:
    case(
        f"{kind}.{call.partition('(')[0]}: {call}",
        f"it.{call}",
        given=f"it = {kind}()",
        show="None",
        state="copy.copy(it)",
        after=after or "before",
        raises=None if after else ValueError,
    )

# What a received message tells

for name, call, show in [
    *(
        (name, f"it.{name}", "r")
        for name in ("n", "nn", "flags", "errno", "late_ns", "data", "view")
    ),
    *((name, f"it.{name}", "r") for name in ("truncated", "control_truncated")),
    ("control_message", "it.control_message()", "(r.ttl, r.src, r.dst, r.ifindex, r.tos)"),
    ("control_message: into", "it.control_message(ControlMessage(drops=9))", "(r.src, r.drops)"),
    ("reply", "it.reply([b'1', b'2'])", "(r.buffers, r.oob)"),
    ("segments", "it.segments()", "r"),
    ("__repr__", "repr(it)", "r"),
]:
    case(
        f"Message.{name}",
        call,
        "(lambda r: " + show + ")(" + call + ")",
        show,
        given="it = ends.received(bytearray(500))",
    )
WORDS = "array.array('I', bytes(400))"
case("Message.view: of words", "it.view", "DATA", given=f"it = ends.received({WORDS})")
PAIR = "[bytearray(100), bytearray(400)]"
case("Message.data: of two", "it.data", "DATA", given=f"it = ends.received({PAIR})")
case(
    "Message",
    "Message(iter([b'1', bytearray(2)]), oob=b'', addr=(LOOPBACK, 9999))",
    "((b'1', bytearray(2)), b'', (LOOPBACK, 9999))",
    "(r.buffers, r.oob, r.addr)",
)


# Connections: conn is one on sock, to is another socket

for name, value in {
    "Conn.timeout": "1.5",
    "DatagramConn.busy_poll": "300",
    "Conn.tos": "8",
    "Conn.ttl": "33",
    "DatagramConn.gso": "True",
    "DatagramConn.gro": "True",
    "DatagramConn.recv_errors": "True",
    "DatagramConn.mtu_discover": "2",
    "DatagramConn.max_pacing_rate": "2**40",
    "DatagramConn.multicast_ttl": "7",
    "DatagramConn.multicast_loopback": "False",
    "DatagramConn.multicast_all": "False",
    "DatagramConn.multicast_interface": "socket.if_nametoindex('lo')",
}.items():
    needs = name[-3:] if name[-3:] in ("gso", "gro") else None
    attribute(name, "conn", value, needs)
attribute("DatagramConn.tx_timestamps", "conn", "3", "tx_timestamps")
attribute("Conn.timeout", "conn", "None")
attribute("DatagramConn.max_pacing_rate", "conn", "None")
attribute("DatagramConn.multicast_interface", "conn", "None")
LO = "socket.if_nametoindex('lo')"
attribute("DatagramConn.multicast_interface", "conn", "'lo'", read=LO)
attribute(
    "DatagramConn.icmp_filter",
    "RawConn(ends.raw(socket.IPPROTO_ICMP))",
    "ICMPFilter(2**32 - 1)",
    "raw_sockets",
)
CONNECT = "sock.connect(to.getsockname())"
case(
    "DatagramConn.read_fileno",
    "conn.read_fileno()",
    "True",
    "r == conn.read_fileno()",
)
for name, call, given in [
    ("Conn.local_addr", "conn.local_addr", ""),
    ("Conn.remote_addr", "conn.remote_addr", CONNECT),
    ("Conn.__repr__", "repr(conn)", CONNECT),
    ("Conn.fileno", "conn.fileno()", ""),
    ("Conn.__enter__", "conn.__enter__()", ""),
    ("DatagramConn.mtu", "conn.mtu", CONNECT),
    ("DatagramConn.control_flags", "conn.control_flags", "conn.set_control_message(255)"),
    ("DatagramConn.pending", "conn.pending", ""),
    ("DatagramConn.gso_error", "conn.gso_error", ""),
    ("DatagramConn.gso_refusals", "conn.gso_refusals", ""),
    ("DatagramConn.last_read", "conn.last_read", ""),
    ("DatagramConn.last_written", "conn.last_written", ""),
]:
    case(name, call, f"plain({call})", given=given)
for name in ("set_deadline", "set_read_deadline", "set_write_deadline"):
    case(f"Conn.{name}", f"conn.{name}(1e9)")
for name, call in (("close", "conn.close()"), ("__exit__", "conn.__exit__(None, None, None)")):
    case(f"Conn.{name}", call, state="(conn.fileno(), sock.fileno())", after="(-1, -1)")
for name in ("Conn", "PacketConn"):
    call = f"ipv4batch.{name}(to)"
    case(name, call, "(to.fileno(), 0)", "(r.fileno(), r.timeout)")
case("PacketConn: a descriptor", "PacketConn(to.fileno())", "to.fileno()", "r.fileno()")
case("PacketConn: refused", "PacketConn(object())", show="None", raises=TypeError)
case("RawConn", "RawConn(raw)", "0", "r.timeout", given="raw = ends.raw()", needs="raw_sockets")
case(
    "DatagramConn.gso_error: refused",
    "conn.gso_error.errno",
    "errno.EINVAL",
    # SO_NO_CHECK (socket(7)): what has no checksums cannot be segmented.
    given="sock.setsockopt(socket.SOL_SOCKET, 11, 1); conn.gso = True\n"
    "assert conn.write_batch([Message(b'x', addr=to.getsockname())] * 2) == 2",
    needs="gso",
)
case(
    "DatagramConn.set_control_message",
    "conn.set_control_message(flags=EVERYTHING, on=True)",
    state="conn.control_flags",
    after="int(EVERYTHING)",
)
case(
    "DatagramConn.set_control_message: no SEGMENT",
    "conn.set_control_message(SEGMENT, False)",
    given="SEGMENT = ipv4batch.ControlFlags.SEGMENT; conn.set_control_message(SEGMENT)",
    state="conn.control_flags",
    after="0",
    needs="gro",
)
for form in (
    "[[6, 0, 0, 0]]",
    "((6, 0, 0, 0),)",
    r"'1\n6 0 0 0\n'",
    "array.array('I', [6, 0])",
):
    case(
        f"DatagramConn.set_bpf: {form}",
        "conn.set_bpf(it)",
        given=f"it = {form}",
        state="passes(sock)",
        after="False",
    )
case(
    "DatagramConn.set_bpf: None",
    "conn.set_bpf(None)",
    given="conn.set_bpf([[6, 0, 0, 0]])",
    state="passes(sock)",
    after="True",
)
for name, earlier in {
    "join_group": "",
    "leave_group": "join_group",
    "join_source_specific_group": "",
    "leave_source_specific_group": "join_source_specific_group",
    "exclude_source_specific_group": "join_group",
    "include_source_specific_group": "join_group exclude_source_specific_group",
}.items():
    source = ", SOURCE" if "source" in name else ""
    calls = earlier.split()
    case(
        f"DatagramConn.{name}",
        f"conn.{name}('lo', GROUP{source})",
        given=f"done = joined(*{[*calls, name]}); join(conn, *{calls})",
        state="memberships()",
        after="done",
    )

# Input and output

SEND = "sock.sendto(DATA, sock.getsockname())"
FILL = "sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)"
case(
    "PacketConn.read_from",
    "conn.read_from(bytearray(500), flags=0)",
    "(300, 64, LOOPBACK, conn.local_addr)",
    "(r[0], r[1].ttl, r[1].src, r[2])",
    given=f"conn.set_control_message(EVERYTHING); {SEND}",
    state="unread(conn, sock)",
    after="0",
)
case(
    "PacketConn.write_to",
    "conn.write_to(DATA, to.getsockname(), ControlMessage(ttl=3), flags=0)",
    "len(DATA)",
    state="waiting(to)",
    after="DATA",
)
RAW_ENDS = (
    "raw = ends.raw(); it = RawConn(raw); host = raw.getsockname()[0]\n"
    "head = Header(ttl=9, protocol=PROTOCOL, id=1, src=host, dst=host)\n"
)
case(
    "RawConn.read_from",
    "it.read_from(bytearray(500))",
    "(head.ttl, DATA, head.src)",
    "(r[0].ttl, bytes(r[1]), r[2].src)",
    given=RAW_ENDS + "it.set_control_message(EVERYTHING); it.write_to(head, DATA)",
    state="unread(it, raw)",
    after="0",
    needs="raw_sockets",
)
case(
    "RawConn.write_to",
    "it.write_to(head, DATA, ControlMessage(tos=0))",
    "len(DATA)",
    given=RAW_ENDS,
    state="(waiting(raw) or bytes(20))[20:]",
    after="DATA",
    needs="raw_sockets",
)
# CPython never allocates small ints: a count over 256 is allocated.
for number in (3, 258):
    case(
        f"DatagramConn.read_batch: {number}",
        "conn.read_batch(msgs, flags=0)",
        f"{number}",
        given=f"{FILL}\nfor _ in range({number}): {SEND}\n"
        f"msgs = ipv4batch.new_messages({number}, 500)",
        state="(waiting(sock), msgs[-1].n)",
        after="(None, 300)",
    )
    for name in ("write_batch", "write_all"):
        case(
            f"DatagramConn.{name}: {number}",
            f"conn.{name}(msgs, flags=0)",
            f"{number}",
            given=f"msgs = [Message(DATA, addr=to.getsockname())] * {number}",
            state="waiting(to)",
            after="DATA",
        )
for name, call, needs in [
    ("read_batch", "conn.read_batch(into)", "gro"),
    ("write_batch", "conn.write_batch(msgs)", "gso"),
    ("write_all", "conn.write_all(msgs)", "gso"),
]:
    case(
        f"DatagramConn.{name}: {needs}",
        call,
        "3",
        given="into = ipv4batch.new_messages(5, 500)\n"
        "msgs = [Message(DATA, addr=to.getsockname())] * 3\n"
        f"conn.{needs} = True\nfor _ in range(3): {SEND}",
        state="(waiting(sock), waiting(to))",
        after="(None, None)" if needs == "gro" else "(DATA, DATA)",
        needs=needs,
    )
for number in (1, 300):
    case(
        f"DatagramConn.forward: {number}",
        "conn.forward(msgs, to.getsockname())",
        f"{number}",
        given=f"{FILL}\nfor _ in range({number}): {SEND}\n"
        f"msgs = ipv4batch.new_messages({number}, 500)\nassert conn.read_batch(msgs) == {number}",
        state="waiting(to)",
        after="DATA",
    )
for interval in ("0", "[0, 0, 0]"):
    # The list is not made in the call: CPython 3.11 loses a tuple when that fails (list_extend).
    case(
        f"DatagramConn.write_paced: {interval}",
        "conn.write_paced(msgs, interval)",
        "3",
        given=f"interval = {interval}\nmsgs = [Message(DATA, addr=to.getsockname())] * 3",
        state="waiting(to)",
        after="DATA",
    )
# Fewer than there could be: a count that is an int which nobody could make before.
case(
    "DatagramConn.read_batch: some",
    "conn.read_batch(msgs)",
    "300",
    given=f"{FILL}\nfor _ in range(300): {SEND}\nmsgs = ipv4batch.new_messages(600, 500)",
    state="(waiting(sock), msgs[299].n)",
    after="(None, 300)",
)
for name, call in {
    "write_batch": "write_batch(msgs)",
    "write_all": "write_all(msgs, errors='skip')",
}.items():
    case(
        f"DatagramConn.{name}: some",
        f"conn.{call}",
        "300",
        given="bad = Message(DATA, addr=EVERYBODY)\n"
        "msgs = [Message(DATA, addr=to.getsockname())] * 300 + [bad]",
        state="waiting(to)",
        after="DATA",
    )
case(
    "DatagramConn.read_errors",
    "conn.read_errors(max=300)",
    "([(LOOPBACK, nobody, DATA)], False)",
    "([(e.offender, e.addr, e.data) for e in r], has_errors(sock))",
    given="nobody = ends.nobody(); conn.recv_errors = True; conn.write_to(DATA, nobody)",
)

STAMPED = "conn.tx_timestamps = 2; msgs = [Message(DATA, addr=to.getsockname())]"
case(
    "DatagramConn.write_all: asks for departure times",
    "conn.write_all(msgs)",
    "1",
    given=STAMPED,
    state="waiting(to)",
    after="DATA",
    needs="tx_timestamps",
)
case(
    "DatagramConn.read_tx_timestamps",
    "conn.read_tx_timestamps(max=300)",
    "([(1, 2)], False)",
    "([(s.tx_id, s.kind) for s in r], has_errors(sock))",
    given=f"{STAMPED}; conn.write_all(msgs)",
    needs="tx_timestamps",
)
case(
    "DatagramConn._collect_errors",
    "conn._collect_errors()",
    "(1, 1)",
    given=f"{STAMPED}; conn.recv_errors = True; nobody = ends.nobody()\n"
    "conn.write_all(msgs); conn.write_to(DATA, nobody)",
    needs="tx_timestamps",
)
case(
    "Message.tx_id",
    "msgs[0].tx_id",
    "300",
    given="conn = PacketConn(ends.udp()); conn.tx_timestamps = 2; to = ends.udp()\n"
    "msgs = [Message(DATA, addr=to.getsockname())]\n"
    "for _ in range(300): conn.write_all(msgs)",
    needs="tx_timestamps",
)

# Calls that raise

GOOD_AND_BAD = "good, bad = Message(DATA, addr=to.getsockname()), Message(DATA, addr=EVERYBODY)"
NONE = "msgs = ipv4batch.new_messages(2)"
for name, call, given, error in [
    ("PacketConn.read_from: waits", "read_from(bytearray(1))", "conn.timeout = 1e-6", TimeoutError),
    ("PacketConn.read_from: closed", "read_from(bytearray(1))", "conn.close()", OSError),
    ("PacketConn.write_to: refused", "write_to(DATA, EVERYBODY)", "", PermissionError),
    ("DatagramConn.read_batch: waits", "read_batch(msgs)", "conn.timeout = 1e-6", TimeoutError),
    ("DatagramConn.read_batch: empty", "read_batch(msgs, flags=0)", "", BlockingIOError),
    ("DatagramConn.read_batch: no message", "read_batch([*msgs, None])", "", TypeError),
    ("DatagramConn.write_batch: closed", "write_batch(msgs)", "conn.close()", OSError),
    ("DatagramConn.write_batch: refused", "write_batch([bad])", GOOD_AND_BAD, PermissionError),
    ("DatagramConn.write_all: closed", "write_all(msgs)", "conn.close()", OSError),
    (
        *("DatagramConn.read_errors: waits", "read_errors(wait=True)"),
        *("conn.recv_errors = True; conn.timeout = 1e-6", TimeoutError),
    ),
]:
    setup = f"{NONE}\n{given}" if "msgs" in call else given
    # A message that is still held by the call could not be changed.
    free = "[setattr(m, 'oob', None) for m in msgs]" if "msgs" in call else "None"
    case(name, f"conn.{call}", given=setup, raises=error, show="None", state=free)
case(
    "DatagramConn.write_all: refused",
    "conn.write_all([bad, good])",
    "(0, 0)",
    "(r.index, r.written)",
    given=GOOD_AND_BAD,
    state="waiting(to)",
    raises=PermissionError,
)
case(
    "DatagramConn.write_all: skips",
    "conn.write_all([bad, good], errors='skip')",
    "1",
    given=GOOD_AND_BAD,
    state="waiting(to)",
    after="DATA",
)
