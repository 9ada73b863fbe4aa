/* loop.h - the one I/O loop of all connections: try, wait, try again.
 *
 * Locking: the connection's lock, which is let go of during an attempt and a wait; see conn.h.
 */
#ifndef IPV4B_LOOP_H
#define IPV4B_LOOP_H

#include "python/io/conn.h"

struct ipv4b_io;

/* What the loop repeats: a system call that never waits. Runs without the GIL. Returns >= 0 or
 * -errno. */
typedef int (*ipv4b_attempt)(int fd, struct ipv4b_io *io);

typedef struct ipv4b_io {
    ipv4b_direction direction;
    int flags; /* MSG_*: with MSG_DONTWAIT nothing is waited for */
    int64_t
        limit; /* when to stop waiting; -1 for the connection's timeout, from the first wait on */
    ipv4b_attempt attempt;
    void *arg;
    /* Serves the call from what an earlier one could not give, with the lock, before each attempt; or
     * NULL. Returns how many it served. */
    int (*take_unread)(ipv4b_conn_object *self, struct ipv4b_io *io);
    bool quiet;        /* EAGAIN where the call may not wait sets no exception */
    ipv4b_slot *slots; /* of a read: what it fills */
    size_t n;
    ipv4b_gro *queue; /* for the attempt: where to read from, or NULL for the socket itself */
    bool drain;       /* likewise: what is in the queue is all that it gives */
    int error;        /* result: the errno of the exception, 0 if it is no message's */
    bool foreign; /* result: the exception is a signal handler's or that of the socket's fileno() */
    int pending;  /* result of a read: as in ipv4b_mmsg_recv */
    unsigned int forks; /* the connection's, when it counted the call */
    bool wait_failed;   /* result: the error is the wait's, and no message's */
} ipv4b_io;

/* The attempt of reads, from the queue or the socket. */
int ipv4b_io_recv(int fd, ipv4b_io *io);

/* Makes attempts until one succeeds; between them waits for the socket to be readable or writable,
 * until the limit or the connection's deadline. Returns the attempt's result, or -1 with an
 * exception set. */
int ipv4b_conn_run(ipv4b_conn_object *self, ipv4b_io *io);

/* Raises the pending error of an earlier batch, one that came after its first message. Returns 0 if there
 * is none, or -1. */
int ipv4b_conn_raise_pending(ipv4b_conn_object *self, ipv4b_direction direction);

/* Waits for `ns` or until the connection is closed or its deadline moved, not past io->limit or the
 * deadline of writes. Returns 0, or -1 with an exception, as ipv4b_conn_run does. */
int ipv4b_conn_pause(ipv4b_conn_object *self, ipv4b_io *io, int64_t ns);

#endif
