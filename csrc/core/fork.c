/* fork.c - see fork.h. */
#include "fork.h"

#include <pthread.h>

atomic_uint ipv4b_fork_count;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int registered; /* 0, or the errno of the failure */

static void
fork_in_child(void)
{
    atomic_fetch_add_explicit(&ipv4b_fork_count, 1, memory_order_relaxed);
}

static void
fork_register(void)
{
    registered = pthread_atfork(NULL, NULL, fork_in_child);
}

int
ipv4b_fork_watch(void)
{
    int r = pthread_once(&once, fork_register);

    return r != 0 ? -r : -registered;
}
