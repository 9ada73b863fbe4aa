/* count.h - the int that a batch call returns: it is there before the call moves anything.
 *
 * Locking: the GIL, or none: what is shared is published by one atomic exchange.
 */
#ifndef IPV4B_COUNT_H
#define IPV4B_COUNT_H

#include "python/base/state.h"

/* Makes sure, before a call on n messages, that there will be an int for its result. *all is one for
 * n itself, or NULL where that is not needed. Of what several turns move in part nobody can make
 * one: last_read and last_written tell it without. Returns 0, or -1 with MemoryError. */
int ipv4b_count_prepare(ipv4b_state *state, size_t n, PyObject **all);

/* The result of a call that has moved n messages. New, or NULL with MemoryError, if n is more than a
 * turn's. */
PyObject *ipv4b_count_get(const ipv4b_state *state, size_t n);

#endif
