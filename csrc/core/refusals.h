/* refusals.h - the paths that have refused segmentation offload, remembered for a while.
 *
 * A route with a small MTU or a device without checksum offload refuses runs. Each path that it
 * concerns is remembered by itself, so that the others keep their offload. Locking: the caller's, of
 * every function.
 */
#ifndef IPV4B_REFUSALS_H
#define IPV4B_REFUSALS_H

#include "sysdep.h"

enum {
    /* How many paths are remembered; the oldest are dropped. The table takes 48 KiB at most, and
     * one turn of a call (1024 messages) has no more paths. */
    IPV4B_REFUSALS_MAX = 1024,
    /* Seconds after which a path is tried again. So a changed route or MTU is noticed within a
     * minute, and a path that still refuses costs two more system calls a minute. */
    IPV4B_REFUSAL_SECONDS = 60,
};

typedef struct {
    uint64_t hash;           /* of the path; two paths that share it and the name count as one */
    int64_t until;           /* on the clock of ipv4b_now(): when it is tried again */
    struct sockaddr_in name; /* of no family for the peer of a connected socket */
    int error;               /* the errno of the refusal */
    uint16_t next;           /* in its bucket: an entry's number and 1, or 0 */
} ipv4b_refusal;

typedef struct {
    size_t count;  /* entries that were ever filled, at most IPV4B_REFUSALS_MAX */
    size_t oldest; /* the entry that goes next, once all are filled */
    ipv4b_refusal entries[IPV4B_REFUSALS_MAX];
    uint16_t buckets[IPV4B_REFUSALS_MAX];
} ipv4b_refusals;

/* An empty table, or NULL. */
ipv4b_refusals *ipv4b_refusals_new(void);

/* The errno with which a path refuses runs at the time `now`, or 0. */
int ipv4b_refusals_find(const ipv4b_refusals *table, const struct msghdr *h, uint64_t hash,
                        int64_t now);

/* Remembers that a path refused. */
void ipv4b_refusals_add(ipv4b_refusals *table, const struct msghdr *h, uint64_t hash, int error,
                        int64_t now);

/* Copies what holds at the time `now` to `out`, which has room for IPV4B_REFUSALS_MAX; the oldest
 * first. Returns how many. */
size_t ipv4b_refusals_list(const ipv4b_refusals *table, int64_t now, ipv4b_refusal *out);

#endif
