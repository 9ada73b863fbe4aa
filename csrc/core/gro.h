/* gro.h - receive offload: coalesced datagrams (udp(7), UDP_GRO; since Linux 5.0) -> the datagrams
 * that were sent.
 *
 * A queue receives into large buffers of its own and hands out one datagram a slot, with its own
 * length, address and control data, as if each had come alone. What does not fit into one call's
 * slots stays, in order, for the next. Locking: a mutex of its own, held over one call, which never
 * waits for the network.
 */
#ifndef IPV4B_GRO_H
#define IPV4B_GRO_H

#include "sysdep.h"

#include <pthread.h>

typedef struct ipv4b_gro ipv4b_gro;

/* A new, empty queue, or NULL without memory. The kernel provides a page of it only when a
 * datagram is written there. */
ipv4b_gro *ipv4b_gro_new(void);
void ipv4b_gro_free(ipv4b_gro *q);

/* How many datagrams were waiting in the queue after the last receive; takes no lock. */
size_t ipv4b_gro_pending(const ipv4b_gro *q);

/* Says that the socket has UDP_GRO on. From now on the queue sets it again before a receive if
 * other code has cleared it. */
void ipv4b_gro_keep_option(ipv4b_gro *q);

/* Fills slots, first from the queue and then from the socket without waiting, as ipv4b_mmsg_recv
 * does. With MSG_PEEK in flags the first datagram fills every slot and stays, as with recvmmsg.
 * With `receive` false the socket is not read, and an empty queue gives -EAGAIN. */
int ipv4b_gro_recv(ipv4b_gro *q, int fd, ipv4b_slot *slots, size_t n, int flags, bool receive,
                   int *pending);

/* In the child of a fork: makes the queue usable again, and empty. */
void ipv4b_gro_after_fork(ipv4b_gro *q);

/* The segment size that came with what was received into a slot; 0 for a datagram that came
 * alone. */
size_t ipv4b_gro_segment_size(const ipv4b_slot *slot);

/* How many datagrams there are in the last `left` bytes of a coalesced one. An empty datagram
 * counts too. */
size_t ipv4b_gro_segments(size_t left, size_t segment_size);

/* How many bytes of a coalesced datagram of `total` bytes belong to the datagram that starts at
 * `offset`. */
size_t ipv4b_gro_segment(size_t total, size_t offset, size_t segment_size);

#endif
