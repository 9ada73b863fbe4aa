/* mmsg.h - the scratch arrays of a batch call, and the call itself: recvmmsg and sendmmsg, or the
 * loop over recvmsg and sendmsg where a system has none.
 *
 * Locking: none. A scratch belongs to one call from reserve to the call's end.
 */
#ifndef IPV4B_MMSG_H
#define IPV4B_MMSG_H

#include "sysdep.h"

/* Flat arrays of the same capacity: slots[i] is what the kernel gets of owners[i], and its name starts
 * as names[i], where a read has the peer's address put. The owners are opaque here; they are what the
 * caller holds while the kernel may use the memory behind the slots. */
typedef struct {
    size_t capacity;
    ipv4b_slot *slots;
    struct sockaddr_in *names;
    void **owners;
} ipv4b_scratch;

/* Makes room for n slots and drops what the arrays held. Returns 0, or -ENOMEM with the scratch
 * empty. */
int ipv4b_scratch_reserve(ipv4b_scratch *s, size_t n);

void ipv4b_scratch_free(ipv4b_scratch *s);

/* Fills slots from the socket without waiting (MSG_DONTWAIT is added). Returns how many were
 * filled, at least 1, or -errno. *pending is set to an errno (positive) that came after the first
 * message and has been taken from the socket, so that the caller can report it next time; the
 * kernel's own recvmmsg keeps it by itself.
 */
int ipv4b_mmsg_recv(int fd, ipv4b_slot *slots, size_t n, int flags, int *pending);

/* Hands slots over without waiting (MSG_DONTWAIT is added), in as many calls as the kernel's limit
 * makes it. Returns how many were taken. *error is 0 if that is all of them, or the reason why slot
 * number (result) was not taken, as a positive errno, where the kernel told: a sendmmsg that stops
 * after the first message of a call does not, and then *error is 0 too. The result is never
 * negative. */
size_t ipv4b_mmsg_send(int fd, ipv4b_slot *slots, size_t n, int flags, int *error);

#endif
