/* plan.h - which messages of a turn go as one: runs for segmentation offload, by path.
 *
 * A run is messages of one path with equal sizes (the last may be shorter). The kernel takes it as
 * one datagram, gathered from the messages' own buffers, and cuts it up as late as it can (udp(7),
 * UDP_SEGMENT; since Linux 4.18). A plan finds the runs in one pass, whatever stands between their
 * messages, and is sent to its end: what fails in the middle does not make it anew.
 *
 * Locking: none; a plan belongs to one call. The table of refusals is only read.
 */
#ifndef IPV4B_PLAN_H
#define IPV4B_PLAN_H

#include "refusals.h"
#include "tx_request.h"

enum {
    IPV4B_GSO_SEGMENTS = 64, /* UDP_MAX_SEGMENTS was 64 before Linux 6.9 and is 128 since */
    IPV4B_GSO_BYTES = 65507, /* what one datagram can carry: 65535 less the IPv4 and UDP headers */
    IPV4B_GSO_CONTROL_MAX = 256 /* control data of a message that can be in a run */
};

typedef struct {
    uint32_t first, last; /* numbers of messages; `next` links those between */
    uint32_t length;      /* how many messages */
    uint32_t most;        /* how many of `segment` bytes there can be; 0 for a run that has ended */
    uint32_t segment;     /* the size of all but the last */
    uint32_t iovecs;
    uint32_t path; /* number of the path, or IPV4B_NO_PATH for what is too large for any */
} ipv4b_run;

#define IPV4B_NO_PATH UINT32_MAX

typedef struct {
    uint64_t hash;        /* of every path but the first, as long as that is the only one */
    uint32_t message;     /* one that has it */
    uint32_t run;         /* its last run */
    uint32_t after;       /* the path that followed it last time, or IPV4B_NO_PATH */
    uint32_t control_len; /* of its control items, without the tail that the kernel ignores */
    int refused;          /* an errno with which runs of this path are refused, or 0 */
    bool alone;           /* its messages make no runs */
    bool told;            /* the refusal is from the table, or the caller has put it there */
} ipv4b_path;

/* Slot k goes to the kernel for runs[k]. `order` has the numbers of all messages in the order in
 * which they go, run by run. The arrays live as long as the plan and are used again by the next
 * call. */
typedef struct {
    size_t count;  /* of runs */
    size_t done;   /* how many messages are done: the next one is order[done] */
    size_t at;     /* the run that goes next */
    size_t part;   /* how many of its messages are done, one by one */
    bool broken;   /* the rest of it goes message by message */
    bool unable;   /* the socket can send no runs at all */
    bool shuffled; /* `order` is not that of the list */
    int refusing;  /* the errno with which it was refused, as long as that may be a message's own */
    ipv4b_tx_request *request; /* of the turn's messages, set before a plan is made; or NULL */
    ipv4b_slot *slots;
    ipv4b_run *runs;
    uint32_t *order;
    size_t path_count;
    ipv4b_path *paths;
    uint32_t *next;         /* of a message: the next of its run */
    uint16_t *table;        /* open addressing: a path's number and 1, or 0 */
    size_t table_mask;      /* its size less 1 */
    struct iovec *iov;      /* of the runs */
    unsigned char *control; /* of the runs */
    size_t capacity, iov_capacity, control_capacity;
} ipv4b_gso_plan;

/* A plan without messages, or NULL. */
ipv4b_gso_plan *ipv4b_gso_plan_new(void);

/* NULL is allowed. */
void ipv4b_gso_plan_free(ipv4b_gso_plan *plan);

/* Finds the runs among n messages, at most UINT16_MAX. With `reorder` a run takes messages from
 * everywhere, and the order on each path is the list's; without it the whole order is. Paths that
 * stand in `refusals` (NULL for none) make no runs. Returns 0, or -ENOMEM. */
int ipv4b_gso_plan_make(ipv4b_gso_plan *plan, const ipv4b_slot *slots, size_t n, bool reorder,
                        const ipv4b_refusals *refusals, int64_t now);

/* Bytes over all iovecs of a message. */
static inline size_t
ipv4b_message_bytes(const struct msghdr *h)
{
    size_t size = 0;

    if (h->msg_iovlen == 1) {
        return h->msg_iov->iov_len;
    }
    for (size_t i = 0; i < (size_t)h->msg_iovlen; i++) {
        size += h->msg_iov[i].iov_len;
    }
    return size;
}

#endif
