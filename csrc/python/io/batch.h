/* batch.h - the batch engine: a list of messages through recvmmsg or sendmmsg, for every kind of
 * connection.
 *
 * Locking: see message.h (pins) and conn.h.
 */
#ifndef IPV4B_BATCH_H
#define IPV4B_BATCH_H

#include "python/io/conn.h"

#include "core/send.h"

/* The methods read_batch, write_batch and write_all of a connection. */
PyObject *ipv4b_read_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames);
PyObject *ipv4b_write_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *ipv4b_write_all(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);
extern const char ipv4b_read_batch_doc[];
extern const char ipv4b_write_batch_doc[];
extern const char ipv4b_write_all_doc[];

/* Remembers the paths that have refused their runs in the last attempt, and forgets s->refused. Without
 * memory for it they are tried again in the next turn. For callers that hold the connection's lock. */
void ipv4b_batch_note_refusals(ipv4b_conn_object *conn, ipv4b_sender *sender,
                               const ipv4b_slot *slots);

#endif
