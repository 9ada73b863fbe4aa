/* pace.c - see pace.h. */
#include "python/io/pace.h"

#include "python/base/locks.h"
#include "python/io/descriptor.h"

/* How long an attempt goes on without the GIL: signals, close() and deadlines are seen after it. */
enum { ATTEMPT_NS = 4000000 };

size_t
ipv4b_pace_turn(const ipv4b_pace *pace, bool *gso)
{
    if (pace->burst == 1) {
        *gso = false; /* a run of one is none */
    }
    return *gso ? pace->burst : IPV4B_TURN;
}

int
ipv4b_pace_pause(ipv4b_batch *b, ipv4b_io *io)
{
    const ipv4b_conn_object *conn = b->conn;
    int64_t due = ipv4b_pace_due(b->pace, b->first + b->start);

    io->limit = IPV4B_FOREVER;
    io->foreign = io->wait_failed = false;
    while (conn->life.open) {
        int64_t now = ipv4b_now();

        if (now >= conn->waiting.deadline[IPV4B_WRITE]) {
            io->error = ETIMEDOUT;
            io->wait_failed = true;
            return ipv4b_conn_raise_timeout(b->conn, IPV4B_WRITE);
        }
        if (due - now <= IPV4B_PACE_NEAR) {
            break;
        }
        if (ipv4b_conn_pause(b->conn, io, due - now - IPV4B_PACE_NEAR) < 0) {
            io->wait_failed = true;
            return -1;
        }
    }
    if (conn->waiting.timeout != IPV4B_FOREVER) {
        int64_t now = ipv4b_now();

        /* The timeout is for room in the socket, from the time at which the message is due. */
        io->limit = (due > now ? due : now) + conn->waiting.timeout;
    }
    return 0;
}

int
ipv4b_pace_attempt(int fd, ipv4b_io *io)
{
    ipv4b_batch *b = io->arg;
    ipv4b_pace *pace = b->pace;
    const int64_t until = ipv4b_now() + ATTEMPT_NS;
    size_t start = b->start, at = start;

    while (at < b->pinned) {
        size_t index = b->first + at;
        size_t end = ipv4b_pace_tick_end(pace, index) - b->first;
        int64_t due = ipv4b_pace_due(pace, index);
        int64_t late;
        size_t done;

        end = end < b->pinned ? end : b->pinned;
        if (at > start && due > until) {
            break;
        }
        late = ipv4b_pace_wait(due);
        if (late < 0) {
            return at > start ? (int)(at - start) : (int)late;
        }
        if (!pace->catch_up) {
            pace->start += late;
        }
        done = ipv4b_send(fd, b->scratch.slots, end, io->flags, &b->sender);
        for (size_t i = at; i < at + done; i++) {
            pace->late[i] = late;
        }
        at += done;
        if (at < end) {
            return at > start ? (int)(at - start) : -b->sender.error;
        }
    }
    return (int)(at - start);
}

void
ipv4b_pace_note(const ipv4b_batch *b, size_t done)
{
    for (size_t k = b->start; k < b->start + done; k++) {
        size_t i = b->sender.planned ? b->sender.plan->order[k] : k;
        ipv4b_message_object *m = b->scratch.owners[i];

        Py_BEGIN_CRITICAL_SECTION(m);
        m->late = b->pace->late[k];
        Py_END_CRITICAL_SECTION();
    }
}
