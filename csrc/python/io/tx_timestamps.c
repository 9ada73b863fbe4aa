/* tx_timestamps.c - the times at which messages have left: see tx_timestamps.h for the locking rule. */
#include "python/io/tx_timestamps.h"

#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/io/error_queue.h"
#include "python/io/life.h"
#include "python/io/read_fileno.h"

static PyStructSequence_Field tx_timestamp_fields[] = {
    {"tx_id", "the Message.tx_id of the message, or of the messages of one run, that left"},
    {"kind", "a TimestampKind as an int: SCHED 1, SOFTWARE 2, HARDWARE 4"},
    {"ns", "the time in nanoseconds, of CLOCK_REALTIME; of HARDWARE by the device's own clock"},
    {NULL, NULL},
};

PyStructSequence_Desc ipv4b_tx_timestamp_desc = {
    .name = "ipv4batch.TxTimestamp",
    .doc = "When a message left (SO_TIMESTAMPING, socket(7)), from read_tx_timestamps().",
    .fields = tx_timestamp_fields,
    .n_in_sequence = 3,
};

int
ipv4b_tx_begin(ipv4b_batch *b)
{
    ipv4b_conn_stamping *stamping = &b->conn->stamping;

    if (b->request == NULL) {
        b->request = stamping->request;
        stamping->request = NULL;
    }
    if (b->request == NULL) {
        b->request = ipv4b_tx_request_new();
    }
    if (b->request == NULL ||
        ipv4b_tx_request_make(b->request, b->scratch.slots, b->pinned,
                              ipv4b_tx_kinds(stamping->kinds), stamping->last_id + 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    stamping->last_id += b->pinned;
    b->sender.request = b->request;
    return 0;
}

void
ipv4b_tx_note(const ipv4b_batch *b, size_t done)
{
    for (size_t k = b->start; k < b->start + done; k++) {
        size_t i = b->sender.planned ? b->sender.plan->order[k] : k;
        ipv4b_message_object *m = b->scratch.owners[i];

        Py_BEGIN_CRITICAL_SECTION(m);
        m->tx_id = b->request->ids[i];
        Py_END_CRITICAL_SECTION();
    }
}

void
ipv4b_tx_end(ipv4b_batch *b)
{
    ipv4b_tx_request **kept = &b->conn->stamping.request;

    if (*kept == NULL) {
        *kept = b->request;
    }
    else {
        ipv4b_tx_request_free(b->request);
    }
}

/* A new TxTimestamp, or NULL with an exception. */
static PyObject *
stamp_new(const ipv4b_conn_object *self, const ipv4b_tx_timestamp *stamp)
{
    PyObject *result = PyStructSequence_New(self->state->tx_timestamp_type);
    PyObject *values[] = {
        PyLong_FromUnsignedLongLong(stamp->id),
        PyLong_FromUnsignedLong(stamp->kind),
        PyLong_FromLongLong(stamp->ns),
    };
    bool complete = result != NULL;

    for (Py_ssize_t i = 0; i < 3; i++) {
        complete = complete && values[i] != NULL;
        if (result == NULL) {
            Py_XDECREF(values[i]);
        }
        else {
            PyStructSequence_SetItem(result, i, values[i]);
        }
    }
    if (!complete) {
        Py_CLEAR(result);
    }
    return result;
}

/* Moves stamps from the connection's queue to the list, up to `max` in all. Returns 0, or -1 with an
 * exception; the one that it was raised for stays. */
static int
take_stamps(ipv4b_conn_object *self, PyObject *list, long long max)
{
    ipv4b_tx_queue *queue = &self->stamping.queue;
    int r = 0;

    while (r == 0 && queue->count > 0 && PyList_GET_SIZE(list) < max) {
        PyObject *stamp = stamp_new(self, ipv4b_tx_queue_first(queue));

        r = stamp == NULL ? -1 : PyList_Append(list, stamp);
        Py_XDECREF(stamp);
        if (r == 0) {
            ipv4b_tx_queue_pop(queue);
        }
    }
    ipv4b_conn_announce(self);
    return r;
}

/* Whether another call has put stamps into the connection's queue. */
static int
find_stamps(ipv4b_conn_object *self, ipv4b_io *io)
{
    (void)io;
    ipv4b_conn_check_fork(self);
    return self->stamping.queue.count > 0 ? (int)IPV4B_ENTRY_KEPT : 0;
}

/* With the connection's lock: a new list of TxTimestamp, or NULL with an exception. */
static PyObject *
read_stamps(ipv4b_conn_object *self, long long max, bool wait)
{
    ipv4b_queued_error *slot = NULL;
    ipv4b_io io = {.take_unread = find_stamps};
    PyObject *list;
    int r = 0;

    if (ipv4b_conn_fileno(self, "read_tx_timestamps") < 0) {
        return NULL;
    }
    ipv4b_conn_check_fork(self);
    if (!self->stamping.asked) {
        PyErr_SetString(PyExc_ValueError,
                        "read_tx_timestamps: set tx_timestamps before the messages are written");
        return NULL;
    }
    list = PyList_New(0);
    ipv4b_error_queue_begin(self, &io, wait);
    while (list != NULL && r == 0 && PyList_GET_SIZE(list) < max) {
        ipv4b_entry found;

        ipv4b_error_queue_step(&io, wait && PyList_GET_SIZE(list) == 0);
        found = ipv4b_error_queue_next(self, &io, &slot, &self->stamping.waiting);
        if (found == IPV4B_ENTRY_ERROR) {
            ipv4b_error_queue_pass(self, &slot);
        }
        r = found == IPV4B_ENTRY_NONE ? -1 : take_stamps(self, list, max);
    }
    free(slot);
    if (list != NULL && PyErr_Occurred()) {
        /* The stamps that were found are not lost for it. The next call meets the same error. */
        if (PyList_GET_SIZE(list) > 0) {
            PyErr_Clear();
        }
        else {
            Py_CLEAR(list);
        }
    }
    return list;
}

const char ipv4b_read_tx_timestamps_doc[] =
    "read_tx_timestamps($self, /, max=64, wait=False)\n--\n\n"
    "Take up to `max` times at which messages have left, as a list of TxTimestamp.\n\n"
    "tx_timestamps must have been set when they were written. Without `wait` the list is empty\n"
    "when there is none; with it the call waits for the first one, within timeout and deadline.\n"
    "Network errors, which share the kernel's queue, stay for read_errors. The kernel drops "
    "stamps\n"
    "for which the socket's receive buffer has no room (SO_RCVBUF).\n\n"
    "Raises ValueError for max under 1 and when tx_timestamps was never set, NotImplementedError\n"
    "elsewhere than on Linux, and OSError (socket(7), SO_TIMESTAMPING).";

PyObject *
ipv4b_read_tx_timestamps(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *list;
    long long max;
    int wait;

    if (ipv4b_error_queue_parse_args("read_tx_timestamps", args, nargs, kwnames, &max, &wait) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(op);
    list = read_stamps((ipv4b_conn_object *)op, max, wait != 0);
    Py_END_CRITICAL_SECTION();
    return list;
}
