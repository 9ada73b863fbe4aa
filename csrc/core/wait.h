/* wait.h - waiting for a socket, for a wake-up from another thread, or for a deadline.
 *
 * Locking: none here. A wake-up descriptor is signalled once and never drained; whoever waits next
 * uses a new one, so that any number of waiters may share one and none is missed.
 */
#ifndef IPV4B_WAIT_H
#define IPV4B_WAIT_H

#include "sysdep.h"

#define IPV4B_FOREVER INT64_MAX

enum { IPV4B_WAIT_READY = 0, IPV4B_WAIT_ERROR = 1, IPV4B_WAIT_TIMEOUT = 2 };

typedef struct {
    int read_fd;
    int write_fd; /* the same as read_fd where there is an eventfd */
} ipv4b_wake;

/* Returns 0 or -errno. */
int ipv4b_wake_open(ipv4b_wake *w);
void ipv4b_wake_signal(const ipv4b_wake *w);
void ipv4b_wake_close(ipv4b_wake *w);

/* CLOCK_MONOTONIC in nanoseconds: the clock of Python's time.monotonic() on Linux. */
int64_t ipv4b_now(void);

/* Waits until the socket has `events` (or an error or hang-up), the wake-up descriptor is readable,
 * or ipv4b_now() reaches `deadline`. Returns IPV4B_WAIT_READY; IPV4B_WAIT_TIMEOUT at the deadline;
 * IPV4B_WAIT_ERROR if the socket announced an error and none of `events`; or -errno (-EINTR when a
 * signal came or `signals`, a descriptor or -1, is readable; -EBADF when the socket is not open).
 *
 * A queue of errors that nobody reads (IP_RECVERR), and a socket that was shut down, announce
 * themselves for ever, and a caller who waits for something else would spin. Such a caller, having
 * tried in vain, says so with `fruitless`: the wait is for the next change then, for 50 ms at most,
 * and IPV4B_WAIT_ERROR says that it was in vain again. */
int ipv4b_wait(int fd, short events, const ipv4b_wake *wake, int signals, int64_t deadline,
               bool fruitless);

#endif
