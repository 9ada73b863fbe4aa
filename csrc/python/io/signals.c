/* signals.c - see signals.h. */
#include "python/io/signals.h"

#include <pthread.h>
#include <stdatomic.h>

#include "core/fork.h"
#include "python/base/locks.h"

/* What Python's C handler writes to during a watch, or -1; and of the process that this one was forked
 * from. Python has one such descriptor for the process, and so these are the process's too. */
static atomic_int watched = -1;
static atomic_int inherited = -1;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int registered; /* 0, or the errno of the failure */

/* Another thread forked while the main thread was waiting. The pipe belongs to the parent, which
 * must not see a signal of the child. No function of Python's can be called here, so Python
 * keeps the number, and the number leads to /dev/null. */
static void
signals_in_child(void)
{
    int fd = atomic_exchange_explicit(&watched, -1, memory_order_relaxed);

    if (fd >= 0 && ipv4b_lead_nowhere(fd) == 0) {
        atomic_store_explicit(&inherited, fd, memory_order_relaxed);
    }
}

static void
signals_register(void)
{
    registered = pthread_atfork(NULL, NULL, signals_in_child);
}

int
ipv4b_signals_init(void)
{
    int r = pthread_once(&once, signals_register);

    return r != 0 ? -r : -registered;
}

bool
ipv4b_signals_are_handled_here(ipv4b_state *state)
{
    unsigned long self = PyThread_get_thread_ident();
    unsigned int forks = ipv4b_forks();

    if (IPV4B_LOAD_RELAXED(state->main_thread) == self &&
        IPV4B_LOAD_RELAXED(state->main_forks) == forks) {
        return true;
    }
    if (PyInterpreterState_Get() != PyInterpreterState_Main() || !ipv4b_is_first_thread()) {
        return false;
    }
    IPV4B_STORE_RELAXED(state->main_forks, forks);
    IPV4B_STORE_RELAXED(state->main_thread, self);
    return true;
}

/* Looks up what a watch needs, once. Returns 0, or -1 with an exception. */
static int
load(ipv4b_state *state)
{
    PyObject *name, *module;

    if (state->minus_one != NULL) {
        return 0;
    }
    name = PyUnicode_FromString("_signal");
    module =
        name == NULL ? NULL : PyImport_GetModule(name); /* built in, and there from the start */
    if (module != NULL) {
        Py_XSETREF(state->set_wakeup_fd, PyObject_GetAttrString(module, "set_wakeup_fd"));
    }
    else if (name != NULL && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ImportError, "_signal is not loaded");
    }
    Py_XDECREF(name);
    Py_XDECREF(module);
    if (module == NULL || state->set_wakeup_fd == NULL) {
        return -1;
    }
    Py_XSETREF(state->wakeup_fd_names, Py_BuildValue("(s)", "warn_on_full_buffer"));
    state->minus_one = state->wakeup_fd_names == NULL ? NULL : PyLong_FromLong(-1);
    return state->minus_one == NULL ? -1 : 0;
}

/* Has Python's C handler write to the pipe, without a warning when it is full, because one byte
 * is enough. Returns the earlier descriptor as an int, or NULL with an exception. */
static PyObject *
take_place(const ipv4b_state *state, const ipv4b_signal_pipe *p)
{
    PyObject *number = PyLong_FromLong(p->write_fd);
    PyObject *args[] = {number, Py_False};
    PyObject *before =
        number == NULL ? NULL
                       : PyObject_Vectorcall(state->set_wakeup_fd, args, 1, state->wakeup_fd_names);

    Py_XDECREF(number);
    return before;
}

/* Restores the program's own descriptor. This makes no new object first, so it works without
 * memory. */
static void
give_back(const ipv4b_state *state, PyObject *before)
{
    PyObject *type, *value, *traceback;
    PyObject *ours;

    PyErr_Fetch(&type, &value, &traceback);
    ours = PyObject_CallOneArg(state->set_wakeup_fd, before);
    if (ours == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear(); /* it was closed during the watch */
        ours = PyObject_CallOneArg(state->set_wakeup_fd, state->minus_one);
    }
    Py_XDECREF(ours);
    PyErr_Restore(type, value, traceback);
}

/* Ends the watch: sets the descriptor `before` again and passes the bytes on to it. */
static void
unwatch(ipv4b_state *state, const ipv4b_signal_pipe *p, ipv4b_signal_watch *watch)
{
    long to = PyLong_AsLong(watch->before);

    give_back(state, watch->before);
    atomic_store_explicit(&watched, -1, memory_order_relaxed);
    /* A handler that waits on the same connection leaves the bytes to the outer wait. */
    if (to != p->write_fd) {
        ipv4b_signal_pipe_drain(p, (int)to);
    }
    Py_CLEAR(watch->before);
    watch->fd = -1;
}

int
ipv4b_signals_begin(ipv4b_state *state, ipv4b_signal_pipe *p, ipv4b_signal_watch *watch)
{
    unsigned int forks = ipv4b_forks();
    PyObject *found;
    int r = 0;

    watch->fd = -1;
    watch->before = NULL;
    if (load(state) < 0) {
        return -1;
    }
    if (p->read_fd < 0 && (r = ipv4b_signal_pipe_open(p)) < 0) {
        return -r;
    }
    for (;;) {
        atomic_store_explicit(&watched, p->write_fd, memory_order_relaxed);
        found = take_place(state, p);
        if (found == NULL) {
            break;
        }
        if (watch->before == NULL || PyLong_AsLong(found) != p->write_fd) {
            /* This is the first round, or a handler has set another descriptor. A signal before
             * now is not in the pipe, so look again. */
            Py_XSETREF(watch->before, found);
        }
        else {
            Py_DECREF(found);
            watch->fd = p->read_fd;
            return 0;
        }
        r = PyErr_CheckSignals();
        if (ipv4b_forks() != forks) {
            give_back(state, watch->before); /* a handler has forked, this is the child */
            Py_CLEAR(watch->before);
            return r;
        }
        if (r < 0) {
            break;
        }
    }
    if (watch->before != NULL) {
        unwatch(state, p, watch);
    }
    atomic_store_explicit(&watched, -1, memory_order_relaxed);
    return -1;
}

void
ipv4b_signals_end(ipv4b_state *state, const ipv4b_signal_pipe *p, ipv4b_signal_watch *watch)
{
    if (watch->before != NULL) {
        unwatch(state, p, watch);
    }
}

void
ipv4b_signals_close(ipv4b_signal_pipe *p)
{
    if (p->read_fd >= 0 && p->write_fd == atomic_load_explicit(&inherited, memory_order_relaxed)) {
        (void)close(p->read_fd); /* Python goes on to write to the other number */
        p->read_fd = p->write_fd = -1;
        return;
    }
    ipv4b_signal_pipe_close(p);
}
