/* offload.h - offload as attributes of a connection: gso, gso_error, gro, pending; and what
 * the kernel was asked to deliver, which shares an option with gro.
 *
 * Locking: the connection's lock for every change; see conn.h.
 */
#ifndef IPV4B_OFFLOAD_H
#define IPV4B_OFFLOAD_H

#include "python/io/conn.h"

PyObject *ipv4b_gso_get(PyObject *self, void *closure);
int ipv4b_gso_set(PyObject *self, PyObject *value, void *closure);
PyObject *ipv4b_gso_error_get(PyObject *self, void *closure);
PyObject *ipv4b_gso_refusals_get(PyObject *self, void *closure);
PyObject *ipv4b_gro_get(PyObject *self, void *closure);
int ipv4b_gro_set(PyObject *self, PyObject *value, void *closure);
PyObject *ipv4b_pending_get(PyObject *self, void *closure);

/* For callers that hold the connection's lock: the kernel coalesces already, as if gro had been set. Returns
 * 0, or -1 with MemoryError. */
int ipv4b_gro_take_over(ipv4b_conn_object *self);

/* For callers that hold the connection's lock. Asks the kernel for the control data of `flags`
 * (IPV4B_CM_*), or no longer. Returns 0 with control_flags changed; or -1 with NotImplementedError,
 * MemoryError or OSError, and control_flags saying what is on. */
int ipv4b_change_control(ipv4b_conn_object *self, unsigned int flags, bool on);

#endif
