/* fork.h - how many forks have made this process, counted by the process itself: a fork() in C is seen as
 * os.fork() is, and before any hook of Python's runs in the child (pthread_atfork(3)).
 *
 * Locking: none; the count is atomic. It is the one variable that all interpreters of the process share.
 */
#ifndef IPV4B_FORK_H
#define IPV4B_FORK_H

#include "sysdep.h"

#include <stdatomic.h>

extern atomic_uint ipv4b_fork_count;

/* Starts to count. Only the first call in a process has an effect. Returns 0 or -errno. */
int ipv4b_fork_watch(void);

static inline unsigned int
ipv4b_forks(void)
{
    return atomic_load_explicit(&ipv4b_fork_count, memory_order_relaxed);
}

#endif
