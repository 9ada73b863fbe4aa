/* send.h - handing a turn's messages to the kernel, with segmentation offload and with errors of the
 * network set aside.
 *
 * Locking: none; everything belongs to the call.
 */
#ifndef IPV4B_SEND_H
#define IPV4B_SEND_H

#include "gso.h"

/* All 0 at first, except for the wishes. ipv4b_send continues where the last call ended. */
typedef struct {
    bool gso;                  /* form runs (plan.h) */
    bool reorder;              /* also of messages that are not neighbours in the list */
    bool recv_errors;          /* IP_RECVERR is on: errors of the network wait in their queue */
    bool planned;              /* there is a plan, and messages go in its order */
    size_t done;               /* how many are done */
    ipv4b_gso_plan *plan;      /* made when it is needed; the caller frees it */
    ipv4b_tx_request *request; /* for the turn, or NULL; the caller's */
    int error;                 /* result: as in ipv4b_mmsg_send */
    int refused;               /* result: as in ipv4b_gso_send */
    int pending;               /* result: as in ipv4b_gso_send, 0 with recv_errors */
} ipv4b_sender;

/* Begins a turn of n messages: makes the plan, if there is to be one. `refusals` is NULL for none. */
void ipv4b_send_plan(ipv4b_sender *s, const ipv4b_slot *slots, size_t n, int flags,
                     const ipv4b_refusals *refusals);

/* Hands the rest of the turn's n messages over without waiting. Returns how many were taken.
 *
 * The kernel reports an ICMP error that came in for one peer by failing the next send to any peer,
 * once (ip(7), IP_RECVERR). With recv_errors such a report is dropped, since the error itself stays
 * in the queue, and the message is tried again. An error that comes back at once is the message's
 * own. */
size_t ipv4b_send(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s);

/* Passes over the next message. */
void ipv4b_send_skip(ipv4b_sender *s);

/* The number of the next message. */
static inline size_t
ipv4b_send_next(const ipv4b_sender *s)
{
    return s->planned ? s->plan->order[s->done] : s->done;
}

#endif
