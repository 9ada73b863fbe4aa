/* inbox.h - memory for a batch of datagrams of any size, and those of it that nobody has got yet.
 *
 * Coalesced datagrams (gro.h) lie in it as they came, and are given one by one without a copy.
 *
 * Locking: none; an inbox belongs to one reader at a time.
 */
#ifndef IPV4B_INBOX_H
#define IPV4B_INBOX_H

#include "ancillary.h"
#include "unread.h"

/* Datagrams, or coalesced datagrams, of one receive. More would not make the system call
 * cheaper. */
enum { IPV4B_INBOX_SLOTS = 64 };

typedef struct ipv4b_inbox {
    size_t next, count;  /* slots[next] to slots[count - 1] have datagrams */
    size_t offset;       /* bytes of slots[next] that were given already */
    size_t segment_size; /* the segment size of slots[next]; 0 for a datagram that came alone */
    ipv4b_slot slots[IPV4B_INBOX_SLOTS];
    struct iovec iov[IPV4B_INBOX_SLOTS];
    struct sockaddr_in names[IPV4B_INBOX_SLOTS];
    _Alignas(struct cmsghdr) unsigned char control[IPV4B_INBOX_SLOTS][IPV4B_ANCILLARY_MAX];
    unsigned char *memory;
} ipv4b_inbox;

/* A new, empty one, or NULL without memory. The kernel provides a page of it only when a
 * datagram is written there. */
ipv4b_inbox *ipv4b_inbox_new(void);
void ipv4b_inbox_free(ipv4b_inbox *box);

/* Readies n slots of an empty one for a receive. */
void ipv4b_inbox_prime(ipv4b_inbox *box, size_t n);

/* Parses what a receive has put into the first `count` slots. */
void ipv4b_inbox_fill(ipv4b_inbox *box, size_t count);

/* The next datagram, of one that is not empty: where it lies, how long it is, and who sent it. It
 * stays until ipv4b_inbox_advance, which goes past it. */
const unsigned char *ipv4b_inbox_peek(const ipv4b_inbox *box, size_t *len,
                                      const struct sockaddr_in **name);
void ipv4b_inbox_advance(ipv4b_inbox *box, size_t len);

/* Copies what is left to the end of a list (unread.h), for another reader. Returns 0; or -ENOMEM, and
 * the list is then to be cleared. The inbox stays as it is. */
int ipv4b_inbox_give_back(const ipv4b_inbox *box, ipv4b_unread_list *list);

static inline bool
ipv4b_inbox_is_empty(const ipv4b_inbox *box)
{
    return box->next == box->count;
}

#endif
