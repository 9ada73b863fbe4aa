/* rawconn.c - the type RawConn: see rawconn.h. */
#include "python/types/rawconn.h"

#include "python/base/buffers.h"
#include "python/io/single.h"
#include "python/options/found.h"
#include "python/types/conn.h"
#include "python/values/header.h"

static const char read_from_doc[] =
    "read_from($self, /, buffer, flags=0)\n--\n\n"
    "Receive one packet into `buffer` and return (header, payload, control_message).\n\n"
    "header is a Header; payload a memoryview of what follows it in `buffer`, cut where the\n"
    "buffer ends. The control message is None when nothing arrived; its src is the peer's\n"
    "address. Waits within timeout and deadline. Raises TypeError or ValueError for a buffer\n"
    "that is not bytes-like or is read-only, and OSError.";

/* The first bytes of the packet. They are in the buffer and, if that is too short, in the spill. */
static size_t
collect_header(ipv4b_datagram *d, Py_ssize_t n)
{
    size_t have = n < IPV4B_HEADER_MAX ? (size_t)n : IPV4B_HEADER_MAX;
    size_t inside = d->iov[0].iov_len < have ? d->iov[0].iov_len : have;

    memcpy(d->header, d->iov[0].iov_base, inside);
    memcpy(d->header + inside, d->spill, have - inside);
    return have;
}

/* What read_from of a RawConn returns, for a packet of n bytes in the buffer of `view`. New, or NULL with
 * an exception. */
static PyObject *
raw_result(PyObject *self, ipv4b_datagram *d, PyObject *view, Py_ssize_t n)
{
    size_t have = collect_header(d, n);
    PyObject *header = ipv4b_header_from(((ipv4b_conn_object *)self)->state, d->header, have);
    PyObject *payload = NULL, *control = NULL, *result = NULL;

    if (header != NULL) {
        Py_ssize_t start = (Py_ssize_t)(d->header[0] & 15) * 4;
        Py_ssize_t size = (Py_ssize_t)d->iov[0].iov_len;
        Py_ssize_t stop = n < size ? n : size;

        payload = ipv4b_view_part(view, start < stop ? start : stop, stop);
    }
    if (payload != NULL) {
        control = ipv4b_datagram_control(self, d);
    }
    if (control != NULL) {
        result = PyTuple_Pack(3, header, payload, control);
    }
    Py_XDECREF(header);
    Py_XDECREF(payload);
    Py_XDECREF(control);
    return result;
}

/* A view of bytes over the whole of the buffer argument, made before the receive: an exporter that
 * refuses costs no packet then. New, or NULL with TypeError, ValueError or the exporter's exception. */
static PyObject *
buffer_view(PyObject *object)
{
    Py_buffer buffer;
    PyObject *view;
    const Py_buffer *info;

    if (ipv4b_datagram_buffer(object, &buffer, "buffer", true) < 0) {
        return NULL;
    }
    view = ipv4b_byte_view(object, 0, buffer.len);
    PyBuffer_Release(&buffer);
    if (view == NULL) {
        return NULL;
    }
    info = PyMemoryView_GET_BUFFER(view);
    if (info->readonly || !PyBuffer_IsContiguous(info, 'C')) {
        PyErr_SetString(PyExc_ValueError, "buffer: read-only, and cannot be read into");
        Py_CLEAR(view);
    }
    return view;
}

static PyObject *
read_raw(PyObject *self, PyObject **values)
{
    PyObject *view, *result = NULL;
    const Py_buffer *info;
    Py_ssize_t n;
    ipv4b_datagram d;

    if (ipv4b_datagram_prepare(self, "read", values[1], &d) < 0 ||
        (view = buffer_view(values[0])) == NULL) {
        return NULL;
    }
    info = PyMemoryView_GET_BUFFER(view);
    d.iov[0] = (struct iovec){info->buf, (size_t)info->len};
    d.iov[1] = (struct iovec){d.spill, IPV4B_HEADER_MAX};
    n = ipv4b_datagram_receive(self, &d, 2);
    if (n >= 0) {
        result = raw_result(self, &d, view, n);
    }
    ipv4b_datagram_settle(self, &d, n >= 0 && result == NULL);
    Py_DECREF(view);
    return result;
}

static PyObject *
rawconn_read_from(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2] = {NULL};

    return ipv4b_parse_args(&ipv4b_read_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : ipv4b_call_locked(read_raw, self, values);
}

static const char write_to_doc[] =
    "write_to($self, /, header, payload, control_message=None, flags=0)\n--\n\n"
    "Send `payload` (bytes-like) behind `header` (Header) and return the payload's length.\n\n"
    "The packet goes to the control message's dst if that is set, else to the header's; the "
    "header\n"
    "keeps its own. The kernel fills in total length and checksum, and id and source where they\n"
    "are 0 (raw(7)). Waits for room within timeout and deadline. Raises TypeError or ValueError\n"
    "that names the argument, and OSError.";

/* Prepares the destination, the control data and the header of a packet. Returns the header's
 * length, or -1. */
static int
address_packet(PyObject *self, ipv4b_datagram *d, PyObject *header)
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
    ipv4b_datagram d;
    int control_len, header_len;

    if (ipv4b_datagram_prepare(self, "write", values[3], &d) < 0) {
        return NULL;
    }
    control_len = ipv4b_datagram_marshal(self, &d, values[2]);
    header_len = control_len < 0 ? -1 : address_packet(self, &d, values[0]);
    if (header_len < 0 || ipv4b_datagram_buffer(values[1], &payload, "payload", false) < 0) {
        return NULL;
    }
    d.iov[0] = (struct iovec){d.header, (size_t)header_len};
    d.iov[1] = (struct iovec){payload.buf, (size_t)payload.len};
    result = ipv4b_datagram_send(self, &d, 2, true, (size_t)control_len, payload.len);
    PyBuffer_Release(&payload);
    return result;
}

static PyObject *
rawconn_write_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"header", "payload", "control_message", "flags", NULL};
    static const ipv4b_signature signature = {"write_to", names, 2};
    PyObject *values[4] = {NULL};

    return ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0
               ? NULL
               : ipv4b_call_locked(write_raw, self, values);
}

static PyMethodDef rawconn_methods[] = {
    {"read_from", IPV4B_METHOD(rawconn_read_from), METH_FASTCALL | METH_KEYWORDS, read_from_doc},
    {"write_to", IPV4B_METHOD(rawconn_write_to), METH_FASTCALL | METH_KEYWORDS, write_to_doc},
    {0},
};

static int
rawconn_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    if (ipv4b_conn_init(op, args, kwargs, 1U << SOCK_RAW, "an AF_INET socket of type SOCK_RAW") <
        0) {
        return -1;
    }
    return ipv4b_found_take_over(op, true);
}

PyDoc_STRVAR(rawconn_doc,
             "RawConn(sock)\n--\n\n"
             "Batches of whole IPv4 packets through an AF_INET socket of type SOCK_RAW.\n\n"
             "IP_HDRINCL is set (raw(7)): every message starts with an IPv4 header, written by the\n"
             "caller (Header.marshal) and read as it arrived. The kernel fills in total length and\n"
             "checksum, and id and source where they are 0. sock is as in PacketConn. Raises\n"
             "TypeError or ValueError that says what the argument is instead, and OSError.");

static PyType_Slot rawconn_slots[] = {
    {Py_tp_doc, (void *)rawconn_doc},
    IPV4B_SLOT(Py_tp_init, rawconn_init),
    {Py_tp_methods, rawconn_methods},
    {0, NULL},
};

PyType_Spec ipv4b_rawconn_spec = {
    .name = "ipv4batch.RawConn",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rawconn_slots,
};
