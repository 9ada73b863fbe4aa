/* tx_timestamps.h - the times at which datagrams have left, as the kernel's error queue gives them, and a
 * queue of those that are read and not asked for yet
 * (Documentation/networking/timestamping.rst of the kernel).
 *
 * Locking: none; the owner guards a queue.
 */
#ifndef IPV4B_TX_TIMESTAMPS_H
#define IPV4B_TX_TIMESTAMPS_H

#include "sysdep.h"

/* The kinds, as the public TimestampKind has them: in the order in which a datagram meets them. */
enum {
    IPV4B_STAMP_SCHED = 1,    /* it entered the queueing discipline */
    IPV4B_STAMP_SOFTWARE = 2, /* the driver passed it to the device */
    IPV4B_STAMP_HARDWARE = 4, /* the device sent it, by the device's clock */
    IPV4B_STAMP_ALL = 7,
    IPV4B_TX_KEPT_MAX =
        65536 /* stamps in a queue; more are dropped, as the kernel's queue does it */
};

typedef struct {
    uint64_t id;
    int64_t ns; /* since the epoch of the clock */
    unsigned int kind;
} ipv4b_tx_timestamp;

/* A ring that grows. Its capacity is 0 or a power of two. */
typedef struct {
    ipv4b_tx_timestamp *items;
    size_t first, count, capacity;
} ipv4b_tx_queue;

/* Makes room for two more, as many as one entry of the kernel's queue gives. Returns 0, or -ENOMEM. */
int ipv4b_tx_queue_reserve(ipv4b_tx_queue *q);

/* Appends one, if there is room. */
void ipv4b_tx_queue_push(ipv4b_tx_queue *q, const ipv4b_tx_timestamp *stamp);

/* The oldest, in a queue that is not empty. */
static inline const ipv4b_tx_timestamp *
ipv4b_tx_queue_first(const ipv4b_tx_queue *q)
{
    return &q->items[q->first];
}

void ipv4b_tx_queue_pop(ipv4b_tx_queue *q);

/* Drops all, and the memory. */
void ipv4b_tx_queue_clear(ipv4b_tx_queue *q);

/* What SO_TIMESTAMPING asks of a message for these kinds: SOF_TIMESTAMPING_TX_*. */
uint32_t ipv4b_tx_kinds(unsigned int kinds);

/* Whether an entry of the kernel's queue, which a slot has received, is about a departure. Then *count says
 * how many stamps it has given, at most two. `newest` is the last id that was given away: the kernel's
 * have 32 bits, and the full id is the nearest one that is not newer. An id that was never given away gives
 * no stamp. */
bool ipv4b_tx_parse(const ipv4b_slot *slot, uint64_t newest, ipv4b_tx_timestamp stamps[2],
                    size_t *count);

#endif
