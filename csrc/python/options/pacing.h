/* pacing.h - the attribute max_pacing_rate of a connection (SO_MAX_PACING_RATE, socket(7)).
 *
 * Locking: see sockopt.h.
 */
#ifndef IPV4B_PACING_H
#define IPV4B_PACING_H

#include "python/base/state.h"

PyObject *ipv4b_max_pacing_rate_get(PyObject *self, void *closure);
int ipv4b_max_pacing_rate_set(PyObject *self, PyObject *value, void *closure);

#endif
