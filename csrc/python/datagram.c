/* datagram.c - one datagram a call: see datagram.h for the locking rule. */
#include "datagram.h"

#include "addr.h"
#include "args.h"
#include "buffers.h"
#include "conn.h"
#include "control.h"
#include "header.h"
#include "hold.h"
#include "iphdr.h"
#include "locks.h"
#include "send.h"

enum { HEADER_MAX = IPV4B_HEADER_LEN + IPV4B_OPTIONS_MAX, DATAGRAM_MAX = 65535 };

/* Everything that the kernel needs for one datagram, on the stack of the call. */
typedef struct {
    int flags;
    ipv4b_slot slot;
    struct iovec iov[3];
    struct sockaddr_in name;
    ipv4b_ancillary path; /* of a write: what its control message holds */
    unsigned char control[IPV4B_ANCILLARY_MAX];
    unsigned char header[HEADER_MAX]; /* an IPv4 header, or the start of one */
    unsigned char spill[HEADER_MAX];  /* what goes past the caller's buffer for the header's sake */
    ipv4b_sender sender;
    ipv4b_held *room; /* where a datagram that cannot be given is held back */
} datagram;

static int
attempt_write(int fd, ipv4b_io *io)
{
    datagram *d = io->arg;

    return ipv4b_send(fd, &d->slot, 1, d->flags, &d->sender) == 0 ? -d->sender.error : 1;
}

/* Moves one datagram. Returns its length, or -1 with an exception. */
static Py_ssize_t
move(PyObject *self, datagram *d, ipv4b_direction direction)
{
    ipv4b_io io = {
        .direction = direction,
        .flags = d->flags,
        .limit = -1,
        .attempt = direction == IPV4B_READ ? ipv4b_io_recv : attempt_write,
        .slots = &d->slot,
        .n = 1,
        .arg = d,
    };

    if (ipv4b_conn_raise_late((ipv4b_conn_object *)self, direction) < 0 ||
        ipv4b_conn_run((ipv4b_conn_object *)self, &io) < 0) {
        return -1;
    }
    return (Py_ssize_t)d->slot.msg_len;
}

/* Receives into the first `count` iovecs. Returns the datagram's length, or -1 with an
 * exception. */
static Py_ssize_t
receive(PyObject *self, datagram *d, size_t count)
{
    struct msghdr *h = &d->slot.msg_hdr;
    size_t size = 0;

    for (size_t i = 0; i < count; i++) {
        size += d->iov[i].iov_len;
    }
    d->room =
        ipv4b_hold_reserve((ipv4b_conn_object *)self, size < DATAGRAM_MAX ? size : DATAGRAM_MAX);
    if (d->room == NULL) {
        return -1;
    }
    h->msg_name = &d->name;
    h->msg_namelen = sizeof d->name;
    h->msg_iov = d->iov;
    h->msg_iovlen = count;
    h->msg_control = d->control;
    h->msg_controllen = sizeof d->control;
    return move(self, d, IPV4B_READ);
}

/* Ends a read: what came is held back if the result could not be made of it. */
static void
settle(PyObject *self, datagram *d, bool lost)
{
    if (d->room != NULL) {
        ipv4b_hold_settle((ipv4b_conn_object *)self, d->room, lost ? &d->slot : NULL, d->flags);
    }
}

/* Sends the first `count` iovecs to d->name, or to the connected peer. Returns the length sent, or
 * -1. */
static Py_ssize_t
send_out(PyObject *self, datagram *d, size_t count, bool has_name, size_t control_len)
{
    struct msghdr *h = &d->slot.msg_hdr;

    h->msg_name = has_name ? &d->name : NULL;
    h->msg_namelen = has_name ? sizeof d->name : 0;
    h->msg_iov = d->iov;
    h->msg_iovlen = count;
    h->msg_control = control_len == 0 ? NULL : d->control;
    h->msg_controllen = control_len;
    d->sender.recv_errors = ((ipv4b_conn_object *)self)->recv_errors;
    return move(self, d, IPV4B_WRITE);
}

/* The control message that came with the datagram, or None. New, or NULL with an exception. */
static PyObject *
received_control(PyObject *self, const datagram *d)
{
    const ipv4b_conn_object *conn = (ipv4b_conn_object *)self;
    ipv4b_control_object *control;
    ipv4b_ancillary value = {.present = 0};
    size_t len = (size_t)d->slot.msg_hdr.msg_controllen;
    size_t where;
    int r;

    if (len == 0) {
        Py_RETURN_NONE;
    }
    r = ipv4b_ancillary_parse(&value, d->control, len, &where);
    if (r < 0) {
        ipv4b_control_raise(r, where, "control data from the kernel");
        return NULL;
    }
    if (d->slot.msg_hdr.msg_namelen == sizeof d->name) {
        value.src = d->name.sin_addr;
        value.present |= IPV4B_CM_SRC;
    }
    control = ipv4b_control_new(conn->state);
    if (control != NULL) {
        control->value = value;
    }
    return (PyObject *)control;
}

/* Marshals the control_message argument. Returns its length, or -1 with an exception. */
static int
marshal_control(PyObject *self, datagram *d, PyObject *control)
{
    const ipv4b_conn_object *conn = (ipv4b_conn_object *)self;

    if (control == NULL || control == Py_None) {
        return 0;
    }
    if (!PyObject_TypeCheck(control, conn->state->control_type)) {
        PyErr_Format(PyExc_TypeError,
                     "control_message: a ControlMessage or None is required, not "
                     "%.100s",
                     Py_TYPE(control)->tp_name);
        return -1;
    }
    d->path = ipv4b_control_value(control);
    /* IPV4B_ANCILLARY_MAX holds whatever there is. */
    return ipv4b_ancillary_marshal(&d->path, d->control, sizeof d->control);
}

/* Whether the connection can be used, and the flags argument. Returns 0, or -1 with an
 * exception. */
static int
prepare(PyObject *self, const char *operation, PyObject *flags, datagram *d)
{
    ipv4b_conn_object *conn = (ipv4b_conn_object *)self;
    long long number = 0;

    memset(d, 0, sizeof *d);
    if (!conn->open) {
        return ipv4b_conn_fileno(conn, operation) < 0 ? -1 : 0;
    }
    if (flags != NULL && ipv4b_parse_int(flags, "flags", 0, INT_MAX, &number) < 0) {
        return -1;
    }
    d->flags = (int)number;
    return 0;
}

/* Calls a method with its sorted arguments and the connection locked. */
static PyObject *
call_locked(PyObject *(*method)(PyObject *self, PyObject **values), PyObject *self,
            PyObject **values)
{
    PyObject *result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = method(self, values);
    Py_END_CRITICAL_SECTION();
    return result;
}

static int
get_buffer(PyObject *object, Py_buffer *view, const char *field, bool writable)
{
    if (ipv4b_get_buffer(object, field, view) < 0) {
        return -1;
    }
    if (writable && view->readonly) {
        PyErr_Format(PyExc_ValueError, "%s: read-only, and cannot be read into", field);
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

/* How many bytes of options are in the packet of n bytes whose first 20 are in d->header. */
static Py_ssize_t
options_length(const datagram *d, Py_ssize_t n)
{
    Py_ssize_t options = (Py_ssize_t)(d->header[0] & 15) * 4 - IPV4B_HEADER_LEN;

    return n <= IPV4B_HEADER_LEN || options <= 0 || n - IPV4B_HEADER_LEN < options ? 0 : options;
}

/* Takes the options off a raw socket's packet: they and the payload are in `buffer` and, where that is
 * too short, in d->spill. */
static void
strip_options(const datagram *d, const Py_buffer *buffer, Py_ssize_t options)
{
    Py_ssize_t shift = options < buffer->len ? options : buffer->len;
    /* A buffer shorter than the options finds its payload further on in the spill. */
    Py_ssize_t from_spill = options - shift;

    memmove(buffer->buf, (char *)buffer->buf + shift, (size_t)(buffer->len - shift));
    memcpy((char *)buffer->buf + buffer->len - shift, d->spill + from_spill, (size_t)shift);
}

/* What read_from of a PacketConn returns, for a payload of n bytes. New, or NULL with an exception. */
static PyObject *
packet_result(PyObject *self, const datagram *d, Py_ssize_t n)
{
    PyObject *control = received_control(self, d);
    PyObject *addr = NULL, *result = NULL;

    if (control != NULL) {
        addr = d->slot.msg_hdr.msg_namelen == sizeof d->name
                   ? ipv4b_endpoint_cached(((ipv4b_conn_object *)self)->state, &d->name)
                   : Py_NewRef(Py_None);
    }
    if (addr != NULL) {
        result = Py_BuildValue("nOO", n, control, addr);
    }
    Py_XDECREF(control);
    Py_XDECREF(addr);
    return result;
}

static const char *const read_names[] = {"buffer", "flags", NULL};
static const ipv4b_signature read_signature = {"read_from", read_names, 1};

const char ipv4b_packetconn_read_from_doc[] =
    "read_from($self, /, buffer, flags=0)\n--\n\n"
    "Receive one datagram into `buffer` and return (n, control_message, addr).\n\n"
    "n is its length in bytes; with MSG_TRUNC in flags it can exceed the buffer's. The control\n"
    "message is None when nothing arrived; its src is the peer's address. addr is a\n"
    "(host, port) tuple. On a raw socket the IPv4 header and its options are taken off. Waits\n"
    "within timeout and deadline. Raises TypeError or ValueError for a buffer that is not\n"
    "bytes-like or is read-only, and OSError.";

static PyObject *
read_packet(PyObject *self, PyObject **values)
{
    PyObject *result = NULL;
    Py_ssize_t n, payload, options = 0;
    Py_buffer buffer;
    datagram d;
    bool strip;

    if (prepare(self, "read", values[1], &d) < 0 ||
        get_buffer(values[0], &buffer, "buffer", true) < 0) {
        return NULL;
    }
    /* The error queue gives back what was sent, which had no header of ours. */
    strip = ((ipv4b_conn_object *)self)->type == SOCK_RAW && !(d.flags & IPV4B_MSG_ERRQUEUE);
    d.iov[0] = (struct iovec){d.header, strip ? IPV4B_HEADER_LEN : 0};
    d.iov[1] = (struct iovec){buffer.buf, (size_t)buffer.len};
    d.iov[2] = (struct iovec){d.spill, strip ? IPV4B_OPTIONS_MAX : 0};
    n = payload = receive(self, &d, 3);
    if (n >= 0 && strip) {
        options = options_length(&d, n);
        payload = n > IPV4B_HEADER_LEN ? n - IPV4B_HEADER_LEN - options : 0;
        if (payload > buffer.len && !(d.flags & MSG_TRUNC)) {
            payload = buffer.len; /* the rest went into the spill */
        }
    }
    if (n >= 0) {
        result = packet_result(self, &d, payload);
    }
    settle(self, &d, n >= 0 && result == NULL);
    if (result != NULL && options > 0) {
        strip_options(&d, &buffer, options);
    }
    PyBuffer_Release(&buffer);
    return result;
}

PyObject *
ipv4b_packetconn_read_from(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    PyObject *values[2] = {NULL};

    return ipv4b_parse_args(&read_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : call_locked(read_packet, self, values);
}

/* The same as an int, the length of what the caller gave. A datagram goes out whole, so that the int
 * can be made before: for want of memory nothing is sent. */
static PyObject *
send_and_count(PyObject *self, datagram *d, size_t count, bool has_name, size_t control_len,
               Py_ssize_t len)
{
    PyObject *result = PyLong_FromSsize_t(len);

    if (result != NULL && send_out(self, d, count, has_name, control_len) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

const char ipv4b_packetconn_write_to_doc[] =
    "write_to($self, /, data, addr=None, control_message=None, flags=0)\n--\n\n"
    "Send the bytes-like object `data` as one datagram and return its length.\n\n"
    "addr is a (host, port) tuple, or None on a connected socket. What the control message sends\n"
    "(ControlMessage.marshal) holds for this datagram alone. Waits for room within timeout and "
    "deadline.\n"
    "Raises TypeError or ValueError that names the argument, and OSError.";

static PyObject *
write_packet(PyObject *self, PyObject **values)
{
    PyObject *result;
    Py_buffer data;
    datagram d;
    bool has_name;
    int control_len;

    if (prepare(self, "write", values[3], &d) < 0) {
        return NULL;
    }
    has_name = values[1] != NULL && values[1] != Py_None;
    if (has_name &&
        ipv4b_endpoint_parse(((ipv4b_conn_object *)self)->state, values[1], "addr", &d.name) < 0) {
        return NULL;
    }
    control_len = marshal_control(self, &d, values[2]);
    if (control_len < 0 || get_buffer(values[0], &data, "data", false) < 0) {
        return NULL;
    }
    d.iov[0] = (struct iovec){data.buf, (size_t)data.len};
    result = send_and_count(self, &d, 1, has_name, (size_t)control_len, data.len);
    PyBuffer_Release(&data);
    return result;
}

PyObject *
ipv4b_packetconn_write_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames)
{
    static const char *const names[] = {"data", "addr", "control_message", "flags", NULL};
    static const ipv4b_signature signature = {"write_to", names, 1};
    PyObject *values[4] = {NULL};

    return ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0
               ? NULL
               : call_locked(write_packet, self, values);
}

const char ipv4b_rawconn_read_from_doc[] =
    "read_from($self, /, buffer, flags=0)\n--\n\n"
    "Receive one packet into `buffer` and return (header, payload, control_message).\n\n"
    "header is a Header; payload a memoryview of what follows it in `buffer`, cut where the\n"
    "buffer ends. The control message is None when nothing arrived; its src is the peer's\n"
    "address. Waits within timeout and deadline. Raises TypeError or ValueError for a buffer\n"
    "that is not bytes-like or is read-only, and OSError.";

/* The first bytes of the packet, which lie in the buffer and, if that is too short, in the
 * spill. */
static size_t
collect_header(datagram *d, const Py_buffer *buffer, Py_ssize_t n)
{
    size_t have = n < HEADER_MAX ? (size_t)n : HEADER_MAX;
    size_t inside = (size_t)buffer->len < have ? (size_t)buffer->len : have;

    memcpy(d->header, buffer->buf, inside);
    memcpy(d->header + inside, d->spill, have - inside);
    return have;
}

/* What read_from of a RawConn returns, for a packet of n bytes. New, or NULL with an exception. */
static PyObject *
raw_result(PyObject *self, datagram *d, PyObject *object, const Py_buffer *buffer, Py_ssize_t n)
{
    size_t have = collect_header(d, buffer, n);
    PyObject *header = ipv4b_header_from(((ipv4b_conn_object *)self)->state, d->header, have);
    PyObject *payload = NULL, *control = NULL, *result = NULL;

    if (header != NULL) {
        Py_ssize_t start = (Py_ssize_t)(d->header[0] & 15) * 4;
        Py_ssize_t stop = n < buffer->len ? n : buffer->len;

        payload = ipv4b_byte_view(object, start < stop ? start : stop, stop);
    }
    if (payload != NULL) {
        control = received_control(self, d);
    }
    if (control != NULL) {
        result = PyTuple_Pack(3, header, payload, control);
    }
    Py_XDECREF(header);
    Py_XDECREF(payload);
    Py_XDECREF(control);
    return result;
}

static PyObject *
read_raw(PyObject *self, PyObject **values)
{
    PyObject *result = NULL;
    Py_buffer buffer;
    Py_ssize_t n;
    datagram d;

    if (prepare(self, "read", values[1], &d) < 0 ||
        get_buffer(values[0], &buffer, "buffer", true) < 0) {
        return NULL;
    }
    d.iov[0] = (struct iovec){buffer.buf, (size_t)buffer.len};
    d.iov[1] = (struct iovec){d.spill, HEADER_MAX};
    n = receive(self, &d, 2);
    if (n >= 0) {
        result = raw_result(self, &d, values[0], &buffer, n);
    }
    settle(self, &d, n >= 0 && result == NULL);
    PyBuffer_Release(&buffer);
    return result;
}

PyObject *
ipv4b_rawconn_read_from(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2] = {NULL};

    return ipv4b_parse_args(&read_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : call_locked(read_raw, self, values);
}

const char ipv4b_rawconn_write_to_doc[] =
    "write_to($self, /, header, payload, control_message=None, flags=0)\n--\n\n"
    "Send `payload` (bytes-like) behind `header` (Header) and return the payload's length.\n\n"
    "The packet goes to the control message's dst if that is set, else to the header's; the "
    "header\n"
    "keeps its own. The kernel fills in total length and checksum, and id and source where they\n"
    "are 0 (raw(7)). Waits for room within timeout and deadline. Raises TypeError or ValueError\n"
    "that names the argument, and OSError.";

/* Whom a packet goes to, with its control message marshalled, and its header, ready for the kernel.
 * Returns the header's length, or -1. */
static int
address_packet(PyObject *self, datagram *d, PyObject *header)
{
    const ipv4b_conn_object *conn = (ipv4b_conn_object *)self;
    ipv4b_iphdr h;
    int len;

    if (!PyObject_TypeCheck(header, conn->state->header_type)) {
        PyErr_Format(PyExc_TypeError, "header: a Header is required, not %.100s",
                     Py_TYPE(header)->tp_name);
        return -1;
    }
    h = ipv4b_header_value(header);
    len = ipv4b_iphdr_marshal(&h, d->header, sizeof d->header);
    if (len < 0) {
        ipv4b_header_raise_marshal(len, "header.");
        return -1;
    }
    d->name.sin_family = AF_INET;
    d->name.sin_addr = d->path.present & IPV4B_CM_DST ? d->path.dst : h.dst;
    return len;
}

static PyObject *
write_raw(PyObject *self, PyObject **values)
{
    PyObject *result;
    Py_buffer payload;
    datagram d;
    int control_len, header_len;

    if (prepare(self, "write", values[3], &d) < 0) {
        return NULL;
    }
    control_len = marshal_control(self, &d, values[2]);
    header_len = control_len < 0 ? -1 : address_packet(self, &d, values[0]);
    if (header_len < 0 || get_buffer(values[1], &payload, "payload", false) < 0) {
        return NULL;
    }
    d.iov[0] = (struct iovec){d.header, (size_t)header_len};
    d.iov[1] = (struct iovec){payload.buf, (size_t)payload.len};
    result = send_and_count(self, &d, 2, true, (size_t)control_len, payload.len);
    PyBuffer_Release(&payload);
    return result;
}

PyObject *
ipv4b_rawconn_write_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"header", "payload", "control_message", "flags", NULL};
    static const ipv4b_signature signature = {"write_to", names, 2};
    PyObject *values[4] = {NULL};

    return ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0
               ? NULL
               : call_locked(write_raw, self, values);
}
