/* deliver.c - what a wake-up of the event loop brings: see core.h for the locking rule.
 *
 * One receive fills an inbox, and each datagram goes to the protocol as bytes and an address. The
 * protocol may pause or close in the middle: what it has not got stays in the inbox, which is the
 * transport's then. Otherwise the inbox goes back at once, and one serves all transports.
 */
#include "python/aio/deliver.h"

#include "python/aio/flush.h"
#include "python/base/locks.h"
#include "python/io/loop.h"
#include "python/io/read_fileno.h"
#include "python/values/addr.h"

/* Datagrams of one wake-up. With 64, other callbacks of the loop wait for a tenth of a
 * millisecond, and the loop's own work is a small part of the time. */
enum { DELIVERED_MAX = 64 };

static ipv4b_inbox *
take_inbox(ipv4b_state *state)
{
    ipv4b_inbox *box = __atomic_exchange_n(&state->spare_inbox, NULL, __ATOMIC_ACQ_REL);

    return box == NULL ? ipv4b_inbox_new() : box;
}

/* How many slots a wake-up can use. A slot can hold several coalesced datagrams, so fewer may
 * do. */
static size_t
slots_wanted(const ipv4b_core_object *self)
{
    size_t wanted = self->received <= self->received_slots
                        ? IPV4B_INBOX_SLOTS
                        : IPV4B_INBOX_SLOTS * self->received_slots / self->received + 1;

    return wanted < IPV4B_INBOX_SLOTS ? wanted : IPV4B_INBOX_SLOTS;
}

/* Fills an inbox. Returns 0, or -1 with an exception, or -1 without one if there was nothing to
 * read. */
static int
receive(ipv4b_core_object *self)
{
    ipv4b_conn_object *conn = self->conn;
    ipv4b_io io = {
        .direction = IPV4B_READ,
        .flags = MSG_DONTWAIT,
        .limit = -1,
        .quiet = true,
        .attempt = ipv4b_io_recv,
    };
    int done;

    self->inbox = take_inbox(self->state);
    if (self->inbox == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    io.n = slots_wanted(self);
    ipv4b_inbox_prime(self->inbox, io.n);
    io.slots = self->inbox->slots;
    Py_BEGIN_CRITICAL_SECTION(conn);
    done = ipv4b_conn_raise_pending(conn, IPV4B_READ);
    if (done == 0) {
        done = ipv4b_conn_run(conn, &io);
        if (io.pending != 0) {
            conn->batches.pending_error[IPV4B_READ] = io.pending;
            ipv4b_conn_announce(conn);
        }
    }
    Py_END_CRITICAL_SECTION();
    if (done < 0) {
        ipv4b_core_release_inbox(self);
        return -1;
    }
    ipv4b_inbox_fill(self->inbox, (size_t)done);
    self->received_slots = (size_t)done;
    self->received = 0;
    return 0;
}

/* Gives the protocol the next datagram. Returns 0, or -1 with an exception; *delivered says whether
 * it is the protocol's. */
static int
deliver_next(ipv4b_core_object *self, bool *delivered)
{
    ipv4b_inbox *box = self->inbox;
    const struct sockaddr_in *name;
    size_t len;
    const unsigned char *bytes = ipv4b_inbox_peek(box, &len, &name);
    PyObject *data = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)len);
    PyObject *addr = data == NULL ? NULL : ipv4b_endpoint_cached(self->state, name);
    PyObject *result = NULL;

    *delivered = addr != NULL;
    if (addr != NULL) {
        PyObject *args[3] = {NULL, data, addr};

        Py_BEGIN_CRITICAL_SECTION(self);
        args[0] = Py_NewRef(self->protocol);
        Py_END_CRITICAL_SECTION();
        ipv4b_inbox_advance(box, len);
        self->received++;
        result = PyObject_VectorcallMethod(self->state->str_datagram_received, args,
                                           3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(args[0]);
    }
    Py_XDECREF(data);
    Py_XDECREF(addr);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether an exception stops an event loop. */
static bool
is_stop(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit) ||
           PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

/* Tells the transport of the exception that is set, by the method. Returns 0 or -1. */
static int
report(ipv4b_core_object *self, const char *method)
{
    PyObject *error;
    int r;

    if (is_stop()) {
        return -1;
    }
    error = ipv4b_core_take_exception();
    r = ipv4b_core_tell(self, method, error);
    Py_DECREF(error);
    return r;
}

/* Gives the protocol the datagrams of the inbox until it pauses or closes. Returns 0, or -1 with
 * an exception that ends the loop's callback. */
static int
deliver_all(ipv4b_core_object *self)
{
    int r = 0;

    for (int i = 0; r == 0 && i < DELIVERED_MAX; i++) {
        bool delivered;

        if (!self->reading || self->inbox == NULL || ipv4b_inbox_is_empty(self->inbox)) {
            break;
        }

        if (deliver_next(self, &delivered) < 0) {
            r = report(self, delivered ? "_callback_failed" : "_no_memory");
            if (!delivered) {
                return r;
            }
        }
    }
    if (self->inbox != NULL && ipv4b_inbox_is_empty(self->inbox)) {
        ipv4b_core_release_inbox(self);
    }
    return r;
}

/* Reads and delivers, with the callbacks' context entered. */
static int
read_once(ipv4b_core_object *self)
{
    int r = 0;

    if (self->inbox == NULL && receive(self) < 0) {
        r = PyErr_Occurred() == NULL ? 0 : report(self, "_read_failed"); /* not our wake-up */
    }
    if (self->inbox != NULL) {
        r = deliver_all(self);
    }
    return r;
}

/* Sends what the protocol has sent in its callbacks, and reads errors of the network and departure times. */
static int
after_delivery(ipv4b_core_object *self)
{
    if (ipv4b_core_flush(self) < 0) {
        return -1;
    }
    return (IPV4B_LOAD_RELAXED(self->conn->options.recv_errors) ||
            IPV4B_LOAD_RELAXED(self->conn->stamping.kinds) != 0) &&
                   self->reading
               ? ipv4b_core_tell(self, "_read_errors", Py_None)
               : 0;
}

/* Whether there are datagrams that no selector sees. */
static bool
is_more(ipv4b_core_object *self)
{
    ipv4b_conn_object *conn = self->conn;
    bool more;

    if (self->inbox != NULL) {
        return true;
    }
    Py_BEGIN_CRITICAL_SECTION(conn);
    more = conn->batches.pending_error[IPV4B_READ] != 0 ||
           ipv4b_unread_pending(&conn->receiving.unread, ipv4b_conn_splits(conn)) > 0 ||
           (conn->receiving.queue != NULL && ipv4b_gro_pending(conn->receiving.queue) > 0);
    Py_END_CRITICAL_SECTION();
    return more;
}

/* Has the loop call read_again in its next iteration, if that is needed. */
static int
schedule(ipv4b_core_object *self)
{
    PyObject *handle;

    if (!self->reading || self->again_due || !is_more(self)) {
        return 0;
    }
    handle = PyObject_CallOneArg(self->call_soon, self->read_again);
    self->again_due = handle != NULL;
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* The whole of a wake-up. */
static PyObject *
wake_up(ipv4b_core_object *self)
{
    PyObject *context;
    int r;

    if (!self->reading || self->delivering) {
        Py_RETURN_NONE;
    }
    /* A callback may replace the core and drop the transport's last reference to us. */
    Py_INCREF(self);
    context = Py_NewRef(self->context);
    self->delivering = true;
    r = PyContext_Enter(context);
    if (r == 0) {
        r = read_once(self);
        self->delivering = false;
        if (r < 0) {
            PyObject *type, *value, *traceback;

            PyErr_Fetch(&type, &value, &traceback);
            if (ipv4b_core_flush(self) < 0) {
                PyErr_WriteUnraisable((PyObject *)self);
            }
            if (schedule(self) < 0) {
                PyErr_WriteUnraisable((PyObject *)self);
            }
            PyErr_Restore(type, value, traceback);
        }
        else {
            r = after_delivery(self);
            if (r == 0) {
                r = schedule(self);
            }
        }
        if (PyContext_Exit(context) < 0) {
            r = -1;
        }
    }
    self->delivering = false;
    Py_DECREF(context);
    Py_DECREF(self);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

const char ipv4b_core_read_ready_doc[] =
    "read_ready($self, /)\n--\n\n"
    "For the loop's reader: receive one batch, and give each datagram to the protocol.";

PyObject *
ipv4b_core_read_ready(PyObject *op, PyObject *Py_UNUSED(unused))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;

    /* The queued datagrams come first, and read_again is scheduled for them. */
    return self->again_due ? Py_NewRef(Py_None) : wake_up(self);
}

const char ipv4b_core_read_again_doc[] =
    "read_again($self, /)\n--\n\n"
    "For call_soon: the same for what was read before and waits here.";

PyObject *
ipv4b_core_read_again(PyObject *op, PyObject *Py_UNUSED(unused))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;

    self->again_due = false;
    return wake_up(self);
}

const char ipv4b_core_give_back_doc[] =
    "give_back($self, /)\n--\n\n"
    "Leave to the connection what was read and not delivered: its next read gets that first.";

PyObject *
ipv4b_core_give_back(PyObject *op, PyObject *Py_UNUSED(unused))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    ipv4b_conn_object *conn = self->conn;
    ipv4b_unread_list left = {0};

    if (self->inbox == NULL) {
        Py_RETURN_NONE;
    }
    if (ipv4b_inbox_give_back(self->inbox, &left) < 0) {
        ipv4b_unread_clear(&left);
        return PyErr_NoMemory();
    }
    ipv4b_core_release_inbox(self);
    Py_BEGIN_CRITICAL_SECTION(conn);
    ipv4b_unread_prepend(&conn->receiving.unread, &left);
    ipv4b_conn_announce(conn);
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}
