/* hold.h - nothing is lost for want of memory: what a read has taken and cannot give is held back, for the
 * next read of the connection.
 *
 * A read that makes objects for what it has taken reserves memory first, and settles at its end.
 * Locking: see conn.h.
 */
#ifndef IPV4B_HOLD_H
#define IPV4B_HOLD_H

#include "python/io/conn.h"

/* Memory to hold up to `size` bytes that are to be taken, or NULL with MemoryError. */
ipv4b_held *ipv4b_hold_reserve(ipv4b_conn_object *self, size_t size);

/* Ends a read with these flags. `taken` is what could not be given, for the exception that is set, or
 * NULL; after MemoryError it is held back. STEALS `room`. */
void ipv4b_hold_settle(ipv4b_conn_object *self, ipv4b_held *room, const ipv4b_slot *taken,
                       int flags);

/* Fills the slots of a read with what is held back, if it waits; returns how many were filled. */
int ipv4b_hold_recall(ipv4b_conn_object *self, const ipv4b_io *io);

/* Whether there is something for this call. */
static inline bool
ipv4b_hold_waits(const ipv4b_conn_object *self, const ipv4b_io *io)
{
    return io->direction == IPV4B_READ &&
           self->receiving.held[(io->flags & IPV4B_MSG_ERRQUEUE) != 0].count > 0;
}

/* Forgets all of it. */
void ipv4b_hold_drop(ipv4b_conn_object *self);

#endif
