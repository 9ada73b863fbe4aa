/* held.h - what was taken from the kernel, and could not be told for want of memory: it is held back for
 * the next call that reads.
 *
 * Locking: none; the owner of a list guards it.
 */
#ifndef IPV4B_HELD_H
#define IPV4B_HELD_H

#include "sysdep.h"

/* One datagram, or one entry of the error queue. Its memory is there before it is taken. */
typedef struct ipv4b_held ipv4b_held;

typedef struct {
    ipv4b_held *first; /* the oldest */
    ipv4b_held *last;  /* if there is a first */
    size_t count;
} ipv4b_held_list;

/* Room for `size` bytes beside the control data, or NULL when there is no memory. */
ipv4b_held *ipv4b_held_new(size_t size);
void ipv4b_held_free(ipv4b_held *held);

/* Whether it has room for so many bytes. */
bool ipv4b_held_fits(const ipv4b_held *held, size_t size);

/* Copies what a slot has received, behind all that is held. The list OWNS it then. */
void ipv4b_held_append(ipv4b_held_list *list, ipv4b_held *held, const ipv4b_slot *from);

/* Fills slots from the list, as a receive with these flags would; returns how many were filled. With
 * MSG_PEEK in flags the oldest fills every slot and stays, as with recvmmsg. With `apart` each
 * datagram of a bundle (gro.h) is one of its own. */
size_t ipv4b_held_take(ipv4b_held_list *list, ipv4b_slot *slots, size_t n, int flags, bool apart);

/* How many that would fill. */
size_t ipv4b_held_pending(const ipv4b_held_list *list, bool apart);

void ipv4b_held_clear(ipv4b_held_list *list);

#endif
