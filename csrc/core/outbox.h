/* outbox.h - datagrams that wait to be sent: copies, in one block of memory.
 *
 * Each lies right behind the one before it, so that a run of equal ones is one piece of memory to
 * the kernel too. Locking: none; the owner guards it.
 */
#ifndef IPV4B_OUTBOX_H
#define IPV4B_OUTBOX_H

#include "sysdep.h"

typedef struct {
    size_t at; /* where its bytes start; its control data ends at or before that */
    size_t control_at;
    uint32_t len;
    uint32_t control_len;
    bool has_name;
    struct sockaddr_in name;
} ipv4b_outgoing;

typedef struct {
    unsigned char *memory;
    size_t used, capacity;
    ipv4b_outgoing *items;
    size_t first, end, room; /* items[first] to items[end - 1] wait; there is room for so many */
} ipv4b_outbox;

/* Copies a datagram behind those that wait: the name unless it is NULL, the control data, and the
 * bytes of the iovecs. Returns 0, or -ENOMEM with nothing changed. */
int ipv4b_outbox_append(ipv4b_outbox *box, const struct sockaddr_in *name, const void *control,
                        size_t control_len, const struct iovec *iov, size_t iov_len);

static inline size_t
ipv4b_outbox_count(const ipv4b_outbox *box)
{
    return box->end - box->first;
}

/* Fills up to n slots, and an iovec for each, with the first datagrams; returns how many. They are
 * good until the box changes. */
size_t ipv4b_outbox_slots(ipv4b_outbox *box, ipv4b_slot *slots, struct iovec *iov, size_t n);

/* Forgets the first `count`; returns how many bytes they had. */
size_t ipv4b_outbox_drop(ipv4b_outbox *box, size_t count);

/* Moves what waits in `from` behind what waits in `to`, and empties `from`. Returns 0, or -ENOMEM
 * with what was moved until then in `to` and the rest in `from`. */
int ipv4b_outbox_join(ipv4b_outbox *to, ipv4b_outbox *from);

void ipv4b_outbox_free(ipv4b_outbox *box);

#endif
