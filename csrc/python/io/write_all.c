/* write_all.c - calls that send every message and tell what became of each: see write_all.h. */
#include "python/io/write_all.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/batch.h"
#include "python/io/descriptor.h"
#include "python/io/pace.h"
#include "python/io/waiting.h"
#include "python/values/addr.h"

/* Whether an error ends write_all, because it is about the connection or the call and not about
 * one message. */
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

/* The places in the list of the turn's messages that are not dealt with, in the order in which they go.
 * New, or NULL. */
static PyObject *
list_left(const ipv4b_batch *b)
{
    PyObject *left = PyList_New((Py_ssize_t)(b->pinned - b->start));

    for (size_t k = b->start; left != NULL && k < b->pinned; k++) {
        PyObject *place = PyLong_FromSize_t(b->first + b->sender.plan->order[k]);

        if (place == NULL) {
            Py_CLEAR(left);
            break;
        }
        PyList_SET_ITEM(left, (Py_ssize_t)(k - b->start), place);
    }
    return left;
}

/* Puts `_left` on the exception that is set: what a plan has left of a turn, for callers in this
 * package that go on with it. `errno` cannot tell of a message that stands in the list twice. Returns -1. */
static int
annotate_left(const ipv4b_batch *b)
{
    PyObject *type, *value, *traceback, *left;

    PyErr_Fetch(&type, &value, &traceback);
    left = list_left(b);
    if (left == NULL || PyObject_SetAttrString(value, "_left", left) < 0) {
        /* MemoryError */
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    else {
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(left);
    return -1;
}

/* Puts `index` and `written` on the exception that is set, for the next message. Returns -1. */
static int
annotate_next(const ipv4b_batch *b)
{
    (void)ipv4b_batch_annotate(b->first + ipv4b_turn_at(b), b->moved);
    return b->sender.planned && b->sender.plan->shuffled ? annotate_left(b) : -1;
}

/* How often write_all waits for a full device queue (ENOBUFS, reported with IP_RECVERR): 127 ms
 * in all without progress. */
enum { NOBUFS_TRIES = 7, NOBUFS_FIRST_NS = 1000000 };

/* The rest of a turn of write_all. Returns 0, or -1 with an exception. */
static int
run_turn(ipv4b_batch *b, ipv4b_io *io, bool skip, int *tries)
{
    while (b->start < b->pinned) {
        bool moved =
            (b->pace == NULL || ipv4b_pace_pause(b, io) == 0) && ipv4b_batch_move(b, io) >= 0;

        if (moved) {
            *tries = 0;
        }
        else if (io->error == ENOBUFS && !io->wait_failed && *tries < NOBUFS_TRIES &&
                 ipv4b_batch_is_before(b, io->limit)) {
            PyErr_Clear();
            if (ipv4b_conn_pause(b->conn, io, (int64_t)NOBUFS_FIRST_NS << (*tries)++) < 0) {
                return io->foreign ? -1 : annotate_next(b);
            }
        }
        else if (io->foreign) {
            return -1; /* it is raised unchanged */
        }
        else if (!skip || io->wait_failed || ends_all(io->error)) {
            return annotate_next(b);
        }
        else {
            PyErr_Clear();
            ipv4b_gather_drop(b, 1, IPV4B_LEFT);
            ipv4b_send_skip(&b->sender);
            if (PyErr_CheckSignals() < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* The whole of a call. Returns 0, or -1 with an exception. */
static int
run_all(ipv4b_batch *b, ipv4b_io *io, bool skip)
{
    int tries = 0;

    if (b->conn->waiting.timeout == 0) {
        io->flags |= MSG_DONTWAIT;
    }
    if (b->pace != NULL) {
        b->pace->start = ipv4b_now();
    }
    else if (!(io->flags & MSG_DONTWAIT)) {
        io->limit = b->conn->waiting.timeout == IPV4B_FOREVER
                        ? IPV4B_FOREVER
                        : ipv4b_now() + b->conn->waiting.timeout;
    }
    for (;;) {
        if (run_turn(b, io, skip, &tries) < 0 ||
            (ipv4b_batch_has_more(b) && PyErr_CheckSignals() < 0)) {
            return -1;
        }
        if (!ipv4b_batch_has_more(b)) {
            return 0;
        }
        if (ipv4b_gather_next(b) < 0) {
            return ipv4b_batch_annotate(b->first + b->pinned, b->moved);
        }
        if (b->pace == NULL && b->conn->life.open &&
            !ipv4b_batch_is_before(b, io->limit < 0 ? IPV4B_FOREVER : io->limit)) {
            (void)ipv4b_conn_raise_timeout(b->conn, IPV4B_WRITE);
            ipv4b_batch_note_write(b, ETIMEDOUT);
            return annotate_next(b);
        }
    }
}

static int
run_raise(ipv4b_batch *b, ipv4b_io *io)
{
    return run_all(b, io, false);
}

static int
run_skip(ipv4b_batch *b, ipv4b_io *io)
{
    return run_all(b, io, true);
}

static const ipv4b_batch_kind kind_raise = {IPV4B_WRITE, true, run_raise};
static const ipv4b_batch_kind kind_skip = {IPV4B_WRITE, true, run_skip};

const ipv4b_batch_kind *
ipv4b_write_kind(PyObject *errors)
{
    if (errors == NULL) {
        return &kind_raise;
    }
    if (PyUnicode_Check(errors)) {
        if (PyUnicode_CompareWithASCIIString(errors, "raise") == 0) {
            return &kind_raise;
        }
        if (PyUnicode_CompareWithASCIIString(errors, "skip") == 0) {
            return &kind_skip;
        }
    }
    PyErr_Format(PyExc_ValueError, "errors: 'raise' or 'skip' is required, not %R", errors);
    return NULL;
}

const char ipv4b_write_all_doc[] =
    "write_all($self, /, msgs, flags=0, errors='raise')\n--\n\n"
    "Send every Message of `msgs`, in as many system calls as it takes; return how many went.\n\n"
    "Waits for room, for all of them together, within timeout and deadline. Each message's errno\n"
    "says what became of it: 0 if it went, ECANCELED if it was not tried. errors='raise' stops at\n"
    "the first that fails; errors='skip' goes on past it. EINTR and EAGAIN are handled, and\n"
    "ENOBUFS is waited for, 0.13 seconds at most until something goes out again. With gso\n"
    "messages of different destinations or control data may go in another order than the list's.\n"
    "A list of more than 1024 goes in turns; signals, close() and the deadline are seen "
    "between.\n\n"
    "Raises OSError with two more attributes: index, of the message that failed, and written, how\n"
    "many had gone. With 'skip' that is for the connection's own troubles only: TimeoutError,\n"
    "BlockingIOError, EBADF when closed. A signal handler's exception passes as it is; see\n"
    "last_written. TypeError, ValueError and RuntimeError are as in write_batch, with nothing\n"
    "sent.";

PyObject *
ipv4b_write_all(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs", "flags", "errors", NULL};
    static const ipv4b_signature signature = {"write_all", names, 1};
    PyObject *values[3] = {NULL};
    const ipv4b_batch_kind *kind;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        (kind = ipv4b_write_kind(values[2])) == NULL) {
        return NULL;
    }
    return ipv4b_batch_call(self, kind, NULL, NULL, values[0], values[1]);
}

const char ipv4b_forward_doc[] =
    "forward($self, /, msgs, addr=None, flags=0, errors='raise')\n--\n\n"
    "Send what each Message of `msgs` has received, the first n bytes of its buffers, without its\n"
    "control data; return how many went.\n\n"
    "All go to `addr`, a (host, port) tuple, or each to its own addr, which is where it came "
    "from.\n"
    "Nothing is copied, and the messages stay as they were received, but for errno: they can be\n"
    "forwarded again. Outcomes, errors, gso, flags and waiting are as in write_all. A message of\n"
    "several coalesced datagrams (ControlFlags.SEGMENT) goes as these. On a RawConn a message is\n"
    "a packet with its IPv4 header, which goes along as it is: the kernel chooses the way by "
    "`addr`,\n"
    "and fills in total length and checksum (IP_HDRINCL, raw(7)).\n\n"
    "A datagram that was truncated on reading raises ValueError; errors='skip' leaves it out, "
    "with\n"
    "the errno EMSGSIZE. Raises ValueError that names the message, with nothing sent, for one "
    "that\n"
    "nothing was received into since it was made, written or given other buffers; TypeError and\n"
    "RuntimeError as in write_batch; and OSError EOPNOTSUPP on a raw socket without IP_HDRINCL.";

/* Refuses packets with headers that would get a second one. Returns 0, or -1 with OSError. */
static int
check_header(PyObject *self)
{
    ipv4b_conn_object *conn = (ipv4b_conn_object *)self;
    int r = 0;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (conn->descriptor.type == SOCK_RAW && !PyObject_TypeCheck(self, conn->state->rawconn_type)) {
        r = ipv4b_conn_raise(conn, "forward", EOPNOTSUPP);
    }
    Py_END_CRITICAL_SECTION();
    return r;
}

PyObject *
ipv4b_forward(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs", "addr", "flags", "errors", NULL};
    static const ipv4b_signature signature = {"forward", names, 1};
    PyObject *values[4] = {NULL};
    const ipv4b_batch_kind *kind;
    ipv4b_forwarding forward = {.has_addr = false};

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        (kind = ipv4b_write_kind(values[3])) == NULL || check_header(self) < 0) {
        return NULL;
    }
    forward.has_addr = values[1] != NULL && values[1] != Py_None;
    forward.skip = kind == &kind_skip;
    if (forward.has_addr) {
        ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

        if (state == NULL || ipv4b_endpoint_parse(state, values[1], "addr", &forward.addr) < 0) {
            return NULL;
        }
    }
    return ipv4b_batch_call(self, kind, &forward, NULL, values[0], values[2]);
}
