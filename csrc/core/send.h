/* send.h - handing a batch to the kernel, with segmentation offload and with errors of the network
 * set aside.
 *
 * Locking: none; everything belongs to the call.
 */
#ifndef IPV4B_SEND_H
#define IPV4B_SEND_H

#include "gso.h"

typedef struct {
    bool gso;            /* form runs (gso.h) */
    bool recv_errors;    /* IP_RECVERR is on: errors of the network wait in their queue */
    ipv4b_gso_plan plan; /* memory for the runs; the caller frees it */
    int error;           /* result: as in ipv4b_mmsg_send */
    int refused;         /* result: as in ipv4b_gso_send */
    int late;            /* result: as in ipv4b_gso_send, 0 with recv_errors */
} ipv4b_sender;

/* Hands n messages over without waiting. Returns how many were taken.
 *
 * The kernel reports an ICMP error that came in for one peer by failing the next send to any peer,
 * once (ip(7), IP_RECVERR). With recv_errors such a report is dropped, since the error itself stays
 * in the queue, and the message is tried again. An error that comes back at once is the message's
 * own. */
size_t ipv4b_send(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s);

#endif
