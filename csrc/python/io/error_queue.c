/* error_queue.c - errors of the network: see error_queue.h for the locking rule. */
#include "python/io/error_queue.h"

#include "core/error_queue.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/conn.h"
#include "python/io/descriptor.h"
#include "python/io/life.h"
#include "python/io/loop.h"
#include "python/io/read_fileno.h"
#include "python/io/waker.h"
#include "python/values/addr.h"

static PyStructSequence_Field queued_error_fields[] = {
    {"errno", "the error as an errno"},
    {"origin", "where it comes from, an ErrorOrigin as an int: LOCAL 1, ICMP 2, ..."},
    {"icmp_type", "type of the ICMP message, an ICMPType as an int; 0 unless origin is ICMP"},
    {"icmp_code", "its code; 0 unless origin is ICMP"},
    {"mtu", "for EMSGSIZE the path MTU in bytes, else 0"},
    {"offender", "address of the router or host that sent the ICMP message, or None"},
    {"addr", "where the datagram was going, as (host, port), or None"},
    {"data", "the datagram's payload, as much of it as the ICMP message quotes, as bytes"},
    {NULL, NULL},
};

PyStructSequence_Desc ipv4b_queued_error_desc = {
    .name = "ipv4batch.QueuedError",
    .doc = "One entry of a socket's error queue (ip(7), IP_RECVERR), from read_errors().",
    .fields = queued_error_fields,
    .n_in_sequence = 8,
};

static int
attempt_first(int fd, ipv4b_io *io)
{
    return ipv4b_error_queue_recv(fd, *(ipv4b_queued_error **)io->arg);
}

/* After the first entry no signal handler may run: its exception would lose the entries. */
static int
attempt_next(int fd, ipv4b_io *io)
{
    int r = ipv4b_error_queue_recv(fd, *(ipv4b_queued_error **)io->arg);

    return r == -EINTR ? -EAGAIN : r;
}

/* A new QueuedError, or NULL with an exception. */
static PyObject *
queued_error_new(const ipv4b_conn_object *self, const ipv4b_queued_error *e)
{
    PyObject *error = PyStructSequence_New(self->state->queued_error_type);
    PyObject *values[] = {
        PyLong_FromLong(e->error),
        PyLong_FromLong(e->origin),
        PyLong_FromLong(e->icmp_type),
        PyLong_FromLong(e->icmp_code),
        PyLong_FromUnsignedLong(e->mtu),
        e->has_offender ? ipv4b_addr_str(e->offender) : Py_NewRef(Py_None),
        e->has_addr ? ipv4b_endpoint_tuple(&e->addr) : Py_NewRef(Py_None),
        PyBytes_FromStringAndSize((const char *)e->data, (Py_ssize_t)e->len),
    };
    bool complete = error != NULL;

    for (Py_ssize_t i = 0; i < (Py_ssize_t)(sizeof values / sizeof values[0]); i++) {
        complete = complete && values[i] != NULL;
        if (error == NULL) {
            Py_XDECREF(values[i]);
        }
        else {
            PyStructSequence_SetItem(error, i, values[i]);
        }
    }
    if (!complete) {
        Py_CLEAR(error);
    }
    return error;
}

/* Takes the oldest entry whose QueuedError an earlier call could not make. Returns 1, or 0 if there is
 * none. */
static int
take_unread(ipv4b_conn_object *self, ipv4b_io *io)
{
    ipv4b_queued_error **slot = io->arg;
    ipv4b_queued_error *e;

    ipv4b_conn_check_fork(self);
    e = self->receiving.unread_errors;
    if (e == NULL) {
        return 0;
    }
    self->receiving.unread_errors = e->next;
    free(*slot);
    *slot = e;
    return 1;
}

void
ipv4b_error_queue_keep(ipv4b_conn_object *self, ipv4b_queued_error *e)
{
    e->next = self->receiving.unread_errors;
    self->receiving.unread_errors = e;
    ipv4b_conn_announce(self);
    ipv4b_waker_wake(self); /* the entry does not wake calls that wait on the socket */
}

/* A pending error reports an entry of the queue. A caller that has the entry does not need the
 * report. */
static void
forget_pending(ipv4b_conn_object *self, int error)
{
    for (int direction = IPV4B_READ; direction <= IPV4B_WRITE; direction++) {
        if (self->batches.pending_error[direction] == error) {
            self->batches.pending_error[direction] = 0;
        }
    }
    ipv4b_conn_announce(self);
}

/* Takes the next entry into the list; *slot is memory for it. Returns whether it could. If not, an
 * exception is set, or the queue is empty and the call may not wait. */
static bool
append_next(ipv4b_conn_object *self, ipv4b_io *io, PyObject *list, ipv4b_queued_error **slot)
{
    PyObject *error;
    bool given;

    if (*slot == NULL && (*slot = malloc(sizeof **slot)) == NULL) {
        PyErr_NoMemory();
        return false;
    }
    ipv4b_error_queue_prepare(*slot);
    io->slots = &(*slot)->slot;
    if (ipv4b_conn_run(self, io) < 0) {
        return false;
    }
    ipv4b_error_queue_parse(*slot);
    error = queued_error_new(self, *slot);
    given = error != NULL && PyList_Append(list, error) == 0;
    Py_XDECREF(error);
    if (given) {
        forget_pending(self, (*slot)->error);
    }
    else if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
        ipv4b_error_queue_keep(self, *slot);
        *slot = NULL;
    }
    return given;
}

/* With the connection's lock: a new list of QueuedError, or NULL with an exception. */
static PyObject *
read_errors(ipv4b_conn_object *self, long long max, bool wait)
{
    ipv4b_queued_error *slot = NULL;
    ipv4b_io io = {.direction = IPV4B_READ,
                   .flags = IPV4B_MSG_ERRQUEUE,
                   .limit = -1,
                   .take_unread = take_unread,
                   .n = 1,
                   .arg = &slot};
    PyObject *list = ipv4b_conn_fileno(self, "read_errors") < 0 ? NULL : PyList_New(0);

    while (list != NULL && PyList_GET_SIZE(list) < max) {
        io.quiet = !wait || PyList_GET_SIZE(list) > 0;
        io.flags |= io.quiet ? MSG_DONTWAIT : 0;
        io.attempt = PyList_GET_SIZE(list) == 0 ? attempt_first : attempt_next;
        if (!append_next(self, &io, list, &slot)) {
            /* An error after other entries does not drop those. The next call meets the same
             * error. */
            if (PyList_GET_SIZE(list) > 0) {
                PyErr_Clear();
            }
            else if (PyErr_Occurred()) {
                Py_CLEAR(list);
            }
            break;
        }
    }
    free(slot);
    return list;
}

const char ipv4b_read_errors_doc[] =
    "read_errors($self, /, max=64, wait=False)\n--\n\n"
    "Take up to `max` errors of the network off the socket's queue, as a list of QueuedError.\n\n"
    "recv_errors must have been on when the datagrams went out. Without `wait` the list is empty\n"
    "when the queue is; with it the call waits for the first one, within timeout and deadline.\n"
    "Raises ValueError for max under 1, NotImplementedError where the platform has no such queue,\n"
    "and OSError (ip(7), IP_RECVERR).";

PyObject *
ipv4b_read_errors(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"max", "wait", NULL};
    static const ipv4b_signature signature = {"read_errors", names, 0};
    PyObject *values[2] = {NULL};
    PyObject *list;
    long long max = 64;
    int wait = 0;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        (values[0] != NULL && ipv4b_parse_int(values[0], "max", 1, INT_MAX, &max) < 0) ||
        (values[1] != NULL && (wait = PyObject_IsTrue(values[1])) < 0)) {
        return NULL;
    }
    if (IPV4B_IP_RECVERR < 0) {
        PyErr_SetString(PyExc_NotImplementedError, "read_errors: this platform has no such queue");
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(op);
    list = read_errors((ipv4b_conn_object *)op, max, wait != 0);
    Py_END_CRITICAL_SECTION();
    return list;
}
