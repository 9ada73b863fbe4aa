/* packetconn.c - the type PacketConn: see packetconn.h. */
#include "python/types/packetconn.h"

#include "core/iphdr.h"
#include "python/io/single.h"
#include "python/values/addr.h"

/* The bytes of options in a packet of n bytes. Its first 20 bytes are in d->header. */
static Py_ssize_t
options_length(const ipv4b_datagram *d, Py_ssize_t n)
{
    Py_ssize_t options = (Py_ssize_t)(d->header[0] & 15) * 4 - IPV4B_HEADER_LEN;

    return n <= IPV4B_HEADER_LEN || options <= 0 || n - IPV4B_HEADER_LEN < options ? 0 : options;
}

/* Moves the payload of a raw socket's packet to the start of `buffer`. The bytes after the first
 * 20 of the header begin in d->spill and continue in the buffer. So no byte past the payload is
 * written. */
static void
place_payload(const ipv4b_datagram *d, const Py_buffer *buffer, Py_ssize_t n, Py_ssize_t options)
{
    Py_ssize_t rest = n - IPV4B_HEADER_LEN;
    Py_ssize_t spilled = rest < IPV4B_OPTIONS_MAX ? rest : IPV4B_OPTIONS_MAX;
    Py_ssize_t head = spilled - options; /* bytes of the payload that are in the spill */
    Py_ssize_t payload = rest - options;

    if (payload <= 0) {
        return;
    }
    payload = payload < buffer->len ? payload : buffer->len;
    if (payload > head) {
        memmove((char *)buffer->buf + head, buffer->buf, (size_t)(payload - head));
    }
    if (payload > 0) {
        memcpy(buffer->buf, d->spill + options, (size_t)(head < payload ? head : payload));
    }
}

/* What read_from of a PacketConn returns, for a payload of n bytes. New, or NULL with an exception. */
static PyObject *
packet_result(PyObject *self, const ipv4b_datagram *d, Py_ssize_t n)
{
    PyObject *control = ipv4b_datagram_control(self, d);
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

static const char read_from_doc[] =
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
    ipv4b_datagram d;
    bool strip;

    if (ipv4b_datagram_prepare(self, "read", values[1], &d) < 0 ||
        ipv4b_datagram_buffer(values[0], &buffer, "buffer", true) < 0) {
        return NULL;
    }
    /* The error queue gives back what was sent, which had no header of ours. */
    strip =
        ((ipv4b_conn_object *)self)->descriptor.type == SOCK_RAW && !(d.flags & IPV4B_MSG_ERRQUEUE);
    d.iov[0] = (struct iovec){d.header, strip ? IPV4B_HEADER_LEN : 0};
    d.iov[1] = (struct iovec){d.spill, strip ? IPV4B_OPTIONS_MAX : 0};
    d.iov[2] = (struct iovec){buffer.buf, (size_t)buffer.len};
    n = payload = ipv4b_datagram_receive(self, &d, 3);
    if (n >= 0 && strip) {
        options = options_length(&d, n);
        payload = n > IPV4B_HEADER_LEN ? n - IPV4B_HEADER_LEN - options : 0;
        if (payload > buffer.len && !(d.flags & MSG_TRUNC)) {
            payload = buffer.len;
        }
    }
    if (n >= 0) {
        result = packet_result(self, &d, payload);
    }
    ipv4b_datagram_settle(self, &d, n >= 0 && result == NULL);
    if (result != NULL && strip) {
        place_payload(&d, &buffer, n, options);
    }
    PyBuffer_Release(&buffer);
    return result;
}

static PyObject *
packetconn_read_from(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2] = {NULL};

    return ipv4b_parse_args(&ipv4b_read_signature, args, nargs, kwnames, values) < 0
               ? NULL
               : ipv4b_call_locked(read_packet, self, values);
}

static const char write_to_doc[] =
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
    ipv4b_datagram d;
    bool has_name;
    int control_len;

    if (ipv4b_datagram_prepare(self, "write", values[3], &d) < 0) {
        return NULL;
    }
    has_name = values[1] != NULL && values[1] != Py_None;
    if (has_name &&
        ipv4b_endpoint_parse(((ipv4b_conn_object *)self)->state, values[1], "addr", &d.name) < 0) {
        return NULL;
    }
    control_len = ipv4b_datagram_marshal(self, &d, values[2]);
    if (control_len < 0 || ipv4b_datagram_buffer(values[0], &data, "data", false) < 0) {
        return NULL;
    }
    d.iov[0] = (struct iovec){data.buf, (size_t)data.len};
    result = ipv4b_datagram_send(self, &d, 1, has_name, (size_t)control_len, data.len);
    PyBuffer_Release(&data);
    return result;
}

static PyObject *
packetconn_write_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"data", "addr", "control_message", "flags", NULL};
    static const ipv4b_signature signature = {"write_to", names, 1};
    PyObject *values[4] = {NULL};

    return ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0
               ? NULL
               : ipv4b_call_locked(write_packet, self, values);
}

static PyMethodDef packetconn_methods[] = {
    {"read_from", IPV4B_METHOD(packetconn_read_from), METH_FASTCALL | METH_KEYWORDS, read_from_doc},
    {"write_to", IPV4B_METHOD(packetconn_write_to), METH_FASTCALL | METH_KEYWORDS, write_to_doc},
    {0},
};

PyDoc_STRVAR(packetconn_doc,
             "PacketConn(sock)\n--\n\n"
             "Batches of datagrams through an AF_INET socket of type SOCK_DGRAM or SOCK_RAW.\n\n"
             "sock is a socket.socket or another object with fileno(), which is kept and asked at\n"
             "every call; or an int, a descriptor that is borrowed and never closed. Raises\n"
             "TypeError or ValueError that says what the argument is instead, or which option of the\n"
             "socket changes what is sent. Options that change what is received are taken over, as if\n"
             "they had been set here: see control_flags, gro and recv_errors. On a raw socket\n"
             "read_from takes the IPv4 header off; read_batch gives whole packets, as Go's ReadBatch.");

static PyType_Slot packetconn_slots[] = {
    {Py_tp_doc, (void *)packetconn_doc},
    {Py_tp_methods, packetconn_methods},
    {0, NULL},
};

PyType_Spec ipv4b_packetconn_spec = {
    .name = "ipv4batch.PacketConn",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = packetconn_slots,
};
