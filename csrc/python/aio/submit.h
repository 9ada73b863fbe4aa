/* submit.h - from the program to the socket: what it sends.
 *
 * Locking: see core.h.
 */
#ifndef IPV4B_AIO_SUBMIT_H
#define IPV4B_AIO_SUBMIT_H

#include "python/aio/core.h"

PyObject *ipv4b_core_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *ipv4b_core_append(PyObject *self, PyObject *messages);
PyObject *ipv4b_core_flush_method(PyObject *self, PyObject *unused);
PyObject *ipv4b_core_end_turn(PyObject *self, PyObject *unused);
PyObject *ipv4b_core_discard(PyObject *self, PyObject *unused);
extern const char ipv4b_core_sendto_doc[];
extern const char ipv4b_core_append_doc[];
extern const char ipv4b_core_flush_doc[];
extern const char ipv4b_core_end_turn_doc[];
extern const char ipv4b_core_discard_doc[];

/* Hands over what waits. Returns 0, or -1 with an exception of a callback or a signal handler. */
int ipv4b_core_flush(ipv4b_core_object *self);

#endif
