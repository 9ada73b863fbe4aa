/* submit.c - what a program sends: see core.h for the locking rule.
 *
 * The first datagram of an iteration of the event loop goes out at once, so that a lone one does not
 * wait. Those behind it, and all that a protocol sends while it is given a batch, are copied into
 * the outbox and go together: when the batch ends, at the start of the next iteration, or when there
 * are enough of them.
 */
#include "python/aio/submit.h"

#include "python/aio/flush.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/check.h"
#include "python/message/message.h"
#include "python/values/addr.h"

/* Copies a datagram behind those that wait. Returns 0, or -1 with MemoryError. */
static int
append(ipv4b_core_object *self, const struct sockaddr_in *name, const struct msghdr *h)
{
    size_t len = 0;
    int r;

    for (size_t i = 0; i < (size_t)h->msg_iovlen; i++) {
        len += h->msg_iov[i].iov_len;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    r = ipv4b_outbox_append(&self->outbox, name, h->msg_control, (size_t)h->msg_controllen,
                            h->msg_iov, (size_t)h->msg_iovlen);
    if (r == 0) {
        self->waiting_bytes += len;
        self->waiting_count++;
    }
    Py_END_CRITICAL_SECTION();
    if (r < 0) {
        PyErr_NoMemory();
    }
    return r;
}

const char ipv4b_core_append_doc[] =
    "append($self, messages, /)\n--\n\n"
    "Copy each Message of a list behind what waits.\n\n"
    "Raises as write_all for one that cannot be sent, with none copied.";

PyObject *
ipv4b_core_append(PyObject *op, PyObject *messages)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyObject *tuple = PySequence_Tuple(messages);
    int r = tuple == NULL ? -1 : 0;

    if (r == 0) {
        ipv4b_batch b = {
            .conn = self->conn,
            .direction = IPV4B_WRITE,
            .list = tuple,
            .n = (size_t)PyTuple_GET_SIZE(tuple),
        };

        r = ipv4b_check_all(&b, false);
    }
    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(tuple); i++) {
        ipv4b_message_object *m = (ipv4b_message_object *)PyTuple_GET_ITEM(tuple, i);

        Py_BEGIN_CRITICAL_SECTION2(op, m);
        r = append(self, m->header.msg_namelen == 0 ? NULL : &m->name, &m->header);
        Py_END_CRITICAL_SECTION2();
    }
    Py_XDECREF(tuple);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* Resolves a host that is not an address in digits, as socket does. New, or NULL. */
static PyObject *
resolve(ipv4b_core_object *self, PyObject *addr)
{
    PyObject *transport, *resolved;

    Py_BEGIN_CRITICAL_SECTION(self);
    transport = Py_XNewRef(self->transport);
    Py_END_CRITICAL_SECTION();
    if (transport == NULL || !PyTuple_Check(addr) || PyTuple_GET_SIZE(addr) != 2 ||
        !PyUnicode_Check(PyTuple_GET_ITEM(addr, 0))) {
        Py_XDECREF(transport);
        return NULL;
    }
    PyErr_Clear();
    resolved = PyObject_CallMethod(transport, "_resolve", "(O)", addr);
    Py_DECREF(transport);
    return resolved;
}

/* The name for the argument `addr`. Returns 0, or -1 with an exception. */
static int
find_name(ipv4b_core_object *self, PyObject *addr, struct sockaddr_in *name)
{
    PyObject *resolved;
    int r;

    if (addr == self->last_addr) {
        *name = self->last_name;
        return 0;
    }
    if (ipv4b_endpoint_parse(self->state, addr, "addr", name) == 0) {
        /* Only of these types the value cannot change. */
        if (PyTuple_CheckExact(addr) && PyUnicode_CheckExact(PyTuple_GET_ITEM(addr, 0)) &&
            PyLong_CheckExact(PyTuple_GET_ITEM(addr, 1))) {
            Py_XSETREF(self->last_addr, Py_NewRef(addr));
            self->last_name = *name;
        }
        return 0;
    }
    resolved = resolve(self, addr);
    if (resolved == NULL) {
        return -1;
    }
    r = ipv4b_endpoint_parse(self->state, resolved, "addr", name);
    Py_DECREF(resolved);
    return r;
}

/* Where sendto(data, addr) goes. Returns 0 with *has_name, or -1 with an exception. */
static int
find_destination(ipv4b_core_object *self, PyObject *addr, struct sockaddr_in *name, bool *has_name)
{
    int r = 0;

    *has_name = !self->connected;
    if (self->address != Py_None) {
        *name = self->address_name;
        if (addr != Py_None && addr != self->address) {
            r = PyObject_RichCompareBool(addr, self->address, Py_EQ);
            if (r == 0) {
                PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S",
                             self->address);
                return -1;
            }
        }
    }
    else if (*has_name) {
        Py_BEGIN_CRITICAL_SECTION(self);
        r = find_name(self, addr, name);
        Py_END_CRITICAL_SECTION();
    }
    return r < 0 ? -1 : 0;
}

/* Sends one datagram now. Returns 0; 1 if there was no room and it waits; or -1 with an
 * exception. */
static int
send_now(ipv4b_core_object *self, const struct msghdr *h)
{
    int error;
    bool foreign;

    if (ipv4b_core_send_one(self, h, &error, &foreign) >= 0) {
        ipv4b_core_begin_turn(self);
        return ipv4b_core_report_late(self);
    }
    if (ipv4b_core_blocked_by(error) != IPV4B_FREE) {
        PyErr_Clear();
        return 1;
    }
    return foreign ? -1 : ipv4b_core_report_failure(self);
}

/* Sends a datagram, or appends it to those that wait. Returns 0, or -1 with an exception. */
static int
submit(ipv4b_core_object *self, struct msghdr *h)
{
    bool at_once, full;

    Py_BEGIN_CRITICAL_SECTION(self);
    at_once = !self->turn && !self->delivering && !self->flushing && self->blocked == IPV4B_FREE &&
              self->outbox.count == 0;
    Py_END_CRITICAL_SECTION();
    if (at_once) {
        int r = send_now(self, h);

        if (r <= 0) {
            return r;
        }
    }
    if (append(self, h->msg_name, h) < 0) {
        return -1;
    }
    if (self->blocked != IPV4B_FREE) {
        return ipv4b_core_tell(self, "_appended", Py_None);
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    /* Or what it was appended for is over, in another thread. */
    full = self->waiting_bytes >= IPV4B_TOGETHER_BYTES || self->waiting_count >= IPV4B_TOGETHER ||
           !(self->turn || self->delivering || self->flushing);
    Py_END_CRITICAL_SECTION();
    if (!at_once && !full) {
        return 0;
    }
    return ipv4b_core_flush(self);
}

const char ipv4b_core_sendto_doc[] =
    "sendto($self, /, data, addr=None)\n--\n\n"
    "Send a datagram, as asyncio.DatagramTransport.sendto, with a copy of `data`.\n\n"
    "Raises TypeError or ValueError for data or an addr that cannot be sent (to), with nothing\n"
    "sent. An OSError of the datagram goes to the protocol's error_received.";

PyObject *
ipv4b_core_sendto(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"data", "addr", NULL};
    static const ipv4b_signature signature = {"sendto", names, 1};
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyObject *values[2] = {NULL, Py_None};
    struct sockaddr_in name;
    struct msghdr h = {0};
    struct iovec iov;
    Py_buffer view;
    bool has_name;
    int r;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    if (!PyBytes_Check(values[0]) && !PyByteArray_Check(values[0]) &&
        !PyMemoryView_Check(values[0])) {
        PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.100s'",
                     Py_TYPE(values[0])->tp_name);
        return NULL;
    }
    if (find_destination(self, values[1], &name, &has_name) < 0) {
        return NULL;
    }
    if (self->lost) {
        return ipv4b_core_tell(self, "_sent_in_vain", Py_None) < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (ipv4b_get_buffer(values[0], "data", &view) < 0) {
        return NULL;
    }
    iov = (struct iovec){view.buf, (size_t)view.len};
    h.msg_iov = &iov;
    h.msg_iovlen = 1;
    if (has_name) {
        h.msg_name = &name;
        h.msg_namelen = sizeof name;
    }
    r = submit(self, &h);
    PyBuffer_Release(&view);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}
