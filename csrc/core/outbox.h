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
    bool gone; /* sent or dropped, while one before it still waits */
    struct sockaddr_in name;
} ipv4b_outgoing;

typedef struct {
    unsigned char *memory;
    size_t used, capacity;
    ipv4b_outgoing *items;
    size_t first, end, room; /* of items: the first that waits, one past the last; how many fit */
    size_t count;            /* how many wait */
} ipv4b_outbox;

/* Copies a datagram behind those that wait: the name unless it is NULL, the control data, and the
 * bytes of the iovecs. Returns 0, or -ENOMEM with nothing changed. */
int ipv4b_outbox_append(ipv4b_outbox *box, const struct sockaddr_in *name, const void *control,
                        size_t control_len, const struct iovec *iov, size_t iov_len);

/* Fills up to n slots, and an iovec for each, with the first that wait, and puts their places into
 * `places`; returns how many. They are good until the box changes. */
size_t ipv4b_outbox_slots(ipv4b_outbox *box, ipv4b_slot *slots, struct iovec *iov, size_t *places,
                          size_t n);

/* Removes the datagram at a place. Returns how many bytes it had. */
size_t ipv4b_outbox_remove(ipv4b_outbox *box, size_t place);

void ipv4b_outbox_clear(ipv4b_outbox *box);

/* Moves the datagrams of `from` behind those of `to`. Returns 0, or -ENOMEM with a part moved
 * and the rest still in `from`. */
int ipv4b_outbox_join(ipv4b_outbox *to, ipv4b_outbox *from);

void ipv4b_outbox_free(ipv4b_outbox *box);

#endif
