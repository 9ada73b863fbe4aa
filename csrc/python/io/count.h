/* count.h - the int that a batch call returns: it is there before the call moves anything.
 *
 * Locking: the GIL, or none: what is shared is published by one atomic exchange.
 */
#ifndef IPV4B_COUNT_H
#define IPV4B_COUNT_H

#include "python/base/state.h"

/* Every Python has the ints up to this one ready. */
enum { IPV4B_COUNT_SMALL = 256 };

/* The two functions below for larger numbers. */
int ipv4b_count_prepare_large(ipv4b_state *state, size_t n, PyObject **all);
PyObject *ipv4b_count_get_large(const ipv4b_state *state, size_t n);

/* Makes the int for the result before a call on n messages. *all is the int n, or NULL where
 * that is not needed. A call that ends in the middle of several turns has no int ready;
 * last_read and last_written then have the number. Returns 0, or -1 with MemoryError. */
static inline int
ipv4b_count_prepare(ipv4b_state *state, size_t n, PyObject **all)
{
    *all = NULL;
    return n > IPV4B_COUNT_SMALL ? ipv4b_count_prepare_large(state, n, all) : 0;
}

/* The result of a call that has moved n messages. New; NULL with MemoryError only if n is more than a
 * turn's. */
static inline PyObject *
ipv4b_count_get(const ipv4b_state *state, size_t n)
{
    return n > IPV4B_COUNT_SMALL ? ipv4b_count_get_large(state, n) : PyLong_FromLong((long)n);
}

#endif
