/* multicast.h - interfaces, the interface of outgoing multicast, and membership of groups (RFC
 * 3678).
 *
 * Locking: see sockopt.h.
 */
#ifndef IPV4B_MULTICAST_H
#define IPV4B_MULTICAST_H

#include "python/base/state.h"

/* A getter and a setter for the attribute multicast_interface. */
PyObject *ipv4b_multicast_interface_get(PyObject *self, void *closure);
int ipv4b_multicast_interface_set(PyObject *self, PyObject *value, void *closure);

/* The methods of the same names: (interface, group) and (interface, group, source). */
PyObject *ipv4b_join_group(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames);
PyObject *ipv4b_leave_group(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *ipv4b_join_source_specific_group(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                           PyObject *kwnames);
PyObject *ipv4b_leave_source_specific_group(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                            PyObject *kwnames);
PyObject *ipv4b_exclude_source_specific_group(PyObject *self, PyObject *const *args,
                                              Py_ssize_t nargs, PyObject *kwnames);
PyObject *ipv4b_include_source_specific_group(PyObject *self, PyObject *const *args,
                                              Py_ssize_t nargs, PyObject *kwnames);

#endif
