/* loop.c - see loop.h. */
#include "python/io/loop.h"

#include "core/kept.h"
#include "python/io/descriptor.h"
#include "python/io/life.h"
#include "python/io/read_fileno.h"
#include "python/io/waiting.h"
#include "python/io/waker.h"

int
ipv4b_conn_raise_pending(ipv4b_conn_object *self, ipv4b_direction direction)
{
    int pending;

    ipv4b_conn_check_fork(self); /* it may be the parent's */
    pending = self->batches.pending_error[direction];
    if (pending == 0) {
        return 0;
    }
    self->batches.pending_error[direction] = 0;
    ipv4b_conn_announce(self);
    return ipv4b_conn_raise(self, direction == IPV4B_READ ? "read" : "write", pending);
}

static bool
is_data_read(const ipv4b_io *io)
{
    return io->direction == IPV4B_READ && !(io->flags & IPV4B_MSG_ERRQUEUE);
}

/* Whether take_unread has something to do. Every call asks. */
static inline bool
has_unread(const ipv4b_conn_object *self, const ipv4b_io *io)
{
    return self->receiving.unread.count > 0 || io->take_unread != NULL;
}

/* Serves a call from datagrams that an earlier call could not return for want of memory. Returns
 * how many. */
static int
take_unread(ipv4b_conn_object *self, ipv4b_io *io)
{
    int r;

    if (io->take_unread != NULL) {
        r = io->take_unread(self, io);
    }
    else if (!is_data_read(io) || self->receiving.unread.count == 0) {
        return 0;
    }
    else {
        r = (int)ipv4b_unread_take(&self->receiving.unread, io->slots,
                                   io->n < INT_MAX ? io->n : INT_MAX, io->flags,
                                   ipv4b_conn_splits(self));
    }
    ipv4b_conn_announce(self);
    return r;
}

/* Chooses where a read takes from: the queue, if it has to go through that. */
static void
conn_choose_queue(const ipv4b_conn_object *self, ipv4b_io *io)
{
    io->queue = is_data_read(io) ? self->receiving.queue : NULL;
    io->drain = io->queue != NULL && !ipv4b_conn_splits(self);
    if (io->drain && ipv4b_gro_pending(io->queue) == 0) {
        io->queue = NULL;
        io->drain = false;
    }
}

int
ipv4b_io_recv(int fd, ipv4b_io *io)
{
    return io->queue != NULL ? ipv4b_gro_recv(io->queue, fd, io->slots, io->n, io->flags,
                                              !io->drain, &io->pending)
                             : ipv4b_mmsg_recv(fd, io->slots, io->n, io->flags, &io->pending);
}

/* One attempt without the GIL. It is repeated until the time `busy` while there is nothing. The
 * queue is chosen each time, with the GIL, because gro may be switched during a wait. */
static int
conn_attempt(ipv4b_conn_object *self, int fd, ipv4b_io *io, int64_t busy)
{
    bool plain;
    int r;

    if (has_unread(self, io) && (r = take_unread(self, io)) > 0) {
        return r;
    }
    if (self->options.header_included && io->direction == IPV4B_WRITE) {
        ipv4b_keep_option(fd, IPPROTO_IP, IP_HDRINCL); /* does not wait */
    }
    conn_choose_queue(self, io);
    plain = io->queue == NULL && is_data_read(io);
    self->life.plain_reads += plain;
    Py_BEGIN_ALLOW_THREADS
    do {
        r = io->attempt(fd, io);
    } while (r == -EAGAIN && busy > 0 && ipv4b_now() < busy);
    Py_END_ALLOW_THREADS
    self->life.plain_reads -= plain;
    if (io->queue != NULL) {
        ipv4b_conn_announce(self);
    }
    /* Datagrams that are left in the queue do not wake calls that wait on the socket. */
    if (io->queue != NULL && self->waiting.waker != NULL && self->waiting.waker->refs > 1 &&
        ipv4b_gro_pending(io->queue) > 0) {
        ipv4b_waker_wake(self);
    }
    return r;
}

/* How long a read looks again before it takes the GIL to see signals, close() and deadlines. */
enum { BUSY_NS = 500000 };

/* For a read that has found nothing at the time `now`: until when it looks again, or 0 to sleep.
 * *end is the end of the busy poll, 0 at first. */
static int64_t
busy_until(const ipv4b_conn_object *self, const ipv4b_io *io, int64_t now, int64_t deadline,
           int64_t *end)
{
    int64_t until = now + BUSY_NS;

    if (*end == 0) {
        *end = is_data_read(io) ? now + self->waiting.busy_poll : now;
    }
    until = until < *end ? until : *end;
    until = until < deadline ? until : deadline;
    return now < until ? until : 0;
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
    int64_t limit = io->limit, busy = 0, busy_end = 0;
    bool fruitless = false;

    io->wait_failed = io->foreign = false;
    for (;;) {
        int fd = ipv4b_conn_peek_fileno(self);
        int64_t now, deadline;
        int r;

        if (fd < 0) {
            io->foreign = fd == -2;
            /* If other code has closed the socket, that is no message's error. */
            io->error = io->foreign || self->life.open ? 0 : EBADF;
            return io->foreign ? -1 : ipv4b_conn_raise_closed(self, operation);
        }
        if (io->forks != ipv4b_forks()) {
            ipv4b_conn_enter(
                self,
                &io->forks); /* a signal handler, or fileno(), has forked: this is the child */
        }
        r = conn_attempt(self, fd, io, busy);
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
            return io->quiet && timeout == 0 && io->error == EAGAIN
                       ? -1
                       : ipv4b_conn_raise(self, operation, io->error);
        }
        if ((r = take_unread(self, io)) > 0) {
            return r; /* another thread has left it while the lock was released */
        }
        if (!self->life.open || (io->queue != NULL && ipv4b_gro_pending(io->queue) > 0)) {
            continue; /* closed while the GIL was released (raised above), or filled */
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
        busy = busy_until(self, io, now, deadline, &busy_end);
        if (busy != 0) {
            if (PyErr_CheckSignals() < 0) {
                io->error = 0;
                io->foreign = true;
                return -1;
            }
            continue;
        }
        r = ipv4b_conn_wait(self, fd, events, deadline, &fruitless);
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

    ipv4b_conn_enter(self, &io->forks);
    r = conn_loop(self, io);
    ipv4b_conn_leave(self, io->forks);
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
        r = ipv4b_conn_wait(self, -1, 0, deadline, &fruitless);
    }
    io->error = r > 0 ? r : 0;
    io->foreign = r < 0;
    return r > 0 ? ipv4b_conn_raise(self, "write", r) : r;
}
