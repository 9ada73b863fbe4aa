/* error_queue.h - errors of the network from a socket's error queue (ip(7), IP_RECVERR; Linux).
 *
 * Locking: none; everything belongs to the call.
 */
#ifndef IPV4B_CORE_ERROR_QUEUE_H
#define IPV4B_CORE_ERROR_QUEUE_H

#include "sysdep.h"

enum {
    IPV4B_ERROR_DATA = 2048, /* of the datagram that failed; an ICMP message quotes less */
    IPV4B_ERROR_CONTROL = 512
};

typedef struct ipv4b_queued_error {
    int error;      /* errno */
    uint8_t origin; /* SO_EE_ORIGIN_*: 1 local, 2 ICMP, ... */
    uint8_t icmp_type, icmp_code;
    uint32_t mtu; /* for EMSGSIZE, else 0 */
    bool has_offender, has_addr;
    struct in_addr offender; /* the router or host that sent the ICMP message */
    struct sockaddr_in addr; /* where the datagram was going */
    size_t len;              /* bytes of `data` */
    ipv4b_slot slot;         /* what the kernel fills: addr, data and control */
    struct iovec iov;
    struct ipv4b_queued_error *next; /* the next one in a caller's list */
    unsigned char data[IPV4B_ERROR_DATA];
    unsigned char control[IPV4B_ERROR_CONTROL];
} ipv4b_queued_error;

/* Readies the slot for a receive. */
void ipv4b_error_queue_prepare(ipv4b_queued_error *e);

/* Takes the next error off the queue, without waiting. Returns 1, or -errno (-EAGAIN when the queue
 * is empty). */
int ipv4b_error_queue_recv(int fd, ipv4b_queued_error *e);

/* Copies an entry that was received into another slot. */
void ipv4b_error_queue_copy(ipv4b_queued_error *e, const ipv4b_slot *from);

/* Parses what the slot has received. An entry that is no error (a transmit timestamp) gets error
 * 0. */
void ipv4b_error_queue_parse(ipv4b_queued_error *e);

#endif
