/* conn.h - the type Conn, base of PacketConn and RawConn.
 *
 * Locking: see python/io/conn.h.
 */
#ifndef IPV4B_TYPES_CONN_H
#define IPV4B_TYPES_CONN_H

#include "python/io/conn.h"

extern PyType_Spec ipv4b_conn_spec;

/* tp_init for a type that takes sockets of `types`, a set of 1 << SOCK_*; `wanted` names them for
 * the error. */
int ipv4b_conn_init(PyObject *self, PyObject *args, PyObject *kwargs, unsigned int types,
                    const char *wanted);

#endif
