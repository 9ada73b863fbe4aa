/* datagram.h - one datagram a call: read_from and write_to of PacketConn and RawConn.
 *
 * Locking: see conn.h. A call holds the caller's buffers (Py_buffer) while it is without the GIL.
 */
#ifndef IPV4B_DATAGRAM_H
#define IPV4B_DATAGRAM_H

#include "state.h"

PyObject *ipv4b_packetconn_read_from(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames);
PyObject *ipv4b_packetconn_write_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames);
PyObject *ipv4b_rawconn_read_from(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames);
PyObject *ipv4b_rawconn_write_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
extern const char ipv4b_packetconn_read_from_doc[];
extern const char ipv4b_packetconn_write_to_doc[];
extern const char ipv4b_rawconn_read_from_doc[];
extern const char ipv4b_rawconn_write_to_doc[];

#endif
