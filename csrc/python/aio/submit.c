/* submit.c - what a program sends: see core.h for the locking rule.
 *
 * The first datagram of an iteration of the event loop goes out at once, so that a lone one does not
 * wait. Those behind it, and all that a protocol sends while it is given a batch, are copied into
 * the outbox and go together: when the batch ends, at the start of the next iteration, or when there
 * are enough of them.
 */
#include "python/aio/submit.h"

#include "core/send.h"
#include "python/base/args.h"
#include "python/base/buffers.h"
#include "python/base/locks.h"
#include "python/io/batch.h"
#include "python/io/loop.h"
#include "python/message/message.h"
#include "python/values/addr.h"

/* What goes together: two runs of the longest, and slots that have room on the stack. */
enum { TOGETHER_BYTES = 128 * 1024, TOGETHER = 256 };

/* A few datagrams on their way to the kernel. */
typedef struct {
    ipv4b_slot *slots;
    size_t n;
    size_t settled; /* how many of sender.done were made known */
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

/* Hands over what is left of it, without waiting. Returns how many were taken, or -1 with *error;
 * then an exception is set, but for EAGAIN. *foreign says that it is no datagram's. */
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
        /* Here, since the table is the connection's. */
        ipv4b_send_plan(&s->sender, s->slots, s->n, io.flags, conn->sending.refusals);
        s->planned = true;
    }
    done = ipv4b_conn_run(conn, &io);
    if (s->sender.refused != 0) {
        ipv4b_batch_note_refusals(conn, &s->sender, s->slots);
    }
    if (s->sender.late != 0) {
        conn->batches.pending_error[IPV4B_WRITE] = s->sender.late;
    }
    Py_END_CRITICAL_SECTION();
    *error = done < 0 ? io.error : 0;
    *foreign = done < 0 && io.foreign;
    return done;
}

/* Tells the transport of the exception that is set. Returns 0, or -1 with what that raised. */
static int
report_failure(ipv4b_core_object *self)
{
    PyObject *error = ipv4b_core_take_exception();
    int r = ipv4b_core_tell(self, "_send_failed", error);

    Py_DECREF(error);
    return r;
}

/* The report of an earlier datagram that came instead of an error of this one. */
static int
report_late(ipv4b_core_object *self)
{
    int r;

    Py_BEGIN_CRITICAL_SECTION(self->conn);
    r = ipv4b_conn_raise_pending(self->conn, IPV4B_WRITE);
    Py_END_CRITICAL_SECTION();
    return r < 0 ? report_failure(self) : 0;
}

/* Which errno is waited for. */
static ipv4b_blocked
blocked_by(int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK) {
        return IPV4B_UNTIL_WRITABLE;
    }
    return error == ENOBUFS ? IPV4B_UNTIL_BUFFERS : IPV4B_FREE;
}

/* Those that are dealt with wait no longer. */
static void
settle(ipv4b_core_object *self, ipv4b_outbox *box, const size_t *places, submission *s)
{
    size_t count = s->sender.done - s->settled, bytes = 0;

    while (s->settled < s->sender.done) {
        size_t k = s->settled++;

        bytes += ipv4b_outbox_remove(box, places[s->sender.planned ? s->sender.plan->order[k] : k]);
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!self->discard) { /* else they are counted no more */
        self->waiting_bytes -= bytes;
        self->waiting_count -= count;
    }
    Py_END_CRITICAL_SECTION();
}

/* Hands over the first of a box. Returns 0, or -1 with an exception. */
static int
send_some(ipv4b_core_object *self, ipv4b_outbox *box, ipv4b_blocked *blocked)
{
    ipv4b_slot slots[TOGETHER];
    struct iovec iov[TOGETHER];
    size_t places[TOGETHER];
    submission s = {.slots = slots};
    int r = 0;

    s.n = ipv4b_outbox_slots(box, slots, iov, places, TOGETHER);
    submission_begin(self->conn, &s);
    while (r == 0 && s.sender.done < s.n && !self->discard && *blocked == IPV4B_FREE) {
        int error;
        bool foreign;

        if (submission_send(self->conn, &s, &error, &foreign) >= 0) {
            settle(self, box, places, &s);
            r = report_late(self);
            continue;
        }
        *blocked = blocked_by(error);
        if (*blocked != IPV4B_FREE) {
            PyErr_Clear();
        }
        else if (foreign) {
            r = -1;
        }
        else {
            ipv4b_send_skip(&s.sender);
            settle(self, box, places, &s);
            r = report_failure(self);
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

/* Has the loop call end_turn: until then what is sent waits for more of the same iteration. */
static void
begin_turn(ipv4b_core_object *self)
{
    PyObject *handle;

    if (PyThread_get_thread_ident() != self->thread) {
        return; /* the loop may sleep: it cannot be told to end the turn */
    }
    handle = PyObject_CallOneArg(self->call_soon, self->end_turn);
    if (handle == NULL) {
        PyErr_Clear(); /* the loop is closed; so each goes at once */
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
        /* There is no memory: they are lost, as in a network. */
        ipv4b_outbox_clear(&self->outbox);
    }
    ipv4b_outbox_free(&self->outbox);
    self->outbox = *box;
    Py_END_CRITICAL_SECTION();
}

int
ipv4b_core_flush(ipv4b_core_object *self)
{
    ipv4b_outbox box = {0};
    ipv4b_blocked blocked = IPV4B_FREE;
    ipv4b_blocked before;
    PyObject *type, *value, *traceback;
    bool mine;
    int r;

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
        begin_turn(self); /* error_received has sent some, or an exception is in the way */
    }
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

const char ipv4b_core_append_doc[] = "append($self, messages, /)\n--\n\n"
                                     "Copy each Message of a list behind what waits.";

PyObject *
ipv4b_core_append(PyObject *op, PyObject *messages)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyObject *tuple = PySequence_Tuple(messages);
    int r = tuple == NULL ? -1 : 0;

    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(tuple); i++) {
        ipv4b_message_object *m = (ipv4b_message_object *)PyTuple_GET_ITEM(tuple, i);

        if (!PyObject_TypeCheck((PyObject *)m, self->state->message_type)) {
            PyErr_Format(PyExc_TypeError, "messages[%zd]: a Message is required, not %.100s", i,
                         Py_TYPE((PyObject *)m)->tp_name);
            r = -1;
            break;
        }
        Py_BEGIN_CRITICAL_SECTION2(op, m);
        r = append(self, m->header.msg_namelen == 0 ? NULL : &m->name, &m->header);
        Py_END_CRITICAL_SECTION2();
    }
    Py_XDECREF(tuple);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* A host that is no address in digits: socket takes names, and resolves them. New, or NULL. */
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
        /* Of these nobody can change what they say. */
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

/* Sends one datagram now. Returns 1 if it waits for room, 0, or -1 with an exception. */
static int
send_now(ipv4b_core_object *self, const struct msghdr *h)
{
    ipv4b_slot slot = {.msg_hdr = *h};
    submission s = {.slots = &slot, .n = 1};
    int error;
    bool foreign;

    if (submission_send(self->conn, &s, &error, &foreign) >= 0) {
        begin_turn(self);
        return report_late(self);
    }
    if (blocked_by(error) != IPV4B_FREE) {
        PyErr_Clear();
        return 1;
    }
    return foreign ? -1 : report_failure(self);
}

/* Sends a datagram, or puts it to those that wait. Returns 0, or -1 with an exception. */
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
    full = self->waiting_bytes >= TOGETHER_BYTES || self->waiting_count >= TOGETHER;
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
    if (PyObject_GetBuffer(values[0], &view, PyBUF_SIMPLE) < 0) {
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
