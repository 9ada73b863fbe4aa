/* batch.c - the batch engine: see batch.h for the locking rule.
 *
 * A call goes in turns of at most IPV4B_TURN messages, and a turn through four steps. gather.c pins the
 * turn's messages and fills the scratch arrays. The loop in loop.c makes the system call.
 * ipv4b_gather_settle writes the results into the messages that were moved and takes their pins off,
 * and ipv4b_gather_end those of the others. Between two turns a call looks at signals, at close() and
 * at the deadline.
 */
#include "python/io/batch.h"

#include "core/path.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/count.h"
#include "python/io/descriptor.h"
#include "python/io/loop.h"
#include "python/io/pace.h"
#include "python/io/read_fileno.h"
#include "python/io/tx_timestamps.h"
#include "python/io/waiting.h"

/* Makes the plan of a turn; `refusals` is NULL for none. */
static __attribute__((noinline)) void
batch_plan(ipv4b_batch *b, int flags, const ipv4b_refusals *refusals)
{
    ipv4b_send_plan(&b->sender, b->scratch.slots, b->pinned, flags, refusals);
    b->begun = true;
}

static int
attempt_write(int fd, ipv4b_io *io)
{
    ipv4b_batch *b = io->arg;
    size_t done;

    if (!b->begun) {
        batch_plan(b, io->flags, NULL);
    }
    if (b->pace != NULL) {
        return ipv4b_pace_attempt(fd, io);
    }
    done = ipv4b_send(fd, b->scratch.slots, b->pinned, io->flags, &b->sender);
    return done == 0 ? -b->sender.error : (int)done;
}

void
ipv4b_batch_note_refusals(ipv4b_conn_object *conn, ipv4b_sender *sender, const ipv4b_slot *slots)
{
    ipv4b_gso_plan *plan = sender->plan;
    int64_t now = ipv4b_now();

    IPV4B_STORE_RELAXED(conn->sending.gso_error, sender->refused);
    sender->refused = 0;
    if (plan->unable) {
        IPV4B_STORE_RELAXED(conn->sending.gso, false);
        return;
    }
    if (conn->sending.refusals == NULL) {
        conn->sending.refusals = ipv4b_refusals_new();
    }
    for (size_t i = 0; conn->sending.refusals != NULL && i < plan->path_count; i++) {
        ipv4b_path *path = &plan->paths[i];
        const struct msghdr *h = &slots[path->message].msg_hdr;

        if (path->refused != 0 && !path->told) {
            path->told = true;
            ipv4b_refusals_add(conn->sending.refusals, h, ipv4b_path_hash(h), path->refused, now);
        }
    }
}

void
ipv4b_batch_note_write(ipv4b_batch *b, int error)
{
    if (error != 0 && b->start < b->pinned) {
        ipv4b_message_object *m = b->scratch.owners[ipv4b_turn_at(b)];

        IPV4B_STORE_RELAXED(m->error, error);
        b->told = true;
    }
    if (b->sender.pending != 0) {
        b->conn->batches.pending_error[IPV4B_WRITE] = b->sender.pending;
    }
}

/* Goes once through the I/O loop. `direction` is the batch's. Inlined where it is a constant,
 * because most of a call's own instructions are decisions. */
static inline __attribute__((always_inline)) Py_ssize_t
batch_move(ipv4b_batch *b, ipv4b_io *io, ipv4b_direction direction)
{
    int done;

    if (direction == IPV4B_WRITE && b->sender.gso && !b->begun &&
        b->conn->sending.refusals != NULL) {
        batch_plan(
            b, io->flags,
            b->conn->sending.refusals); /* here, because the table belongs to the connection */
    }
    if (direction == IPV4B_WRITE) {
        b->sender.recv_errors = b->conn->options.recv_errors;
    }
    io->direction = direction;
    io->attempt = direction == IPV4B_READ ? ipv4b_io_recv : attempt_write;
    io->slots = b->scratch.slots;
    io->n = b->pinned;
    io->arg = b;
    done = ipv4b_conn_run(b->conn, io);
    if (direction == IPV4B_WRITE && b->sender.refused != 0) {
        /* Before a message of such a path can be released. */
        ipv4b_batch_note_refusals(b->conn, &b->sender, b->scratch.slots);
    }
    if (direction == IPV4B_WRITE && done > 0 && b->pace != NULL) {
        ipv4b_pace_note(b, (size_t)done);
    }
    if (direction == IPV4B_WRITE && done > 0 && b->sender.request != NULL) {
        ipv4b_tx_note(b, (size_t)done);
    }
    if (done > 0) {
        ipv4b_gather_settle(b, (size_t)done);
    }
    if (direction == IPV4B_WRITE) {
        int error = done < 0 ? io->error : b->sender.error;

        if (error != 0 || b->sender.pending != 0) {
            ipv4b_batch_note_write(b, error);
        }
    }
    else if (io->pending != 0) {
        b->conn->batches.pending_error[IPV4B_READ] = io->pending;
        ipv4b_conn_announce(b->conn);
    }
    return done;
}

Py_ssize_t
ipv4b_batch_move(ipv4b_batch *b, ipv4b_io *io)
{
    return batch_move(b, io, b->direction);
}

bool
ipv4b_batch_is_before(const ipv4b_batch *b, int64_t limit)
{
    int64_t now = ipv4b_now();

    return now < limit && now < b->conn->waiting.deadline[b->direction];
}

bool
ipv4b_batch_has_more(const ipv4b_batch *b)
{
    return b->first + b->pinned < b->n;
}

/* The later turns of read_batch and write_batch, without waiting, as long as a turn moves all of
 * its messages. The next call reports what ended them. Returns 0, or -1 with a signal handler's
 * exception. */
static __attribute__((noinline)) int
run_later(ipv4b_batch *b, ipv4b_io *io)
{
    io->flags |= MSG_DONTWAIT;
    while (b->start == b->pinned && ipv4b_batch_has_more(b)) {
        Py_ssize_t done;

        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (!b->conn->life.open || !ipv4b_batch_is_before(b, IPV4B_FOREVER)) {
            break;
        }
        if (ipv4b_gather_next(b) < 0) {
            PyErr_Clear();
            break;
        }
        done = ipv4b_batch_move(b, io);
        if (done < 0 && io->foreign) {
            return -1;
        }
        if (done < 0) {
            PyErr_Clear();
            if (b->direction == IPV4B_READ && io->error != EAGAIN && io->error != EBADF) {
                b->conn->batches.pending_error[IPV4B_READ] = io->error;
                ipv4b_conn_announce(b->conn);
            }
            break;
        }
    }
    return 0;
}

/* The whole of read_batch or write_batch. Returns 0, or -1 with an exception. */
static inline __attribute__((always_inline)) int
run_once(ipv4b_batch *b, ipv4b_io *io, ipv4b_direction direction)
{
    if (b->pinned == 0) {
        return 0;
    }
    if (batch_move(b, io, direction) < 0) {
        return -1;
    }
    return b->start == b->pinned && ipv4b_batch_has_more(b) ? run_later(b, io) : 0;
}

static int
run_read(ipv4b_batch *b, ipv4b_io *io)
{
    return run_once(b, io, IPV4B_READ);
}

static int
run_write(ipv4b_batch *b, ipv4b_io *io)
{
    return run_once(b, io, IPV4B_WRITE);
}

int
ipv4b_batch_annotate(size_t index, size_t written)
{
    PyObject *type, *value, *traceback, *at, *count;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    at = PyLong_FromSize_t(index);
    count = PyLong_FromSize_t(written);
    if (at == NULL || count == NULL || PyObject_SetAttrString(value, "index", at) < 0 ||
        PyObject_SetAttrString(value, "written", count) < 0) {
        /* MemoryError: the two attributes must exist */
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    else {
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(at);
    Py_XDECREF(count);
    return -1;
}

/* Releases the rest of a call that failed. */
static void
batch_end_failed(ipv4b_batch *b, ipv4b_outcome rest)
{
    ipv4b_message_object *failed;
    int error;

    if (!b->told) {
        ipv4b_gather_end(b, rest);
        return;
    }
    /* It keeps its errno, also if it stands in the list again. */
    failed = (ipv4b_message_object *)Py_NewRef(b->scratch.owners[ipv4b_turn_at(b)]);
    error = failed->error;
    ipv4b_gather_end(b, rest);
    IPV4B_STORE_RELAXED(failed->error, error);
    Py_DECREF((PyObject *)failed);
}

/* Makes the call with its messages gathered. Returns 0, or -1 with an exception. */
static inline __attribute__((always_inline)) int
batch_run(ipv4b_batch *b, ipv4b_io *io, const ipv4b_batch_kind *kind)
{
    if (b->pinned > 0 && b->conn->batches.pending_error[b->direction] != 0 &&
        ipv4b_conn_raise_pending(b->conn, b->direction) < 0) {
        return kind->whole ? ipv4b_batch_annotate(0, 0) : -1;
    }
    return kind->run(b, io);
}

/* A call from its first step to its last, with parsed arguments and the connection locked. */
static inline __attribute__((always_inline)) PyObject *
batch_locked(PyObject *self, const ipv4b_batch_kind *kind, ipv4b_forwarding *forward,
             ipv4b_pace *pace, PyObject *msgs, PyObject *flags)
{
    const ipv4b_direction direction = kind->direction;
    ipv4b_batch b;
    ipv4b_io io;
    long long number = 0;
    PyObject *list, *all;
    bool begun;
    int r;

    if (flags != NULL && ipv4b_parse_int(flags, "flags", 0, INT_MAX, &number) < 0) {
        return NULL;
    }
    io.flags = (int)number;
    io.limit = -1;
    io.take_unread = NULL;
    io.quiet = false;
    io.pending = 0;
    /* Member by member: most of the struct is written before it is read, so zeroing it would
     * cost time. */
    b.conn = (ipv4b_conn_object *)self;
    b.direction = direction;
    b.forward = forward;
    b.pace = pace;
    b.turn = IPV4B_TURN;
    b.first = b.moved = 0;
    if (direction == IPV4B_WRITE) {
        b.sender.reorder = kind->whole;
        b.sender.gso = b.conn->sending.gso;
        b.sender.plan = NULL;
        b.request = NULL;
        b.sender.error = b.sender.refused = b.sender.pending = 0;
        if (pace != NULL) {
            b.turn = ipv4b_pace_turn(pace, &b.sender.gso);
        }
    }
    IPV4B_STORE_RELAXED(b.conn->batches.last_count[direction], 0);
    if (!b.conn->life.open) {
        (void)ipv4b_conn_fileno(b.conn, direction == IPV4B_READ ? "read" : "write");
        if (kind->whole) {
            (void)ipv4b_batch_annotate(0, 0);
        }
        return NULL;
    }
    list = ipv4b_gather_list(msgs);
    if (list == NULL) {
        return NULL;
    }
    if (ipv4b_count_prepare(b.conn->state, (size_t)PySequence_Fast_GET_SIZE(list), &all) < 0) {
        Py_DECREF(list);
        return NULL;
    }
    begun = ipv4b_gather_begin(&b, list, kind->whole) == 0;
    r = begun ? batch_run(&b, &io, kind) : -1;
    if (begun && r < 0) {
        batch_end_failed(&b, kind->whole ? IPV4B_CANCELED : IPV4B_LEFT);
    }
    else {
        ipv4b_gather_end(&b, IPV4B_LEFT);
    }
    IPV4B_STORE_RELAXED(b.conn->batches.last_count[direction], b.moved);
    Py_DECREF(list);
    if (r == 0 && b.moved == b.n && all != NULL) {
        return all;
    }
    Py_XDECREF(all);
    return r < 0 ? NULL : ipv4b_count_get(b.conn->state, b.moved);
}

PyObject *
ipv4b_batch_call(PyObject *self, const ipv4b_batch_kind *kind, ipv4b_forwarding *forward,
                 ipv4b_pace *pace, PyObject *msgs, PyObject *flags)
{
    PyObject *result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = batch_locked(self, kind, forward, pace, msgs, flags);
    Py_END_CRITICAL_SECTION();
    return result;
}

const char ipv4b_read_batch_doc[] =
    "read_batch($self, /, msgs, flags=0)\n--\n\n"
    "Receive datagrams into `msgs`, a list of Message, and return how many came.\n\n"
    "Waits until there is at least one, within the timeout, and then takes what is there without\n"
    "waiting for more. The first so many messages have n, nn, flags and addr set; the others are\n"
    "as they were. `flags` are MSG_* of recvmsg(2); MSG_DONTWAIT never waits. One system call\n"
    "(recvmmsg(2)) takes 1024 messages. An empty list gives 0.\n\n"
    "Raises TypeError, ValueError or RuntimeError that names the message, with nothing read, for\n"
    "an item that is no Message, stands in the list twice, has a read-only buffer or is in use by\n"
    "another call; and OSError: TimeoutError, BlockingIOError, EBADF when closed meanwhile.";

PyObject *
ipv4b_read_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs", "flags", NULL};
    static const ipv4b_signature signature = {"read_batch", names, 1};
    static const ipv4b_batch_kind kind = {IPV4B_READ, false, run_read};
    PyObject *result;
    PyObject *values[2] = {NULL};

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    result = batch_locked(self, &kind, NULL, NULL, values[0], values[1]);
    Py_END_CRITICAL_SECTION();
    return result;
}

const char ipv4b_write_batch_doc[] =
    "write_batch($self, /, msgs, flags=0)\n--\n\n"
    "Send `msgs`, a list of Message, and return how many the kernel took.\n\n"
    "Each goes to its addr, or to the peer of a connected socket, with all of its buffers and its\n"
    "control data. Waits for room for the first one, within the timeout. A count below the\n"
    "list's length means that the next message failed or found no room: call again from there\n"
    "to go on, or to get its error. `flags` are MSG_* of sendmsg(2). One system call\n"
    "(sendmmsg(2)) takes 1024 messages. An empty list gives 0. The order is that of the list;\n"
    "for several links with gso, write_all forms longer runs.\n\n"
    "Raises OSError only if the first message failed, and then sets its errno; and TypeError,\n"
    "ValueError or RuntimeError that names the message, with nothing sent, for an item that is no\n"
    "Message, has an oob that does not parse, or is being read into by another call.";

PyObject *
ipv4b_write_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs", "flags", NULL};
    static const ipv4b_signature signature = {"write_batch", names, 1};
    static const ipv4b_batch_kind kind = {IPV4B_WRITE, false, run_write};
    PyObject *result;
    PyObject *values[2] = {NULL};

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    result = batch_locked(self, &kind, NULL, NULL, values[0], values[1]);
    Py_END_CRITICAL_SECTION();
    return result;
}
