/* error_queue.h - errors of the network (IP_RECVERR): the type QueuedError and the method read_errors.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_ERROR_QUEUE_H
#define IPV4B_ERROR_QUEUE_H

#include "python/io/conn.h"

extern PyStructSequence_Desc ipv4b_queued_error_desc;

PyObject *ipv4b_read_errors(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
extern const char ipv4b_read_errors_doc[];

/* Keeps an entry whose result could not be made, as the first of the next read_errors. The connection
 * OWNS it then. */
void ipv4b_error_queue_keep(ipv4b_conn_object *self, ipv4b_queued_error *e);

#endif
