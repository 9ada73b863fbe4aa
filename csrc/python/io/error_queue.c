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

void
ipv4b_error_queue_begin(const ipv4b_conn_object *self, ipv4b_io *io, bool wait)
{
    /* One limit for all steps: what is somebody else's does not prolong the wait. */
    io->limit = !wait || self->waiting.timeout == IPV4B_FOREVER
                    ? IPV4B_FOREVER
                    : ipv4b_now() + self->waiting.timeout;
    io->direction = IPV4B_READ;
    io->flags = IPV4B_MSG_ERRQUEUE;
    io->n = 1;
    if (self->waiting.timeout == 0) {
        io->flags |= MSG_DONTWAIT;
    }
}

void
ipv4b_error_queue_step(ipv4b_io *io, bool wait)
{
    io->quiet = !wait;
    io->flags |= wait ? 0 : MSG_DONTWAIT;
    io->attempt = wait ? attempt_first : attempt_next;
}

/* Puts the stamps of an entry into the connection's queue, for whoever asks or waits for them. */
static void
stamps_note(ipv4b_conn_object *self, const ipv4b_tx_timestamp *stamps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ipv4b_tx_queue_push(&self->stamping.queue, &stamps[i]);
    }
    ipv4b_conn_announce(self);
    if (count > 0 && self->stamping.waiting > 0) {
        ipv4b_waker_wake(self);
    }
}

ipv4b_entry
ipv4b_error_queue_next(ipv4b_conn_object *self, ipv4b_io *io, ipv4b_queued_error **slot,
                       int *waiting)
{
    ipv4b_tx_timestamp stamps[2];
    size_t count;
    int r;

    if (*slot == NULL && (*slot = malloc(sizeof **slot)) == NULL) {
        PyErr_NoMemory();
        return IPV4B_ENTRY_NONE;
    }
    if (self->stamping.asked && ipv4b_tx_queue_reserve(&self->stamping.queue) < 0) {
        PyErr_NoMemory();
        return IPV4B_ENTRY_NONE;
    }
    ipv4b_error_queue_prepare(*slot);
    io->slots = &(*slot)->slot;
    io->arg = slot;
    ++*waiting;
    r = ipv4b_conn_run(self, io);
    *waiting -= *waiting > 0; /* the child of a fork has none */
    if (r < 0) {
        return IPV4B_ENTRY_NONE;
    }
    if (r == IPV4B_ENTRY_KEPT) {
        return IPV4B_ENTRY_KEPT;
    }
    if (ipv4b_tx_parse(&(*slot)->slot, self->stamping.last_id, stamps, &count)) {
        stamps_note(self, stamps, count);
        return IPV4B_ENTRY_STAMPS;
    }
    ipv4b_error_queue_parse(*slot);
    return IPV4B_ENTRY_ERROR;
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

/* Whether an earlier call has left an entry. */
static int
find_unread(ipv4b_conn_object *self, ipv4b_io *io)
{
    (void)io;
    ipv4b_conn_check_fork(self);
    return self->receiving.unread_errors.count > 0 ? (int)IPV4B_ENTRY_KEPT : 0;
}

/* Takes the oldest entry that was left, in place of *slot. One that read_from has left is as it came. */
static void
take_unread(ipv4b_conn_object *self, ipv4b_queued_error **slot)
{
    ipv4b_error_list *list = &self->receiving.unread_errors;

    free(*slot);
    *slot = list->first;
    list->first = list->first->next;
    if (--list->count == 0) {
        list->last = NULL;
    }
    ipv4b_error_queue_parse(*slot);
    ipv4b_conn_announce(self);
}

void
ipv4b_error_queue_keep(ipv4b_conn_object *self, ipv4b_queued_error *e)
{
    ipv4b_error_list *list = &self->receiving.unread_errors;

    e->next = list->first;
    list->first = e;
    if (list->count++ == 0) {
        list->last = e;
    }
    ipv4b_conn_announce(self);
    ipv4b_waker_wake(self); /* the entry does not wake calls that wait on the socket */
}

/* How many errors of the network are kept beside the kernel's queue. */
enum { KEPT_MAX = 1024 };

void
ipv4b_error_queue_pass(ipv4b_conn_object *self, ipv4b_queued_error **slot)
{
    ipv4b_error_list *list = &self->receiving.unread_errors;

    if (list->count >= KEPT_MAX) {
        return;
    }
    (*slot)->next = NULL;
    if (list->count++ == 0) {
        list->first = *slot;
    }
    else {
        list->last->next = *slot;
    }
    list->last = *slot;
    *slot = NULL;
    ipv4b_conn_announce(self);
    if (self->receiving.waiting_for_errors > 0) {
        ipv4b_waker_wake(self);
    }
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

/* Appends the entry to the list. Returns whether it could; if not, an exception is set. */
static bool
append_error(ipv4b_conn_object *self, PyObject *list, ipv4b_queued_error **slot)
{
    PyObject *error = queued_error_new(self, *slot);
    bool given = error != NULL && PyList_Append(list, error) == 0;

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
    ipv4b_io io = {.take_unread = find_unread};
    PyObject *list = ipv4b_conn_fileno(self, "read_errors") < 0 ? NULL : PyList_New(0);

    ipv4b_error_queue_begin(self, &io, wait);
    while (list != NULL && PyList_GET_SIZE(list) < max) {
        ipv4b_entry found;

        ipv4b_error_queue_step(&io, wait && PyList_GET_SIZE(list) == 0);
        found = ipv4b_error_queue_next(self, &io, &slot, &self->receiving.waiting_for_errors);
        if (found == IPV4B_ENTRY_STAMPS) {
            continue;
        }
        if (found == IPV4B_ENTRY_KEPT) {
            take_unread(self, &slot);
        }
        if (found == IPV4B_ENTRY_NONE || !append_error(self, list, &slot)) {
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

int
ipv4b_error_queue_parse_args(const char *method, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames, long long *max, int *wait)
{
    static const char *const names[] = {"max", "wait", NULL};
    const ipv4b_signature signature = {method, names, 0};
    PyObject *values[2] = {NULL};

    *max = 64;
    *wait = 0;
    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        (values[0] != NULL && ipv4b_parse_int(values[0], "max", 1, INT_MAX, max) < 0) ||
        (values[1] != NULL && (*wait = PyObject_IsTrue(values[1])) < 0)) {
        return -1;
    }
    if (IPV4B_IP_RECVERR < 0) {
        PyErr_Format(PyExc_NotImplementedError, "%s: this platform has no such queue", method);
        return -1;
    }
    return 0;
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
    PyObject *list;
    long long max;
    int wait;

    if (ipv4b_error_queue_parse_args("read_errors", args, nargs, kwnames, &max, &wait) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(op);
    list = read_errors((ipv4b_conn_object *)op, max, wait != 0);
    Py_END_CRITICAL_SECTION();
    return list;
}

const char ipv4b_collect_errors_doc[] =
    "_collect_errors($self, /)\n--\n\n"
    "Take errors and departure times off the kernel's queue, and keep them for read_errors and\n"
    "read_tx_timestamps; return how many of each are kept.\n\n"
    "A level-triggered poll reports a queue that nobody reads again and again.";

/* Returns 0, or -1 with an exception. */
static int
collect(ipv4b_conn_object *self)
{
    ipv4b_queued_error *slot = NULL;
    ipv4b_io io = {.take_unread = NULL};
    ipv4b_entry found = IPV4B_ENTRY_ERROR;
    int waiting = 0; /* it does not wait */

    ipv4b_error_queue_begin(self, &io, false);
    ipv4b_error_queue_step(&io, false);
    /* A bound, as for every call: the rest wakes the poller again. */
    for (int i = 0; found != IPV4B_ENTRY_NONE && i < KEPT_MAX; i++) {
        found = ipv4b_error_queue_next(self, &io, &slot, &waiting);
        if (found == IPV4B_ENTRY_ERROR) {
            ipv4b_error_queue_pass(self, &slot);
        }
    }
    free(slot);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *
ipv4b_collect_errors(PyObject *op, PyObject *Py_UNUSED(unused))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    size_t errors, stamps;
    int r = 0;

    Py_BEGIN_CRITICAL_SECTION(op);
    if (self->options.recv_errors || self->stamping.asked) {
        r = collect(self);
    }
    errors = self->receiving.unread_errors.count;
    stamps = self->stamping.queue.count;
    Py_END_CRITICAL_SECTION();
    return r < 0 ? NULL : Py_BuildValue("nn", (Py_ssize_t)errors, (Py_ssize_t)stamps);
}
