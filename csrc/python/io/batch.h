/* batch.h - the batch engine: a list of messages through recvmmsg or sendmmsg, for every kind of
 * connection.
 *
 * Locking: see message.h (pins) and conn.h.
 */
#ifndef IPV4B_BATCH_H
#define IPV4B_BATCH_H

#include "python/io/gather.h"
#include "python/io/loop.h"

/* The methods read_batch and write_batch of a connection. */
PyObject *ipv4b_read_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames);
PyObject *ipv4b_write_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
extern const char ipv4b_read_batch_doc[];
extern const char ipv4b_write_batch_doc[];

/* What a call does with its messages. */
typedef struct {
    ipv4b_direction direction;
    bool whole; /* a write that reports every message: those that it does not try get ECANCELED */
    /* Moves them. The first turn is gathered already. Returns 0, or -1 with an exception. */
    int (*run)(ipv4b_batch *b, ipv4b_io *io);
} ipv4b_batch_kind;

/* A call from its first step to its last. `forward` is NULL for all but forward,
 * `pace` for all but write_paced, `flags` for none. Returns
 * how many messages were moved, or NULL with an exception. */
PyObject *ipv4b_batch_call(PyObject *self, const ipv4b_batch_kind *kind, ipv4b_forwarding *forward,
                           ipv4b_pace *pace, PyObject *msgs, PyObject *flags);

/* For `run`. Goes once through the I/O loop with what is left of the turn. Returns how many messages were
 * moved, or -1 with an exception. */
Py_ssize_t ipv4b_batch_move(ipv4b_batch *b, ipv4b_io *io);

/* After a write: gives the next message its `error`, if the kernel reported one. */
void ipv4b_batch_note_write(ipv4b_batch *b, int error);

/* Whether there is time left, until `limit` and the connection's deadline. */
bool ipv4b_batch_is_before(const ipv4b_batch *b, int64_t limit);

/* Whether a call has messages for another turn. */
bool ipv4b_batch_has_more(const ipv4b_batch *b);

/* Puts `index` and `written` on the exception that is set, which is ours. Returns -1. */
int ipv4b_batch_annotate(size_t index, size_t written);

/* Remembers the paths that have refused their runs in the last attempt, and forgets s->refused. Without
 * memory for it they are tried again in the next turn. For callers that hold the connection's lock. */
void ipv4b_batch_note_refusals(ipv4b_conn_object *conn, ipv4b_sender *sender,
                               const ipv4b_slot *slots);

#endif
