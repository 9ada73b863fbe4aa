/* gso.h - segmentation offload for writes: the runs of a plan, handed to the kernel.
 *
 * Locking: none; a plan belongs to one call.
 */
#ifndef IPV4B_GSO_H
#define IPV4B_GSO_H

#include "plan.h"

/* The result of an attempt. */
typedef struct {
    int error;   /* as in ipv4b_mmsg_send, of the next message in the plan's order */
    int refused; /* the errno of a refused run whose messages went alone, or 0 */
    int pending; /* the errno that reported an earlier datagram, or 0 */
} ipv4b_gso_result;

/* Hands the messages of a plan over from where it stands, without waiting, and sets the msg_len of
 * each that was taken as if it had gone alone. Returns how many messages were taken, in the plan's
 * order. The plan's request learns which messages share an id.
 *
 * If the kernel or a device refuses a run, its messages go one by one; when that works, the refusal
 * is told and written down in the run's path, and no other run of that path is tried. The same error
 * without offload is the message's own. An error that looks like a refusal, but does not come again,
 * was the report of an earlier datagram. Nothing is sent twice: a run is taken whole or not at all
 * (udp_send_skb, net/ipv4/udp.c). */
size_t ipv4b_gso_send(int fd, ipv4b_slot *slots, int flags, ipv4b_gso_plan *plan,
                      ipv4b_gso_result *result);

/* Skips the next message of a plan. The rest of its run goes message by message. */
void ipv4b_gso_skip(ipv4b_gso_plan *plan);

#endif
