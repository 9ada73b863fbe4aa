/* submit.h - from the program to the socket: what it sends.
 *
 * Locking: see core.h.
 */
#ifndef IPV4B_AIO_SUBMIT_H
#define IPV4B_AIO_SUBMIT_H

#include "python/base/state.h"

PyObject *ipv4b_core_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *ipv4b_core_append(PyObject *self, PyObject *messages);
extern const char ipv4b_core_sendto_doc[];
extern const char ipv4b_core_append_doc[];

#endif
