/* flush.c - from the outbox to the kernel: see core.h for the locking rule. */
#include "python/aio/flush.h"

#include "core/send.h"
#include "python/base/locks.h"
#include "python/io/batch.h"
#include "python/io/loop.h"

/* Datagrams that a flush hands to the kernel together. */
typedef struct {
    ipv4b_slot *slots;
    size_t n;
    size_t settled; /* how many of sender.done were reported */
    bool planned;   /* ipv4b_send_plan was called */
    ipv4b_sender sender;
} submission;

static int
attempt_send(int fd, ipv4b_io *io)
{
    submission *s = io->arg;
    size_t done;

    if (!s->planned) {
        ipv4b_send_plan(&s->sender, s->slots, s->n, io->flags, NULL);
        s->planned = true;
    }
    done = ipv4b_send(fd, s->slots, s->n, io->flags, &s->sender);
    return done == 0 ? -s->sender.error : (int)done;
}

/* Takes the memory of the connection's last plan, if nobody has it. */
static void
submission_begin(ipv4b_conn_object *conn, submission *s)
{
    Py_BEGIN_CRITICAL_SECTION(conn);
    s->sender.gso = conn->sending.gso && s->n > 1;
    s->sender.reorder = true;
    if (s->sender.gso) {
        s->sender.plan = conn->sending.plan;
        conn->sending.plan = NULL;
    }
    Py_END_CRITICAL_SECTION();
}

static void
submission_end(ipv4b_conn_object *conn, submission *s)
{
    Py_BEGIN_CRITICAL_SECTION(conn);
    if (conn->sending.plan == NULL) {
        conn->sending.plan = s->sender.plan;
    }
    else {
        ipv4b_gso_plan_free(s->sender.plan);
    }
    Py_END_CRITICAL_SECTION();
}

/* Hands the rest over without waiting. Returns how many the kernel took, or -1 with *error and
 * an exception (none for EAGAIN). *foreign says that the error is not a datagram's. */
static int
submission_send(ipv4b_conn_object *conn, submission *s, int *error, bool *foreign)
{
    ipv4b_io io = {
        .direction = IPV4B_WRITE,
        .flags = MSG_DONTWAIT,
        .limit = -1,
        .quiet = true,
        .attempt = attempt_send,
        .arg = s,
    };
    int done;

    Py_BEGIN_CRITICAL_SECTION(conn);
    s->sender.recv_errors = conn->options.recv_errors;
    if (s->sender.gso && !s->planned && conn->sending.refusals != NULL) {
        /* Here, because the table belongs to the connection. */
        ipv4b_send_plan(&s->sender, s->slots, s->n, io.flags, conn->sending.refusals);
        s->planned = true;
    }
    done = ipv4b_conn_run(conn, &io);
    if (s->sender.refused != 0) {
        ipv4b_batch_note_refusals(conn, &s->sender, s->slots);
    }
    if (s->sender.pending != 0) {
        conn->batches.pending_error[IPV4B_WRITE] = s->sender.pending;
    }
    Py_END_CRITICAL_SECTION();
    *error = done < 0 ? io.error : 0;
    *foreign = done < 0 && io.foreign;
    return done;
}

int
ipv4b_core_report_failure(ipv4b_core_object *self)
{
    PyObject *error = ipv4b_core_take_exception();
    int r = ipv4b_core_tell(self, "_send_failed", error);

    Py_DECREF(error);
    return r;
}

int
ipv4b_core_report_late(ipv4b_core_object *self)
{
    int r;

    Py_BEGIN_CRITICAL_SECTION(self->conn);
    r = ipv4b_conn_raise_pending(self->conn, IPV4B_WRITE);
    Py_END_CRITICAL_SECTION();
    return r < 0 ? ipv4b_core_report_failure(self) : 0;
}

ipv4b_blocked
ipv4b_core_blocked_by(int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK) {
        return IPV4B_UNTIL_WRITABLE;
    }
    return error == ENOBUFS ? IPV4B_UNTIL_BUFFERS : IPV4B_FREE;
}

int
ipv4b_core_send_one(ipv4b_core_object *self, const struct msghdr *h, int *error, bool *foreign)
{
    ipv4b_slot slot = {.msg_hdr = *h};
    submission s = {.slots = &slot, .n = 1};

    return submission_send(self->conn, &s, error, foreign);
}

/* Removes the finished ones. */
static void
settle(ipv4b_core_object *self, ipv4b_outbox *box, const size_t *places, submission *s)
{
    size_t count = s->sender.done - s->settled, bytes = 0;

    while (s->settled < s->sender.done) {
        size_t k = s->settled++;

        bytes += ipv4b_outbox_remove(box, places[s->sender.planned ? s->sender.plan->order[k] : k]);
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!self->discard) { /* otherwise they are not counted */
        self->waiting_bytes -= bytes;
        self->waiting_count -= count;
    }
    Py_END_CRITICAL_SECTION();
}

/* Hands over the first of a box. Returns 0, or -1 with an exception. */
static int
send_some(ipv4b_core_object *self, ipv4b_outbox *box, ipv4b_blocked *blocked)
{
    ipv4b_slot slots[IPV4B_TOGETHER];
    struct iovec iov[IPV4B_TOGETHER];
    size_t places[IPV4B_TOGETHER];
    submission s = {.slots = slots};
    int r = 0;

    s.n = ipv4b_outbox_slots(box, slots, iov, places, IPV4B_TOGETHER);
    submission_begin(self->conn, &s);
    while (r == 0 && s.sender.done < s.n && !self->discard && *blocked == IPV4B_FREE) {
        int error;
        bool foreign;

        if (submission_send(self->conn, &s, &error, &foreign) >= 0) {
            settle(self, box, places, &s);
            r = ipv4b_core_report_late(self);
            continue;
        }
        *blocked = ipv4b_core_blocked_by(error);
        if (*blocked != IPV4B_FREE) {
            PyErr_Clear();
        }
        else if (foreign) {
            r = -1;
        }
        else {
            ipv4b_send_skip(&s.sender);
            settle(self, box, places, &s);
            r = ipv4b_core_report_failure(self);
        }
    }
    submission_end(self->conn, &s);
    return r;
}

/* Hands over a box until it is empty or nothing more goes. Returns 0, or -1 with an exception. */
static int
send_box(ipv4b_core_object *self, ipv4b_outbox *box, ipv4b_blocked *blocked)
{
    int r = 0;

    while (r == 0 && box->count > 0 && !self->discard && *blocked == IPV4B_FREE) {
        r = send_some(self, box, blocked);
    }
    return r;
}

void
ipv4b_core_begin_turn(ipv4b_core_object *self)
{
    PyObject *handle;

    if (PyThread_get_thread_ident() != self->thread) {
        return; /* the loop may sleep, and cannot be told to end the turn */
    }
    handle = PyObject_CallOneArg(self->call_soon, self->end_turn);
    if (handle == NULL) {
        PyErr_Clear(); /* the loop is closed, so each goes at once */
    }
    self->turn = handle != NULL;
    Py_XDECREF(handle);
}

/* Puts what a flush has left before what was appended meanwhile. */
static void
put_back(ipv4b_core_object *self, ipv4b_outbox *box)
{
    Py_BEGIN_CRITICAL_SECTION(self);
    self->flushing = false;
    if (self->discard) {
        ipv4b_outbox_clear(box);
        self->discard = false;
    }
    if (ipv4b_outbox_join(box, &self->outbox) < 0) {
        /* Without memory they are lost, as a network loses datagrams. */
        ipv4b_outbox_clear(&self->outbox);
    }
    ipv4b_outbox_free(&self->outbox);
    self->outbox = *box;
    Py_END_CRITICAL_SECTION();
}

/* One flush. Returns 0, or -1 with an exception. *again says that there is more, which no turn of the
 * loop is going to send. */
static int
flush_once(ipv4b_core_object *self, bool *again)
{
    ipv4b_outbox box = {0};
    ipv4b_blocked blocked = IPV4B_FREE;
    ipv4b_blocked before;
    PyObject *type, *value, *traceback;
    bool mine;
    int r;

    *again = false;
    Py_BEGIN_CRITICAL_SECTION(self);
    mine = !self->flushing && self->outbox.count > 0;
    if (mine) {
        box = self->outbox;
        self->outbox = (ipv4b_outbox){0};
        self->flushing = true;
    }
    Py_END_CRITICAL_SECTION();
    if (!mine) {
        return 0;
    }
    r = send_box(self, &box, &blocked);
    put_back(self, &box);
    before = self->blocked;
    self->blocked = blocked;
    PyErr_Fetch(&type, &value, &traceback);
    if (blocked == IPV4B_FREE && self->outbox.count > 0 && !self->turn) {
        ipv4b_core_begin_turn(
            self); /* error_received has sent some, or an exception is in the way */
    }
    /* Another thread than the loop's cannot have the loop send what was appended meanwhile. */
    *again = r == 0 && blocked == IPV4B_FREE && self->outbox.count > 0 && !self->turn &&
             PyThread_get_thread_ident() != self->thread;
    if (before != IPV4B_FREE || blocked != IPV4B_FREE || self->closing) {
        PyObject *number = PyLong_FromLong((long)blocked);

        if (number == NULL || ipv4b_core_tell(self, "_flushed", number) < 0) {
            r = -1;
        }
        Py_XDECREF(number);
    }
    if (type != NULL) {
        PyErr_Restore(type, value, traceback);
    }
    return r;
}

int
ipv4b_core_flush(ipv4b_core_object *self)
{
    bool again;
    int r;

    do {
        r = flush_once(self, &again);
    } while (r == 0 && again);
    return r;
}

const char ipv4b_core_flush_doc[] = "flush($self, /)\n--\n\n"
                                    "Hand over what waits.";

PyObject *
ipv4b_core_flush_method(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return ipv4b_core_flush((ipv4b_core_object *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

const char ipv4b_core_end_turn_doc[] =
    "end_turn($self, /)\n--\n\n"
    "For call_soon: hand over what was sent in the iteration of the loop before this one.";

PyObject *
ipv4b_core_end_turn(PyObject *op, PyObject *unused)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;

    self->turn = false;
    return self->blocked == IPV4B_FREE ? ipv4b_core_flush_method(op, unused) : Py_NewRef(Py_None);
}

const char ipv4b_core_discard_doc[] = "discard($self, /)\n--\n\n"
                                      "Forget what waits, and send nothing from now on.";

PyObject *
ipv4b_core_discard(PyObject *op, PyObject *Py_UNUSED(unused))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;

    Py_BEGIN_CRITICAL_SECTION(self);
    self->discard = self->flushing;
    ipv4b_outbox_clear(&self->outbox);
    self->waiting_bytes = self->waiting_count = 0;
    self->lost = true;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}
