/* tx_request.h - asking for the departure times of a turn's messages (socket(7) and
 * Documentation/networking/timestamping.rst of the kernel).
 *
 * Each message carries two control items of ours behind its own: the kinds of stamps that are wanted
 * (SO_TIMESTAMPING, since Linux 4.6), and the id with which they come back (SCM_TS_OPT_ID, since Linux
 * 6.13). So the stamps of a message can be told whatever other calls, threads and failures do, and what
 * others send on the socket gets none. Locking: none; a request belongs to one call.
 */
#ifndef IPV4B_TX_REQUEST_H
#define IPV4B_TX_REQUEST_H

#include "sysdep.h"

/* slots[i] is what the kernel gets of message i when it goes alone. Its control data, in `control`, ends with
 * the two items of ours, as does that of a run. */
typedef struct {
    uint32_t kinds; /* IPV4B_TX_* of sysdep.h */
    ipv4b_slot *slots;
    uint64_t *ids; /* of each message; those of a run that went as one get that of its first */
    unsigned char *control;
    size_t capacity, control_capacity;
} ipv4b_tx_request;

/* Room that the items of ours take. */
#define IPV4B_TX_SPACE (2 * CMSG_SPACE(sizeof(uint32_t)))

/* A request without messages, or NULL. */
ipv4b_tx_request *ipv4b_tx_request_new(void);

/* NULL is allowed. */
void ipv4b_tx_request_free(ipv4b_tx_request *r);

/* Makes the slots of n messages, whose ids begin with `first`. Returns 0, or -ENOMEM. */
int ipv4b_tx_request_make(ipv4b_tx_request *r, const ipv4b_slot *slots, size_t n, uint32_t kinds,
                          uint64_t first);

/* Appends the items of ours for the id to control data that has `len` bytes and room for
 * IPV4B_TX_SPACE more. Returns the new length. */
size_t ipv4b_tx_request_put(unsigned char *control, size_t len, uint32_t kinds, uint64_t id);

/* Whether the kernel knows ids of one's own. Sends nothing. Returns 1, 0, or -errno. */
int ipv4b_tx_request_probe(void);

#endif
