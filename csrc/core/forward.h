/* forward.h - slots that send what was received: the first bytes of a message's buffers, cut up again
 * where the kernel had coalesced them.
 *
 * Locking: none; a scratch belongs to one call.
 */
#ifndef IPV4B_FORWARD_H
#define IPV4B_FORWARD_H

#include "sysdep.h"

/* Memory behind the slots of a turn. */
typedef struct {
    size_t capacity;        /* slots */
    unsigned char *control; /* of each slot, as much as one item needs */
    size_t iov_capacity;
    struct iovec *iov;
} ipv4b_forward_scratch;

/* An empty one, or NULL. */
ipv4b_forward_scratch *ipv4b_forward_scratch_new(void);

/* NULL is allowed. */
void ipv4b_forward_scratch_free(ipv4b_forward_scratch *s);

/* Makes room for the control data of n slots. Returns 0 or -ENOMEM. */
int ipv4b_forward_reserve(ipv4b_forward_scratch *s, size_t n);

/* The segment size in the control data of a received datagram of `len` bytes, if that is several
 * coalesced datagrams; 0 for one that came alone. */
uint16_t ipv4b_forward_segment(const void *control, size_t control_len, size_t len);

/* Gives slot i control data that makes the kernel cut it into segments of this size. */
void ipv4b_forward_split(ipv4b_forward_scratch *s, size_t i, struct msghdr *h, uint16_t segment);

/* Shortens each of the n slots to the first msg_len bytes of its buffers. A slot whose msg_len
 * is more than its buffers hold must not be sent: it gets a size that no datagram can have, so
 * that the kernel refuses it with EMSGSIZE. Returns 0, or -ENOMEM with some slots shortened. */
int ipv4b_forward_trim(ipv4b_forward_scratch *s, ipv4b_slot *slots, size_t n);

#endif
