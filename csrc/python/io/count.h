/* count.h - the int that a batch call returns: it is there before the call moves anything.
 *
 * Locking: the GIL, or none: what is shared is published by one atomic exchange.
 */
#ifndef IPV4B_COUNT_H
#define IPV4B_COUNT_H

#include "python/base/state.h"

/* Ints up to so many are there in every Python, and cost no memory. */
enum { IPV4B_COUNT_SMALL = 256 };

/* What the two functions below do for larger numbers. */
int ipv4b_count_prepare_large(ipv4b_state *state, size_t n, PyObject **all);
PyObject *ipv4b_count_get_large(const ipv4b_state *state, size_t n);

/* Makes sure, before a call on n messages, that there will be an int for its result. *all is one for
 * n itself, or NULL where that is not needed. Of what several turns move in part nobody can make
 * one: last_read and last_written tell it without. Returns 0, or -1 with MemoryError. */
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
