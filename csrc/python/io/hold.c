/* hold.c - see hold.h. */
#include "python/io/hold.h"

/* Where a call with these flags looks: datagrams and errors of the network do not mix. */
static ipv4b_held_list *
list_of(ipv4b_conn_object *self, int flags)
{
    return &self->receiving.held[(flags & IPV4B_MSG_ERRQUEUE) != 0];
}

ipv4b_held *
ipv4b_hold_reserve(ipv4b_conn_object *self, size_t size)
{
    ipv4b_held *room = self->receiving.spare;

    self->receiving.spare = NULL; /* a call in another thread makes its own */
    if (!ipv4b_held_fits(room, size)) {
        ipv4b_held_free(room);
        room = ipv4b_held_new(size);
        if (room == NULL) {
            PyErr_NoMemory();
        }
    }
    return room;
}

void
ipv4b_hold_settle(ipv4b_conn_object *self, ipv4b_held *room, const ipv4b_slot *taken, int flags)
{
    if (taken != NULL && !(flags & MSG_PEEK) && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        ipv4b_held_append(list_of(self, flags), room, taken);
        ipv4b_conn_wake(self); /* it does not wake those who wait on the socket */
    }
    else {
        ipv4b_held_free(self->receiving.spare);
        self->receiving.spare = room;
    }
}

int
ipv4b_hold_recall(ipv4b_conn_object *self, const ipv4b_io *io)
{
    size_t n = io->n < INT_MAX ? io->n : INT_MAX;

    return (int)ipv4b_held_take(list_of(self, io->flags), io->slots, n, io->flags,
                                ipv4b_conn_takes_apart(self));
}

void
ipv4b_hold_drop(ipv4b_conn_object *self)
{
    ipv4b_held_clear(&self->receiving.held[0]);
    ipv4b_held_clear(&self->receiving.held[1]);
}
