/* read_fileno.h - what a poller sees of a connection: the method read_fileno.
 *
 * A poll of the socket does not see what the connection has received and not given yet. The descriptor of
 * read_fileno does (core/readable.h). Whoever changes what a read would find beside the socket says so with
 * ipv4b_conn_announce, which is a comparison for connections without that descriptor.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_READ_FILENO_H
#define IPV4B_READ_FILENO_H

#include "python/io/conn.h"

/* Whether a read has something to give that is not in the socket. */
static inline bool
ipv4b_conn_has_received(const ipv4b_conn_object *self)
{
    return (self->receiving.queue != NULL && ipv4b_gro_pending(self->receiving.queue) > 0) ||
           self->receiving.unread.count > 0 || self->receiving.unread_errors.count > 0 ||
           self->stamping.queue.count > 0 || self->batches.pending_error[IPV4B_READ] != 0;
}

static inline void
ipv4b_conn_announce(ipv4b_conn_object *self)
{
    if (self->receiving.readable != NULL) {
        ipv4b_readable_set(self->receiving.readable, ipv4b_conn_has_received(self));
    }
}

PyObject *ipv4b_read_fileno(PyObject *self, PyObject *unused);
extern const char ipv4b_read_fileno_doc[];

#endif
