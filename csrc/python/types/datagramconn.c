/* datagramconn.c - the type DatagramConn: see datagramconn.h. */
#include "python/types/datagramconn.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/batch.h"
#include "python/io/conn.h"
#include "python/io/error_queue.h"
#include "python/io/read_fileno.h"
#include "python/io/tx_timestamps.h"
#include "python/io/waiting.h"
#include "python/io/write_all.h"
#include "python/io/write_paced.h"
#include "python/options/filter.h"
#include "python/options/found.h"
#include "python/options/icmp.h"
#include "python/options/multicast.h"
#include "python/options/offload.h"
#include "python/options/pacing.h"
#include "python/options/recv_errors.h"
#include "python/options/sockopt.h"
#include "python/options/tx_timestamps.h"
#include "python/types/conn.h"
#include "python/values/control.h"

PyDoc_STRVAR(set_control_message_doc,
             "set_control_message($self, /, flags, on=True)\n--\n\n"
             "Ask the kernel to deliver `flags` (ControlFlags) with every datagram, or with\n"
             "on=False to stop.\n\n"
             "Flags that are not named stay as they are. TTL is IP_RECVTTL, any of SRC, DST and\n"
             "INTERFACE is IP_PKTINFO, TOS is IP_RECVTOS (ip(7)); TIMESTAMP is SO_TIMESTAMPNS and\n"
             "DROPS SO_RXQ_OVFL (socket(7)); SEGMENT is UDP_GRO (udp(7)): it delivers\n"
             "coalesced datagrams whole, see gro and Message.segments. With SEGMENT off again the\n"
             "connection splits them. Message.oob holds what arrives; give each message room for it\n"
             "(new_control_message).\n\n"
             "Raises ValueError for flags that do not exist, NotImplementedError for those that\n"
             "the platform lacks, MemoryError and OSError.");

static PyObject *
dgram_set_control_message(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"flags", "on", NULL};
    static const ipv4b_signature signature = {"set_control_message", names, 1};
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    PyObject *values[2] = {NULL};
    unsigned int flags;
    int on = 1;
    int r;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        ipv4b_control_flags_parse(values[0], "flags", &flags) < 0 ||
        (values[1] != NULL && (on = PyObject_IsTrue(values[1])) < 0)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    r = ipv4b_change_control(self, flags, on != 0);
    Py_END_CRITICAL_SECTION();
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
dgram_get_control_flags(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(
        IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)self)->options.control_flags));
}

#define ARGUMENTS                                                                                  \
    "interface is an index, a name, an address of it, or None for the system's choice. "           \
    "Addresses\n"                                                                                  \
    "are str, ipaddress.IPv4Address or 4 packed bytes. Raises TypeError or ValueError that "       \
    "names\n"                                                                                      \
    "the argument, and OSError."

PyDoc_STRVAR(join_group_doc, "join_group($self, /, interface, group)\n--\n\n"
                             "Receive what is sent to `group` on `interface` by any source\n"
                             "(MCAST_JOIN_GROUP, RFC 3678).\n\n" ARGUMENTS);
PyDoc_STRVAR(leave_group_doc, "leave_group($self, /, interface, group)\n--\n\n"
                              "Leave a group that was joined (MCAST_LEAVE_GROUP).\n\n" ARGUMENTS);
PyDoc_STRVAR(join_source_doc,
             "join_source_specific_group($self, /, interface, group, source)\n--\n\n"
             "Receive what `source` alone sends to `group` (MCAST_JOIN_SOURCE_GROUP,\n"
             "RFC 4607); several sources may be joined.\n\n" ARGUMENTS);
PyDoc_STRVAR(leave_source_doc,
             "leave_source_specific_group($self, /, interface, group, source)\n--\n\n"
             "Leave one source of a group that was joined (MCAST_LEAVE_SOURCE_GROUP).\n\n" ARGUMENTS);
PyDoc_STRVAR(exclude_source_doc,
             "exclude_source_specific_group($self, /, interface, group, source)\n--\n\n"
             "In a group joined by join_group, no longer receive what `source` sends\n"
             "(MCAST_BLOCK_SOURCE).\n\n" ARGUMENTS);
PyDoc_STRVAR(include_source_doc,
             "include_source_specific_group($self, /, interface, group, source)\n--\n\n"
             "Receive again what exclude_source_specific_group has shut out\n"
             "(MCAST_UNBLOCK_SOURCE).\n\n" ARGUMENTS);

static PyObject *
dgram_get_last_count(PyObject *op, void *closure)
{
    const ipv4b_conn_object *self = (ipv4b_conn_object *)op;

    return PyLong_FromSize_t(
        IPV4B_LOAD_RELAXED(self->batches.last_count[closure == NULL ? IPV4B_READ : IPV4B_WRITE]));
}

static PyGetSetDef dgram_getset[] = {
    {"control_flags", dgram_get_control_flags, NULL,
     "The ControlFlags, as an int, that set_control_message has turned on, or the socket had on.",
     NULL},
    {"gso", ipv4b_gso_get, ipv4b_gso_set,
     "Whether writes use segmentation offload (UDP_SEGMENT, udp(7)); False at first.\n\n"
     "Messages of one path (destination and control data) and of one size go to the kernel as one\n"
     "datagram, which it cuts up; results are as if each had gone alone. write_all finds them\n"
     "wherever they stand in the list, write_batch where they stand in a row. What a path refuses\n"
     "goes without offload, for a minute: see gso_refusals. When the socket itself cannot do it,\n"
     "this turns False. Setting it raises OSError on a socket that is not UDP's, and forgets\n"
     "gso_error and gso_refusals.",
     NULL},
    {"gso_error", ipv4b_gso_error_get, NULL,
     "The OSError with which offload was refused last, or None.", NULL},
    {"gso_refusals", ipv4b_gso_refusals_get, NULL,
     "The paths that have refused offload in the last 60 seconds, a list of (addr, errno).\n\n"
     "addr is a (host, port) tuple, or None for the peer of a connected socket. The messages of\n"
     "such a path go one by one; then it is tried again. At most 1024 paths are remembered, and\n"
     "the oldest go. Errors: EMSGSIZE (EINVAL before Linux 6.14) for a route with a small MTU,\n"
     "EIO for a device without checksum offload.",
     NULL},
    {"busy_poll", ipv4b_conn_get_busy_poll, ipv4b_conn_set_busy_poll,
     "How many microseconds a read looks again before it sleeps, 0 to 1000000; 0 at first.\n\n"
     "Waking up takes longer than the way of a datagram on a fast link. A read that looks again,\n"
     "without the GIL, saves that, and uses a processor meanwhile. Signals, close() and deadlines\n"
     "end it within a millisecond; a read that may not wait does not do it. It is the package's\n"
     "own, and not SO_BUSY_POLL (socket(7)).",
     NULL},
    {"last_read", dgram_get_last_count, NULL,
     "How many messages the last read_batch received, also where an exception ended it.", NULL},
    {"last_written", dgram_get_last_count, NULL,
     "How many messages the last write_batch or write_all sent, also where an exception ended it,\n"
     "such as that of a signal handler.",
     (void *)1},
    {"gro", ipv4b_gro_get, ipv4b_gro_set,
     "Whether reads use receive offload (UDP_GRO, udp(7)). At first as the socket has it: False\n"
     "for a new one.\n\n"
     "The kernel then coalesces datagrams, and the connection splits them: each Message gets one,\n"
     "with its own n, addr and control data. Datagrams that do not fit into one call's messages\n"
     "wait for the next call: see pending. Turning it off leaves the option on in the socket,\n"
     "since coalesced datagrams may still wait there; the connection goes on to split them.\n"
     "Setting it raises OSError on a socket that is not UDP's.",
     NULL},
    {"pending", ipv4b_pending_get, NULL,
     "How many datagrams the connection has received that no call has returned yet: segments of\n"
     "coalesced datagrams (gro, or SEGMENT that is off again), and datagrams of calls that ended\n"
     "with MemoryError.\n\n"
     "A poll of fileno() does not see them, one of read_fileno() does; close() drops them.",
     NULL},
    {"recv_errors", ipv4b_recv_errors_get, ipv4b_recv_errors_set,
     "Whether errors of the network are kept for read_errors (IP_RECVERR, ip(7)). At first as the "
     "socket has it: False for a new one.\n\n"
     "While it is on, an error that came for one peer does not fail a write to another.",
     NULL},
    {"mtu_discover", ipv4b_sockopt_get, ipv4b_sockopt_set,
     "Path MTU discovery, an MTUDiscover as an int (IP_MTU_DISCOVER, ip(7)).",
     (void *)&ipv4b_opt_mtu_discover},
    {"max_pacing_rate", ipv4b_max_pacing_rate_get, ipv4b_max_pacing_rate_set,
     "The most bytes a second that the kernel lets leave, or None for no limit\n"
     "(SO_MAX_PACING_RATE, socket(7)). Only the qdisc fq keeps to it (tc-fq(8)).",
     NULL},
    {"tx_timestamps", ipv4b_tx_timestamps_get, ipv4b_tx_timestamps_set,
     "The kinds of times that are wanted of each message that is written, a TimestampKind as an\n"
     "int; 0 at first (SO_TIMESTAMPING, socket(7)).\n\n"
     "Each Message that a call sends gets a tx_id, and read_tx_timestamps gives the times.\n"
     "write_to, and what others send on the socket, is not stamped. Raises ValueError for kinds\n"
     "that do not exist, NotImplementedError that names what lacks them, the kernel (before Linux\n"
     "6.13) or, for HARDWARE, the device, and OSError.",
     NULL},
    {"mtu", ipv4b_sockopt_get, NULL,
     "The path MTU of a connected socket in bytes, as far as it is known (IP_MTU, ip(7)).\n\n"
     "Raises OSError ENOTCONN on a socket that is not connected.",
     (void *)&ipv4b_opt_mtu},
    {"multicast_ttl", ipv4b_sockopt_get, ipv4b_sockopt_set,
     "Time to live of multicast datagrams sent, 0 to 255 hops (IP_MULTICAST_TTL, ip(7)).",
     (void *)&ipv4b_opt_multicast_ttl},
    {"multicast_loopback", ipv4b_sockopt_get, ipv4b_sockopt_set,
     "Whether multicast datagrams sent come back to this host's members (IP_MULTICAST_LOOP, "
     "ip(7)).",
     (void *)&ipv4b_opt_multicast_loopback},
    {"multicast_all", ipv4b_sockopt_get, ipv4b_sockopt_set,
     "Whether a socket bound to 0.0.0.0 receives datagrams of groups that other sockets of the "
     "host\n"
     "have joined, true at first (IP_MULTICAST_ALL, ip(7); Linux).",
     (void *)&ipv4b_opt_multicast_all},
    {"multicast_interface", ipv4b_multicast_interface_get, ipv4b_multicast_interface_set,
     "Index of the interface that multicast leaves by, or None for the system's choice\n"
     "(IP_MULTICAST_IF, ip(7)). Set it from an index, a name, an address of the interface or None.",
     NULL},
    {"icmp_filter", ipv4b_icmp_filter_get, ipv4b_icmp_filter_set,
     "The ICMPFilter of a raw ICMP socket (ICMP_FILTER, raw(7)); a copy, to be set again when\n"
     "it was changed. Raises OSError on other sockets.",
     NULL},
    {0},
};

#define KEYWORD_METHOD(name, function, doc)                                                        \
    {name, IPV4B_METHOD(function), METH_FASTCALL | METH_KEYWORDS, doc}

static PyMethodDef dgram_methods[] = {
    KEYWORD_METHOD("read_batch", ipv4b_read_batch, ipv4b_read_batch_doc),
    KEYWORD_METHOD("write_batch", ipv4b_write_batch, ipv4b_write_batch_doc),
    KEYWORD_METHOD("write_all", ipv4b_write_all, ipv4b_write_all_doc),
    KEYWORD_METHOD("forward", ipv4b_forward, ipv4b_forward_doc),
    KEYWORD_METHOD("write_paced", ipv4b_write_paced, ipv4b_write_paced_doc),
    KEYWORD_METHOD("read_errors", ipv4b_read_errors, ipv4b_read_errors_doc),
    KEYWORD_METHOD("read_tx_timestamps", ipv4b_read_tx_timestamps, ipv4b_read_tx_timestamps_doc),
    KEYWORD_METHOD("set_control_message", dgram_set_control_message, set_control_message_doc),
    KEYWORD_METHOD("join_group", ipv4b_join_group, join_group_doc),
    KEYWORD_METHOD("leave_group", ipv4b_leave_group, leave_group_doc),
    KEYWORD_METHOD("join_source_specific_group", ipv4b_join_source_specific_group, join_source_doc),
    KEYWORD_METHOD("leave_source_specific_group", ipv4b_leave_source_specific_group,
                   leave_source_doc),
    KEYWORD_METHOD("exclude_source_specific_group", ipv4b_exclude_source_specific_group,
                   exclude_source_doc),
    KEYWORD_METHOD("include_source_specific_group", ipv4b_include_source_specific_group,
                   include_source_doc),
    {"read_fileno", ipv4b_read_fileno, METH_NOARGS, ipv4b_read_fileno_doc},
    {"_collect_errors", ipv4b_collect_errors, METH_NOARGS, ipv4b_collect_errors_doc},
    {"set_bpf", ipv4b_set_bpf, METH_O, ipv4b_set_bpf_doc},
    {0},
};

static int
dgram_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (ipv4b_conn_init(self, args, kwargs, 1U << SOCK_DGRAM | 1U << SOCK_RAW,
                        "an AF_INET socket of type SOCK_DGRAM or SOCK_RAW") < 0) {
        return -1;
    }
    return ipv4b_found_take_over(self, false);
}

PyDoc_STRVAR(dgram_doc, "DatagramConn(sock)\n--\n\n"
                        "What PacketConn and RawConn have in common.");

static PyType_Slot dgram_slots[] = {
    {Py_tp_doc, (void *)dgram_doc},
    IPV4B_SLOT(Py_tp_init, dgram_init),
    {Py_tp_getset, dgram_getset},
    {Py_tp_methods, dgram_methods},
    {0, NULL},
};

PyType_Spec ipv4b_dgram_spec = {
    .name = "ipv4batch._ipv4batch.DatagramConn",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = dgram_slots,
};
