/* inbox.h - memory for a batch of datagrams of any size, and those of it that nobody has got yet.
 *
 * Locking: none; an inbox belongs to one reader at a time.
 */
#ifndef IPV4B_INBOX_H
#define IPV4B_INBOX_H

#include "sysdep.h"

/* So many datagrams at a time: from 32 on, more save no further time of the system calls, and those
 * who wait for their turn wait for all of them. */
enum { IPV4B_INBOX_SLOTS = 64 };

typedef struct ipv4b_inbox {
    size_t next, count; /* slots[next] to slots[count - 1] have datagrams */
    ipv4b_slot slots[IPV4B_INBOX_SLOTS];
    struct iovec iov[IPV4B_INBOX_SLOTS];
    struct sockaddr_in names[IPV4B_INBOX_SLOTS];
    unsigned char *memory;
} ipv4b_inbox;

/* Empty, or NULL when there is no memory. Pages are touched only where datagrams come to lie. */
ipv4b_inbox *ipv4b_inbox_new(void);
void ipv4b_inbox_free(ipv4b_inbox *box);

/* Readies the slots of an empty one for a receive. */
void ipv4b_inbox_prime(ipv4b_inbox *box);

#endif
