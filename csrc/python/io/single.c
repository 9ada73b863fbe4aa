/* single.c - one datagram a call: see single.h for the locking rule. */
#include "python/io/single.h"

#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/io/error_queue.h"
#include "python/io/loop.h"
#include "python/io/read_fileno.h"
#include "python/io/waker.h"
#include "python/values/control.h"

enum { DATAGRAM_MAX = 65535 };

static const char *const read_names[] = {"buffer", "flags", NULL};
const ipv4b_signature ipv4b_read_signature = {"read_from", read_names, 1};

static int
attempt_write(int fd, ipv4b_io *io)
{
    ipv4b_datagram *d = io->arg;

    return ipv4b_send(fd, &d->slot, 1, d->flags, &d->sender) == 0 ? -d->sender.error : 1;
}

/* Moves one datagram. Returns its length, or -1 with an exception. */
static Py_ssize_t
move(PyObject *self, ipv4b_datagram *d, ipv4b_direction direction)
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

    if (ipv4b_conn_raise_pending((ipv4b_conn_object *)self, direction) < 0 ||
        ipv4b_conn_run((ipv4b_conn_object *)self, &io) < 0) {
        return -1;
    }
    return (Py_ssize_t)d->slot.msg_len;
}

Py_ssize_t
ipv4b_datagram_receive(PyObject *self, ipv4b_datagram *d, size_t count)
{
    struct msghdr *h = &d->slot.msg_hdr;
    size_t size = 0;

    for (size_t i = 0; i < count; i++) {
        size += d->iov[i].iov_len;
    }
    if (d->flags & IPV4B_MSG_ERRQUEUE) {
        d->error_room = malloc(sizeof *d->error_room);
    }
    else {
        d->room = ipv4b_unread_new(size < DATAGRAM_MAX ? size : DATAGRAM_MAX);
    }
    if (d->room == NULL && d->error_room == NULL) {
        PyErr_NoMemory();
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

void
ipv4b_datagram_settle(PyObject *op, ipv4b_datagram *d, bool lost)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;

    if (lost && !(d->flags & MSG_PEEK) && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        if (d->error_room != NULL) {
            ipv4b_error_queue_copy(d->error_room, &d->slot);
            ipv4b_error_queue_keep(self, d->error_room);
        }
        else {
            ipv4b_unread_append(&self->receiving.unread, d->room, &d->slot);
            ipv4b_conn_announce(self);
            ipv4b_waker_wake(self); /* it does not wake calls that wait on the socket */
        }
        return;
    }
    ipv4b_unread_free(d->room);
    free(d->error_room);
}

/* Sends the first `count` iovecs to d->name, or to the connected peer. Returns the length sent, or
 * -1. */
static Py_ssize_t
send_out(PyObject *self, ipv4b_datagram *d, size_t count, bool has_name, size_t control_len)
{
    struct msghdr *h = &d->slot.msg_hdr;

    h->msg_name = has_name ? &d->name : NULL;
    h->msg_namelen = has_name ? sizeof d->name : 0;
    h->msg_iov = d->iov;
    h->msg_iovlen = count;
    h->msg_control = control_len == 0 ? NULL : d->control;
    h->msg_controllen = control_len;
    d->sender.recv_errors = ((ipv4b_conn_object *)self)->options.recv_errors;
    return move(self, d, IPV4B_WRITE);
}

PyObject *
ipv4b_datagram_control(PyObject *self, const ipv4b_datagram *d)
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

int
ipv4b_datagram_marshal(PyObject *self, ipv4b_datagram *d, PyObject *control)
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

int
ipv4b_datagram_prepare(PyObject *self, const char *operation, PyObject *flags, ipv4b_datagram *d)
{
    ipv4b_conn_object *conn = (ipv4b_conn_object *)self;
    long long number = 0;

    memset(d, 0, sizeof *d);
    if (!conn->life.open) {
        return ipv4b_conn_fileno(conn, operation) < 0 ? -1 : 0;
    }
    if (flags != NULL && ipv4b_parse_int(flags, "flags", 0, INT_MAX, &number) < 0) {
        return -1;
    }
    d->flags = (int)number;
    return 0;
}

PyObject *
ipv4b_call_locked(PyObject *(*method)(PyObject *self, PyObject **values), PyObject *self,
                  PyObject **values)
{
    PyObject *result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = method(self, values);
    Py_END_CRITICAL_SECTION();
    return result;
}

int
ipv4b_datagram_buffer(PyObject *object, Py_buffer *view, const char *field, bool writable)
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

PyObject *
ipv4b_datagram_send(PyObject *self, ipv4b_datagram *d, size_t count, bool has_name,
                    size_t control_len, Py_ssize_t len)
{
    PyObject *result = PyLong_FromSsize_t(len);

    if (result != NULL && send_out(self, d, count, has_name, control_len) < 0) {
        Py_CLEAR(result);
    }
    return result;
}
