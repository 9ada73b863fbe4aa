/* waiting.c - see waiting.h. */
#include "python/io/waiting.h"

#include <math.h>

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/io/life.h"
#include "python/io/signals.h"
#include "python/io/waker.h"

/* How long the main thread sleeps before it has signals watched, in ns. A signal that came between its last
 * look and that sleep is handled after so long; most waits are shorter and cost nothing more. */
enum { UNWATCHED_NS = 5000000 };

/* One sleep without the GIL. */
static int
wait_detached(int fd, short events, const ipv4b_waker *waker, int signals, int64_t deadline,
              bool fruitless)
{
    int r;

    Py_BEGIN_ALLOW_THREADS
    r = ipv4b_wait(fd, events, &waker->wake, signals, deadline, fruitless);
    Py_END_ALLOW_THREADS
    return r;
}

/* The same in a thread that runs signal handlers. Returns what ipv4b_wait does; or WAIT_OVER with an
 * exception, or in the child if a handler has forked. */
enum { WAIT_OVER = 1 - INT_MAX };

static int
wait_with_signals(ipv4b_conn_object *self, int fd, short events, ipv4b_waker *waker,
                  int64_t deadline, bool fruitless, int *error)
{
    unsigned int forks = ipv4b_forks();
    ipv4b_signal_watch watch;
    int r = IPV4B_WAIT_TIMEOUT;

    /* The handlers run after the waker was acquired: if one closes the connection or moves a
     * deadline, the wait ends at once. */
    if (PyErr_CheckSignals() < 0 || ipv4b_forks() != forks) {
        return WAIT_OVER;
    }
    if (!fruitless) {
        int64_t soon = ipv4b_now() + UNWATCHED_NS;

        r = wait_detached(fd, events, waker, -1, soon < deadline ? soon : deadline, false);
        if (r != IPV4B_WAIT_TIMEOUT || soon >= deadline) {
            return r;
        }
    }
    r = ipv4b_signals_begin(self->state, &waker->signals, &watch);
    if (r < 0 || ipv4b_forks() != forks) {
        return WAIT_OVER;
    }
    if (r > 0) {
        *error = r;
        return WAIT_OVER;
    }
    r = wait_detached(fd, events, waker, watch.fd, deadline, fruitless);
    ipv4b_signals_end(self->state, &waker->signals, &watch);
    return r;
}

int
ipv4b_conn_wait(ipv4b_conn_object *self, int fd, short events, int64_t deadline, bool *fruitless)
{
    unsigned int forks = ipv4b_forks();
    ipv4b_waker *waker;
    int error = 0;
    int r = ipv4b_waker_acquire(self, &waker);

    if (r != 0) {
        return r;
    }
    r = ipv4b_signals_are_handled_here(self->state)
            ? wait_with_signals(self, fd, events, waker, deadline, *fruitless, &error)
            : wait_detached(fd, events, waker, -1, deadline, *fruitless);
    /* If a handler has forked, the waker in the child is the parent's and is forgotten. */
    if (ipv4b_forks() == forks) {
        ipv4b_waker_release(waker);
    }
    if (r == WAIT_OVER) {
        return PyErr_Occurred() ? -1 : error;
    }
    if (r == -EINTR) {
        return PyErr_CheckSignals() < 0 ? -1 : 0;
    }
    *fruitless = r == IPV4B_WAIT_ERROR;
    /* If other code has closed the descriptor, the next look-up finds that. */
    return r >= 0 || r == -EBADF ? 0 : -r;
}

/* Rounded up as socket does, but a value made from ns gives the same ns again. */
int
ipv4b_seconds_parse(PyObject *value, const char *field, double least, int64_t *out)
{
    double seconds, ns;

    if (value == Py_None) {
        *out = IPV4B_FOREVER;
        return 0;
    }
    seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "%s: a number of seconds or None is required, not %.100s",
                         field, Py_TYPE(value)->tp_name);
        }
        return -1;
    }
    if (!(seconds >= least)) {
        PyErr_Format(PyExc_ValueError, "%s: %R is no number of seconds to wait", field, value);
        return -1;
    }
    /* More than a century counts as for ever, so that the sum with a clock cannot overflow. A
     * deadline before the clock's start counts as its start. */
    ns = seconds > 0 ? rint(seconds * 1e9) : 0;
    *out = seconds > 3e9 ? IPV4B_FOREVER : (int64_t)ns + (ns / 1e9 < seconds);
    return 0;
}

PyObject *
ipv4b_conn_get_timeout(PyObject *self, void *Py_UNUSED(closure))
{
    int64_t timeout = IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)self)->waiting.timeout);

    if (timeout == IPV4B_FOREVER) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)timeout / 1e9);
}

int
ipv4b_conn_set_timeout(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int64_t timeout;

    if (ipv4b_check_set(value, "timeout") < 0 ||
        ipv4b_seconds_parse(value, "timeout", 0, &timeout) < 0) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    IPV4B_STORE_RELAXED(((ipv4b_conn_object *)self)->waiting.timeout, timeout);
    Py_END_CRITICAL_SECTION();
    return 0;
}

/* A second, in microseconds. A program that wants more can call again. */
enum { BUSY_POLL_MAX = 1000000, NS_PER_US = 1000 };

PyObject *
ipv4b_conn_get_busy_poll(PyObject *self, void *Py_UNUSED(closure))
{
    int64_t ns = IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)self)->waiting.busy_poll);

    return PyLong_FromLongLong(ns / NS_PER_US);
}

int
ipv4b_conn_set_busy_poll(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    long long us;

    if (ipv4b_check_set(value, "busy_poll") < 0 ||
        ipv4b_parse_int(value, "busy_poll", 0, BUSY_POLL_MAX, &us) < 0) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    IPV4B_STORE_RELAXED(((ipv4b_conn_object *)self)->waiting.busy_poll, us * NS_PER_US);
    Py_END_CRITICAL_SECTION();
    return 0;
}

/* Sets the deadline of one direction, or of both at once. */
static PyObject *
set_deadline(PyObject *op, PyObject *value, bool of_reads, bool of_writes)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    int64_t deadline;
    int fd;

    if (ipv4b_seconds_parse(value, "deadline", -HUGE_VAL, &deadline) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    fd = ipv4b_conn_fileno(self, "set_deadline");
    if (fd >= 0 && of_reads) {
        self->waiting.deadline[IPV4B_READ] = deadline;
    }
    if (fd >= 0 && of_writes) {
        self->waiting.deadline[IPV4B_WRITE] = deadline;
    }
    if (fd >= 0) {
        ipv4b_waker_wake(self);
    }
    Py_END_CRITICAL_SECTION();
    return fd < 0 ? NULL : Py_NewRef(Py_None);
}

#define DEADLINE_DOC(name, calls)                                                                  \
    name "($self, deadline, /)\n--\n\n"                                                            \
         "Set the time at which waiting " calls " end with TimeoutError: time.monotonic()\n"       \
         "seconds, or None for no such time.\n\n"                                                  \
         "It holds for calls that wait now, in other threads, and for those to come, beside\n"     \
         "timeout. A call whose deadline is past still takes what needs no wait. Raises "          \
         "TypeError\n"                                                                             \
         "or ValueError for what is no number, and OSError EBADF on a closed connection."

const char ipv4b_set_deadline_doc[] = DEADLINE_DOC("set_deadline", "reads and writes");
const char ipv4b_set_read_deadline_doc[] = DEADLINE_DOC("set_read_deadline", "reads");
const char ipv4b_set_write_deadline_doc[] = DEADLINE_DOC("set_write_deadline", "writes");

PyObject *
ipv4b_conn_set_deadline(PyObject *self, PyObject *value)
{
    return set_deadline(self, value, true, true);
}

PyObject *
ipv4b_conn_set_read_deadline(PyObject *self, PyObject *value)
{
    return set_deadline(self, value, true, false);
}

PyObject *
ipv4b_conn_set_write_deadline(PyObject *self, PyObject *value)
{
    return set_deadline(self, value, false, true);
}
