/* gso.h - segmentation offload for writes: runs of datagrams -> one UDP_SEGMENT datagram each.
 *
 * A run is a row of messages with the same destination and control data and equal sizes (the last
 * may be shorter). The kernel takes it as one datagram, gathered from the messages' own buffers,
 * and cuts it up as late as it can (udp(7), UDP_SEGMENT; since Linux 4.18). Locking: none; a plan
 * belongs to one call.
 */
#ifndef IPV4B_GSO_H
#define IPV4B_GSO_H

#include "sysdep.h"

enum {
    IPV4B_GSO_SEGMENTS = 64, /* UDP_MAX_SEGMENTS was 64 before Linux 6.9 and is 128 since */
    IPV4B_GSO_BYTES = 65507, /* what one datagram can carry: 65535 less the IPv4 and UDP headers */
    IPV4B_GSO_CONTROL_MAX = 256 /* control data of a message that can be in a run */
};

/* The slots that go to the kernel: slot k stands for members[k] messages in a row. The arrays live
 * as long as the plan and are used again by the next call. */
typedef struct {
    size_t count;
    ipv4b_slot *slots;
    uint32_t *members;
    struct iovec *iov;      /* of the runs */
    unsigned char *control; /* of the runs */
    size_t slot_capacity, iov_capacity, control_capacity;
} ipv4b_gso_plan;

void ipv4b_gso_plan_free(ipv4b_gso_plan *plan);

/* Finds the runs among n messages. Returns 0, or -ENOMEM with the plan empty. */
int ipv4b_gso_plan_make(ipv4b_gso_plan *plan, const ipv4b_slot *slots, size_t n);

/* Hands n messages over in runs, without waiting, and sets the msg_len of each that was taken as if
 * it had gone alone. Returns how many were taken; *error is as in ipv4b_mmsg_send. If the kernel or
 * the device refuses a run, it goes again with all that follows, message by message; when that
 * works, *refused is the errno of the refusal, else 0. An error that looks like a refusal, but does
 * not come again, was the report of an earlier datagram, and is given as *late. Nothing is sent
 * twice: a run is taken whole or not at all (udp_send_skb, net/ipv4/udp.c).
 */
size_t ipv4b_gso_send(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_gso_plan *plan,
                      int *error, int *refused, int *late);

#endif
