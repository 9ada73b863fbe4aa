/* connio.c - the one I/O loop of all connections, and what its errors say: see conn.h for the
 * locking rule. */
#include "python/io/conn.h"

#include "core/ancillary.h"
#include "python/base/errors.h"
#include "python/io/hold.h"
#include "python/values/addr.h"

static PyObject *
conn_network(const ipv4b_conn_object *self)
{
    switch (self->descriptor.type) {
    case SOCK_DGRAM:
        return self->descriptor.protocol == IPPROTO_UDP || self->descriptor.protocol == 0
                   ? PyUnicode_FromString("udp4")
                   : PyUnicode_FromFormat("dgram4:%d", self->descriptor.protocol);
    case SOCK_RAW:
        return PyUnicode_FromFormat("ip4:%d", self->descriptor.protocol);
    case SOCK_STREAM:
        return self->descriptor.protocol == IPPROTO_TCP || self->descriptor.protocol == 0
                   ? PyUnicode_FromString("tcp4")
                   : PyUnicode_FromFormat("stream4:%d", self->descriptor.protocol);
    default:
        return PyUnicode_FromFormat("type%d:%d", self->descriptor.type, self->descriptor.protocol);
    }
}

int
ipv4b_conn_endpoint(const ipv4b_conn_object *self, int fd, bool remote, struct sockaddr_in *out)
{
    socklen_t len = sizeof *out;

    memset(out, 0, sizeof *out);
    if ((remote ? getpeername(fd, (struct sockaddr *)out, &len)
                : getsockname(fd, (struct sockaddr *)out, &len)) < 0) {
        return -errno;
    }
    if (self->descriptor.type == SOCK_RAW) {
        out->sin_port = 0; /* Linux gives the protocol number here */
    }
    return 0;
}

PyObject *
ipv4b_conn_describe(const ipv4b_conn_object *self, int fd, bool remote)
{
    PyObject *text = conn_network(self);

    for (int end = 0; text != NULL && fd >= 0 && end <= (remote ? 1 : 0); end++) {
        struct sockaddr_in name;
        char host[INET_ADDRSTRLEN];

        if (ipv4b_conn_endpoint(self, fd, end == 1, &name) < 0) {
            break;
        }
        (void)ipv4b_addr_text(name.sin_addr, host);
        Py_SETREF(text, PyUnicode_FromFormat("%U%s%s", text, end == 0 ? " " : "->", host));
        if (text != NULL && self->descriptor.type != SOCK_RAW) {
            Py_SETREF(text, PyUnicode_FromFormat("%U:%d", text, ntohs(name.sin_port)));
        }
    }
    return text;
}

int
ipv4b_conn_peek_fileno(ipv4b_conn_object *self)
{
    PyObject *number;
    long fd;

    ipv4b_conn_check_fork(self);
    if (!self->life.open) {
        return -1;
    }
    if (self->descriptor.sock == NULL) {
        return self->descriptor.fd;
    }
    /* A method in C is called past the interpreter, which saves a tenth of a call's instructions. */
    number = self->descriptor.fileno != NULL
                 ? PyCFunction_GET_FUNCTION(self->descriptor.fileno)(
                       PyCFunction_GET_SELF(self->descriptor.fileno), NULL)
                 : PyObject_CallMethodNoArgs(self->descriptor.sock, self->state->str_fileno);
    if (number == NULL) {
        return -2;
    }
    fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -2;
    }
    if (fd > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "fileno(): %ld is no descriptor", fd);
        return -2;
    }
    /* That may have been Python code, which has closed the connection. */
    return fd < 0 || !self->life.open ? -1 : (int)fd;
}

static int
raise_with_text(ipv4b_conn_object *self, const char *operation, int err, const char *text)
{
    int fd = ipv4b_conn_peek_fileno(self);
    PyObject *where, *what;

    if (fd == -2) {
        PyErr_Clear(); /* the error at hand matters more; it goes without an address */
    }
    where = ipv4b_conn_describe(self, fd, false);
    what = where == NULL ? NULL : PyUnicode_FromFormat("%s %U", operation, where);
    (void)ipv4b_raise_os(err, text, what);
    Py_XDECREF(where);
    Py_XDECREF(what);
    return -1;
}

int
ipv4b_conn_raise(ipv4b_conn_object *self, const char *operation, int err)
{
    return raise_with_text(self, operation, err, NULL);
}

int
ipv4b_conn_raise_late(ipv4b_conn_object *self, ipv4b_direction direction)
{
    int late = self->batches.late_error[direction];

    self->batches.late_error[direction] = 0;
    return late == 0 ? 0 : ipv4b_conn_raise(self, direction == IPV4B_READ ? "read" : "write", late);
}

static int
raise_closed(ipv4b_conn_object *self, const char *operation)
{
    return raise_with_text(self, operation, EBADF, "The connection is closed");
}

int
ipv4b_conn_fileno(ipv4b_conn_object *self, const char *operation)
{
    int fd = ipv4b_conn_peek_fileno(self);

    return fd == -1 ? raise_closed(self, operation) : fd < 0 ? -1 : fd;
}

int
ipv4b_conn_raise_timeout(ipv4b_conn_object *self, ipv4b_direction direction)
{
    return raise_with_text(self, direction == IPV4B_READ ? "read" : "write", ETIMEDOUT,
                           "timed out");
}

static void
waker_release(ipv4b_waker *waker)
{
    if (waker != NULL && --waker->refs == 0) {
        ipv4b_wake_close(&waker->wake);
        PyMem_Free(waker);
    }
}

/* A new reference to the waker of those who wait now. Returns 0, a positive errno, or -1 with
 * MemoryError. */
static int
waker_acquire(ipv4b_conn_object *self, ipv4b_waker **out)
{
    if (self->waiting.waker == NULL) {
        ipv4b_waker *fresh = PyMem_Malloc(sizeof *fresh);
        int r;

        if (fresh == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        r = ipv4b_wake_open(&fresh->wake);
        if (r < 0) {
            PyMem_Free(fresh);
            return -r;
        }
        fresh->refs = 1; /* the connection's own */
        self->waiting.waker = fresh;
    }
    self->waiting.waker->refs++;
    *out = self->waiting.waker;
    return 0;
}

void
ipv4b_conn_forget_calls(ipv4b_conn_object *self)
{
    self->life.calls = self->life.plain_reads = 0;
    /* Signalled, it would wake the parent's threads for ever: the descriptor is the same file. */
    if (self->waiting.waker != NULL) {
        ipv4b_wake_close(&self->waiting.waker->wake);
        PyMem_Free(self->waiting.waker);
        self->waiting.waker = NULL;
    }
    ipv4b_hold_drop(self);
    if (self->receiving.queue != NULL) {
        ipv4b_gro_after_fork(self->receiving.queue);
    }
}

void
ipv4b_conn_drop_waker(ipv4b_conn_object *self)
{
    ipv4b_waker *waker;

    ipv4b_conn_check_fork(self);
    waker = self->waiting.waker;
    self->waiting.waker = NULL;
    if (waker != NULL && waker->refs > 1) {
        ipv4b_wake_signal(&waker->wake);
    }
    waker_release(waker);
}

void
ipv4b_conn_wake(ipv4b_conn_object *self)
{
    /* With nobody waiting, the descriptor stays for those to come. */
    if (self->waiting.waker != NULL && self->waiting.waker->refs > 1) {
        ipv4b_conn_drop_waker(self);
    }
}

/* Counts a call. */
static void
conn_count(ipv4b_conn_object *self, ipv4b_io *io)
{
    ipv4b_conn_check_fork(self); /* first, since it forgets what was counted */
    io->forks = self->life.forks;
    self->life.calls++;
}

/* The last call out closes the socket for a close() that came meanwhile; an exception that is set
 * stays. */
static void
conn_leave(ipv4b_conn_object *self, const ipv4b_io *io)
{
    PyObject *type, *value, *traceback;

    ipv4b_conn_check_fork(self);
    self->life.calls -= io->forks == self->life.forks;
    if (self->life.calls > 0 || !self->life.release_due) {
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    if (ipv4b_conn_release(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    PyErr_Restore(type, value, traceback);
}

int
ipv4b_conn_release(ipv4b_conn_object *self)
{
    PyObject *close, *result;

    self->life.release_due = false;
    if (self->descriptor.sock != NULL) {
        close = PyObject_GetAttr(self->descriptor.sock, self->state->str_close);
        if (close == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear(); /* something that has a fileno() and no more is borrowed, as an int is */
        result = close == NULL ? Py_NewRef(Py_None) : PyObject_CallNoArgs(close);
        Py_XDECREF(close);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    ipv4b_hold_drop(self);
    ipv4b_gro_free(self->receiving.queue); /* what was not read is lost, as it is in the kernel */
    self->receiving.queue = NULL;
    return 0;
}

/* Waits once. Returns 0 to try again, a positive errno, or -1 with a signal handler's exception.
 * *fruitless says that nothing but an error was announced, and is given back for the next wait. */
static int
conn_wait(ipv4b_conn_object *self, int fd, short events, int64_t deadline, bool *fruitless)
{
    ipv4b_waker *waker;
    int r = waker_acquire(self, &waker);

    if (r != 0) {
        return r;
    }
    Py_BEGIN_ALLOW_THREADS
    r = ipv4b_wait(fd, events, &waker->wake, deadline, *fruitless);
    Py_END_ALLOW_THREADS
    waker_release(waker);
    if (r == -EINTR) {
        return PyErr_CheckSignals() < 0 ? -1 : 0;
    }
    *fruitless = r == IPV4B_WAIT_ERROR;
    /* A descriptor that was closed behind our back is looked up again, and found closed. */
    return r >= 0 || r == -EBADF ? 0 : -r;
}

static bool
is_data_read(const ipv4b_io *io)
{
    return io->direction == IPV4B_READ && !(io->flags & IPV4B_MSG_ERRQUEUE);
}

/* Chooses where a read takes from: the queue, if it has to go through that. */
static void
conn_choose_queue(const ipv4b_conn_object *self, ipv4b_io *io)
{
    io->queue = is_data_read(io) ? self->receiving.queue : NULL;
    io->drain = io->queue != NULL && !ipv4b_conn_takes_apart(self);
    if (io->drain && ipv4b_gro_pending(io->queue) == 0) {
        io->queue = NULL;
        io->drain = false;
    }
}

int
ipv4b_io_recv(int fd, ipv4b_io *io)
{
    return io->queue != NULL
               ? ipv4b_gro_recv(io->queue, fd, io->slots, io->n, io->flags, !io->drain, &io->late)
               : ipv4b_mmsg_recv(fd, io->slots, io->n, io->flags, &io->late);
}

/* One attempt without the GIL. The queue is chosen each time, with the GIL: gro may be switched
 * while we wait. */
static int
conn_attempt(ipv4b_conn_object *self, int fd, ipv4b_io *io)
{
    bool plain;
    int r;

    if (ipv4b_hold_waits(self, io)) {
        return ipv4b_hold_recall(self, io);
    }
    conn_choose_queue(self, io);
    plain = io->queue == NULL && is_data_read(io);
    self->life.plain_reads += plain;
    Py_BEGIN_ALLOW_THREADS
    r = io->attempt(fd, io);
    Py_END_ALLOW_THREADS
    self->life.plain_reads -= plain;
    /* What is left in the queue does not wake those who wait on the socket. */
    if (io->queue != NULL && self->waiting.waker != NULL && self->waiting.waker->refs > 1 &&
        ipv4b_gro_pending(io->queue) > 0) {
        ipv4b_conn_wake(self);
    }
    return r;
}

/* The loop of ipv4b_conn_run, inside the count of calls. */
static int
conn_loop(ipv4b_conn_object *self, ipv4b_io *io)
{
    const char *operation = io->direction == IPV4B_READ ? "read" : "write";
    /* The error queue is announced by POLLERR alone, which poll always reports (ip(7),
     * IP_RECVERR). */
    short readable = io->flags & IPV4B_MSG_ERRQUEUE ? 0 : POLLIN;
    short events = io->direction == IPV4B_WRITE ? POLLOUT : readable;
    /* A call with a limit has read the timeout at its start. */
    int64_t timeout = io->flags & MSG_DONTWAIT ? 0
                      : io->limit >= 0         ? IPV4B_FOREVER
                                               : self->waiting.timeout;
    int64_t limit = io->limit;
    bool fruitless = false;

    io->wait_failed = io->foreign = false;
    for (;;) {
        int fd = ipv4b_conn_peek_fileno(self);
        int64_t now, deadline;
        int r;

        if (fd < 0) {
            io->foreign = fd == -2;
            /* A socket that was closed behind our back is no message's error. */
            io->error = io->foreign || self->life.open ? 0 : EBADF;
            return io->foreign ? -1 : raise_closed(self, operation);
        }
        if (io->forks != *self->state->forks) {
            conn_count(self, io); /* a signal handler, or fileno(), has forked: this is the child */
        }
        r = conn_attempt(self, fd, io);
        if (r >= 0) {
            return r;
        }
        if (r == -EINTR) {
            if (PyErr_CheckSignals() < 0) {
                io->error = 0;
                io->foreign = true;
                return -1;
            }
            continue;
        }
        if (r == -EAGAIN && io->drain) {
            continue; /* another thread has emptied the queue: the socket is next */
        }
        io->error = -r;
        if ((r != -EAGAIN && r != -EWOULDBLOCK) || timeout == 0) {
            return ipv4b_conn_raise(self, operation, io->error);
        }
        if (!self->life.open || ipv4b_hold_waits(self, io) ||
            (io->queue != NULL && ipv4b_gro_pending(io->queue) > 0)) {
            continue; /* closed while the GIL was released, which is raised above, or filled */
        }
        now = ipv4b_now();
        if (limit < 0) {
            limit = timeout == IPV4B_FOREVER ? IPV4B_FOREVER : now + timeout;
        }
        /* Looked up each time: another thread may move the deadline, and wakes us when it does. */
        deadline = self->waiting.deadline[io->direction] < limit
                       ? self->waiting.deadline[io->direction]
                       : limit;
        if (deadline <= now) {
            io->error = ETIMEDOUT;
            return ipv4b_conn_raise_timeout(self, io->direction);
        }
        r = conn_wait(self, fd, events, deadline, &fruitless);
        if (r != 0) {
            io->error = r > 0 ? r : 0;
            io->foreign = r < 0;
            io->wait_failed = true;
            return r > 0 ? ipv4b_conn_raise(self, operation, r) : -1;
        }
    }
}

int
ipv4b_conn_run(ipv4b_conn_object *self, ipv4b_io *io)
{
    int r;

    conn_count(self, io);
    r = conn_loop(self, io);
    conn_leave(self, io);
    return r;
}

int
ipv4b_conn_pause(ipv4b_conn_object *self, ipv4b_io *io, int64_t ns)
{
    int64_t until = ipv4b_now() + ns;
    bool fruitless = false;
    int r = 0;

    until = until < io->limit ? until : io->limit;
    /* A signal, or a deadline that moves, wakes us before the time. */
    while (r == 0 && self->life.open) {
        int64_t deadline = self->waiting.deadline[IPV4B_WRITE];

        deadline = until < deadline ? until : deadline;
        if (deadline <= ipv4b_now()) {
            break;
        }
        /* poll passes over a negative descriptor (poll(2)). */
        r = conn_wait(self, -1, 0, deadline, &fruitless);
    }
    io->error = r > 0 ? r : 0;
    io->foreign = r < 0;
    return r > 0 ? ipv4b_conn_raise(self, "write", r) : r;
}
