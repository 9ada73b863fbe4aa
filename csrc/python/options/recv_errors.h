/* recv_errors.h - the attribute recv_errors of a connection (IP_RECVERR, ip(7)).
 *
 * Locking: the connection's lock for every change; see python/io/conn.h.
 */
#ifndef IPV4B_RECV_ERRORS_H
#define IPV4B_RECV_ERRORS_H

#include "python/base/state.h"

PyObject *ipv4b_recv_errors_get(PyObject *self, void *closure);
int ipv4b_recv_errors_set(PyObject *self, PyObject *value, void *closure);

#endif
