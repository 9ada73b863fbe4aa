/* batch.c - the batch engine: see batch.h for the locking rule.
 *
 * A call goes through four steps. ipv4b_gather pins every message of the list and fills the scratch
 * arrays, or raises with nothing changed (gather.c). The loop in loop.c makes the system call.
 * ipv4b_gather_settle writes the results into the messages that were moved and takes their pins off,
 * and ipv4b_gather_end those of the others. Nothing after ipv4b_gather looks at the list again, so it
 * does not matter what another thread does to it.
 */
#include "python/io/batch.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/io/gather.h"
#include "python/io/loop.h"
#include "python/io/waiting.h"

static int
attempt_write(int fd, ipv4b_io *io)
{
    ipv4b_batch *b = io->arg;
    size_t done =
        ipv4b_send(fd, b->scratch.slots + b->start, b->pinned - b->start, io->flags, &b->sender);

    return done == 0 ? -b->sender.error : (int)done;
}

/* After a write: `error` belongs to the first message that was not taken, where the kernel told. */
static void
note_refusals(const ipv4b_batch *b, int error)
{
    if (error != 0 && b->start < b->pinned) {
        ipv4b_message_object *m = b->scratch.owners[b->start];

        IPV4B_STORE_RELAXED(m->error, error);
    }
    if (b->sender.refused != 0) {
        IPV4B_STORE_RELAXED(b->conn->sending.gso, false);
        IPV4B_STORE_RELAXED(b->conn->sending.gso_error, b->sender.refused);
    }
}

/* One turn of the I/O loop for what is still to be moved. Returns how many messages were, or -1
 * with an exception. */
static Py_ssize_t
move(ipv4b_batch *b, ipv4b_io *io)
{
    const ipv4b_direction direction = b->direction;
    int done;

    b->sender.gso = b->conn->sending.gso;
    b->sender.recv_errors = b->conn->options.recv_errors;
    io->direction = direction;
    io->attempt = direction == IPV4B_READ ? ipv4b_io_recv : attempt_write;
    io->slots = b->scratch.slots;
    io->n = b->pinned;
    io->arg = b;
    done = ipv4b_conn_run(b->conn, io);
    if (done > 0) {
        ipv4b_gather_settle(b, (size_t)done);
    }
    if (direction == IPV4B_READ && io->late != 0) {
        b->conn->batches.pending_error[IPV4B_READ] = io->late;
    }
    if (direction == IPV4B_WRITE) {
        note_refusals(b, done < 0 ? io->error : b->sender.error);
        if (b->sender.late != 0) {
            b->conn->batches.pending_error[IPV4B_WRITE] = b->sender.late;
        }
    }
    return done;
}

/* Whether an error ends the whole of write_all: what is wrong with the connection or the call, not
 * with one message. */
static bool
ends_all(int error)
{
    switch (error) {
    case 0: /* no OSError */
    case EAGAIN:
    case EBADF:
    case ENOMEM:
    case ENOTSOCK:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

/* Puts `index` and `written` on the OSError that is set. Returns -1. */
static Py_ssize_t
annotate(size_t index, size_t written)
{
    PyObject *type, *value, *traceback, *at, *count;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    at = PyLong_FromSize_t(index);
    count = PyLong_FromSize_t(written);
    if (at == NULL || count == NULL || PyObject_SetAttrString(value, "index", at) < 0 ||
        PyObject_SetAttrString(value, "written", count) < 0) {
        /* MemoryError; who counts on the two must not find them missing. */
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

/* Whether there is time left to wait for a write. */
static bool
is_before(const ipv4b_conn_object *conn, int64_t limit)
{
    int64_t now = ipv4b_now();

    return now < limit && now < conn->waiting.deadline[IPV4B_WRITE];
}

/* A full device queue (ENOBUFS; with IP_RECVERR the kernel tells) is waited for, 127 ms in all until
 * something goes out again. */
enum { NOBUFS_TRIES = 7, NOBUFS_FIRST_NS = 1000000 };

/* The whole of write_all. Returns how many messages were written, or -1 with an exception. */
static Py_ssize_t
run_all(ipv4b_batch *b, ipv4b_io *io, bool skip)
{
    size_t written = 0;
    int tries = 0;

    if (!(io->flags & MSG_DONTWAIT) && b->conn->waiting.timeout != 0) {
        io->limit = b->conn->waiting.timeout == IPV4B_FOREVER
                        ? IPV4B_FOREVER
                        : ipv4b_now() + b->conn->waiting.timeout;
    }
    for (size_t i = 0; i < b->pinned; i++) {
        IPV4B_STORE_RELAXED(((ipv4b_message_object *)b->scratch.owners[i])->error, 0);
    }
    while (b->start < b->pinned) {
        Py_ssize_t done = move(b, io);

        if (done >= 0) {
            written += (size_t)done;
            tries = 0;
        }
        else if (io->error == ENOBUFS && !io->wait_failed && tries < NOBUFS_TRIES &&
                 is_before(b->conn, io->limit)) {
            PyErr_Clear();
            if (ipv4b_conn_pause(b->conn, (int64_t)NOBUFS_FIRST_NS << tries++, io->limit) < 0) {
                return annotate(b->start, written);
            }
        }
        else if (!skip || io->wait_failed || ends_all(io->error)) {
            return annotate(b->start, written);
        }
        else {
            PyErr_Clear();
            ipv4b_gather_skip(b, 1);
            if (PyErr_CheckSignals() < 0) {
                return annotate(b->start, written);
            }
        }
    }
    return (Py_ssize_t)written;
}

/* A smaller int in place of one that nobody else has. Where there is no memory for it, the other's will
 * do: what was moved must be told. STEALS `all`. */
static PyObject *
lower_count(PyObject *all, Py_ssize_t done)
{
    PyObject *count = PyLong_FromSsize_t(done);

    if (count == NULL && Py_REFCNT(all) == 1 && PyLong_AsSsize_t(all) < (Py_ssize_t)PyLong_BASE) {
        PyErr_Clear();
#if PY_VERSION_HEX >= 0x030C0000
        ((PyLongObject *)all)->long_value.ob_digit[0] = (digit)done;
#else
        ((PyLongObject *)all)->ob_digit[0] = (digit)done;
#endif
        return all;
    }
    Py_DECREF(all);
    return count;
}

typedef enum { ONCE, ALL_RAISE, ALL_SKIP } batch_mode;

/* Arguments are sorted out; this is a call from its first step to its last, with the connection
 * locked. */
static PyObject *
batch_locked(PyObject *self, ipv4b_direction direction, batch_mode mode, PyObject *msgs,
             PyObject *flags)
{
    ipv4b_batch b = {.conn = (ipv4b_conn_object *)self, .direction = direction};
    ipv4b_io io = {.limit = -1};
    long long number = 0;
    PyObject *list, *all;
    Py_ssize_t done, n;

    if (flags != NULL && ipv4b_parse_int(flags, "flags", 0, INT_MAX, &number) < 0) {
        return NULL;
    }
    io.flags = (int)number;
    if (!b.conn->life.open) {
        (void)ipv4b_conn_fileno(b.conn, direction == IPV4B_READ ? "read" : "write");
        if (mode != ONCE) {
            (void)annotate(0, 0);
        }
        return NULL;
    }
    list = ipv4b_gather_list(msgs);
    if (list == NULL) {
        return NULL;
    }
    /* The most likely result, made before anything is moved that it would have to tell of. */
    n = PySequence_Fast_GET_SIZE(list);
    all = PyLong_FromSsize_t(n);
    if (all == NULL) {
        Py_DECREF(list);
        return NULL;
    }
    done = ipv4b_gather(&b, list);
    if (done == 0 && b.pinned > 0 && ipv4b_conn_raise_pending(b.conn, direction) < 0) {
        done = mode == ONCE ? -1 : annotate(0, 0);
    }
    if (done == 0) {
        done = mode != ONCE    ? run_all(&b, &io, mode == ALL_SKIP)
               : b.pinned == 0 ? 0
                               : move(&b, &io);
    }
    ipv4b_gather_end(&b);
    Py_DECREF(list);
    if (done < 0) {
        Py_DECREF(all);
        return NULL;
    }
    return done == n ? all : lower_count(all, done);
}

static PyObject *
batch_call(PyObject *self, ipv4b_direction direction, batch_mode mode, PyObject *msgs,
           PyObject *flags)
{
    PyObject *result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = batch_locked(self, direction, mode, msgs, flags);
    Py_END_CRITICAL_SECTION();
    return result;
}

const char ipv4b_read_batch_doc[] =
    "read_batch($self, /, msgs, flags=0)\n--\n\n"
    "Receive datagrams into `msgs`, a list of Message, and return how many came.\n\n"
    "Waits until there is at least one, within the timeout, and then takes what is there without\n"
    "waiting for more. The first so many messages have n, nn, flags and addr set; the others are\n"
    "as they were. `flags` are MSG_* of recvmsg(2); MSG_DONTWAIT never waits. One system call\n"
    "(recvmmsg(2)) does it. An empty list gives 0.\n\n"
    "Raises TypeError, ValueError or RuntimeError that names the message, with nothing read, for\n"
    "an item that is no Message, stands in the list twice, has a read-only buffer or is in use by\n"
    "another call; and OSError: TimeoutError, BlockingIOError, EBADF when closed meanwhile.";

PyObject *
ipv4b_read_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs", "flags", NULL};
    static const ipv4b_signature signature = {"read_batch", names, 1};
    PyObject *values[2] = {NULL};

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    return batch_call(self, IPV4B_READ, ONCE, values[0], values[1]);
}

const char ipv4b_write_batch_doc[] =
    "write_batch($self, /, msgs, flags=0)\n--\n\n"
    "Send `msgs`, a list of Message, and return how many the kernel took.\n\n"
    "Each goes to its addr, or to the peer of a connected socket, with all of its buffers and its\n"
    "control data. Waits for room for the first one, within the timeout. A count below the\n"
    "list's length means that the next message failed or found no room: call again from there\n"
    "to go on, or to get its error. `flags` are MSG_* of sendmsg(2). One system call\n"
    "(sendmmsg(2)) takes 1024 messages. An empty list gives 0.\n\n"
    "Raises OSError only if the first message failed, and then sets its errno; and TypeError,\n"
    "ValueError or RuntimeError that names the message, with nothing sent, for an item that is no\n"
    "Message, has an oob that does not parse, or is being read into by another call.";

PyObject *
ipv4b_write_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs", "flags", NULL};
    static const ipv4b_signature signature = {"write_batch", names, 1};
    PyObject *values[2] = {NULL};

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    return batch_call(self, IPV4B_WRITE, ONCE, values[0], values[1]);
}

const char ipv4b_write_all_doc[] =
    "write_all($self, /, msgs, flags=0, errors='raise')\n--\n\n"
    "Send every Message of `msgs`, in as many system calls as it takes; return how many went.\n\n"
    "Waits for room, for all of them together, within timeout and deadline. Each message's errno\n"
    "says what became of it: 0 if it went. errors='raise' stops at the first that fails;\n"
    "errors='skip' goes on past it. EINTR and EAGAIN are handled, and ENOBUFS is waited for,\n"
    "0.13 seconds at most until something goes out again.\n\n"
    "Raises OSError with two more attributes: index, of the message that failed, and written, how\n"
    "many had gone. With 'skip' that is for the connection's own troubles only: TimeoutError,\n"
    "BlockingIOError, EBADF when closed. TypeError, ValueError and RuntimeError are as in\n"
    "write_batch, with nothing sent.";

PyObject *
ipv4b_write_all(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs", "flags", "errors", NULL};
    static const ipv4b_signature signature = {"write_all", names, 1};
    PyObject *values[3] = {NULL};
    batch_mode mode = ALL_RAISE;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    if (values[2] != NULL) {
        if (!PyUnicode_Check(values[2]) ||
            (PyUnicode_CompareWithASCIIString(values[2], "raise") != 0 &&
             PyUnicode_CompareWithASCIIString(values[2], "skip") != 0)) {
            PyErr_Format(PyExc_ValueError, "errors: 'raise' or 'skip' is required, not %R",
                         values[2]);
            return NULL;
        }
        mode = PyUnicode_CompareWithASCIIString(values[2], "skip") == 0 ? ALL_SKIP : ALL_RAISE;
    }
    return batch_call(self, IPV4B_WRITE, mode, values[0], values[1]);
}
