/* unread.h - datagrams that a call received, and whose results it could not make for want of memory: the
 * next read gets them. A result cannot be made before the datagram is known, since its length, its
 * address and the view of it are objects that nobody can change.
 *
 * Locking: none; the owner of a list guards it.
 */
#ifndef IPV4B_UNREAD_H
#define IPV4B_UNREAD_H

#include "sysdep.h"

/* One datagram. Its memory is there before the datagram is received. */
typedef struct ipv4b_unread ipv4b_unread;

typedef struct {
    ipv4b_unread *first; /* the oldest */
    ipv4b_unread *last;  /* if there is a first */
    size_t count;
} ipv4b_unread_list;

/* Room for `size` bytes beside the control data, or NULL when there is no memory. */
ipv4b_unread *ipv4b_unread_new(size_t size);
void ipv4b_unread_free(ipv4b_unread *unread);

/* Copies what a slot has received, to the end of the list. The list OWNS `unread` then. */
void ipv4b_unread_append(ipv4b_unread_list *list, ipv4b_unread *unread, const ipv4b_slot *from);

/* Puts all of `front` before what `list` has; `front` is empty then. */
void ipv4b_unread_prepend(ipv4b_unread_list *list, ipv4b_unread_list *front);

/* Fills slots from the list, as a receive with these flags would; returns how many were filled. With
 * MSG_PEEK in flags the oldest fills every slot and stays, as with recvmmsg. With `split` each
 * segment of a coalesced datagram (gro.h) is one of its own. */
size_t ipv4b_unread_take(ipv4b_unread_list *list, ipv4b_slot *slots, size_t n, int flags,
                         bool split);

/* How many datagrams a read would get. */
size_t ipv4b_unread_pending(const ipv4b_unread_list *list, bool split);

void ipv4b_unread_clear(ipv4b_unread_list *list);

#endif
