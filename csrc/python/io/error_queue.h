/* error_queue.h - errors of the network (IP_RECVERR): the type QueuedError and the method read_errors.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_ERROR_QUEUE_H
#define IPV4B_ERROR_QUEUE_H

#include "python/io/loop.h"

extern PyStructSequence_Desc ipv4b_queued_error_desc;

PyObject *ipv4b_read_errors(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
extern const char ipv4b_read_errors_doc[];

/* What a step through the queue has found. Departure times come by the same queue, and go into the
 * connection's own. */
typedef enum {
    IPV4B_ENTRY_NONE,
    IPV4B_ENTRY_ERROR,
    IPV4B_ENTRY_STAMPS,
    IPV4B_ENTRY_KEPT
} ipv4b_entry;

/* Takes the next entry, or waits for one. *slot is memory for it, or NULL: it is made here, filled by an
 * error of the network, and the caller's to free. IPV4B_ENTRY_KEPT says that io->take_unread has found
 * something. IPV4B_ENTRY_NONE: an exception is set, or the queue is empty and the call may not wait.
 * *waiting is the connection's count of such calls. */
ipv4b_entry ipv4b_error_queue_next(ipv4b_conn_object *self, ipv4b_io *io, ipv4b_queued_error **slot,
                                   int *waiting);

/* Readies the loop for such a call; `wait` says that it waits for the first result. */
void ipv4b_error_queue_begin(const ipv4b_conn_object *self, ipv4b_io *io, bool wait);

/* Before each step: whether it may still wait. */
void ipv4b_error_queue_step(ipv4b_io *io, bool wait);

/* The method _collect_errors, for event loops: see its docstring. */
PyObject *ipv4b_collect_errors(PyObject *self, PyObject *unused);
extern const char ipv4b_collect_errors_doc[];

/* Keeps an entry whose result could not be made, as the first of the next read_errors. The connection
 * OWNS it then. */
void ipv4b_error_queue_keep(ipv4b_conn_object *self, ipv4b_queued_error *e);

/* Keeps the entry *slot of another reader for read_errors, as its last, and sets *slot to NULL. A full
 * list drops it, as the kernel does with a full queue. */
void ipv4b_error_queue_pass(ipv4b_conn_object *self, ipv4b_queued_error **slot);

/* The arguments max and wait of a call on the queue. Returns 0, or -1 with an exception. */
int ipv4b_error_queue_parse_args(const char *method, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames, long long *max, int *wait);

#endif
