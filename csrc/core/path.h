/* path.h - the path of a message: its destination and the bytes of its control data.
 *
 * The kernel chooses route, source and header fields of a datagram by these two, so messages of one
 * path can share a run (plan.h), and what a path refuses does not concern the others. Locking: none.
 */
#ifndef IPV4B_PATH_H
#define IPV4B_PATH_H

#include "sysdep.h"

/* Whether two messages have the same path. A destination is an IPv4 endpoint or none (that of the
 * socket); one of any other form is equal to nothing. */
static inline bool
ipv4b_same_path(const struct msghdr *a, const struct msghdr *b)
{
    if (a->msg_namelen != b->msg_namelen || a->msg_controllen != b->msg_controllen) {
        return false;
    }
    if (a->msg_namelen == sizeof(struct sockaddr_in)
            ? memcmp(a->msg_name, b->msg_name, sizeof(struct sockaddr_in)) != 0
            : a->msg_namelen != 0) {
        return false;
    }
    return a->msg_controllen == 0 ||
           memcmp(a->msg_control, b->msg_control, (size_t)a->msg_controllen) == 0;
}

/* A hash: equal for equal paths. It starts from the address at which the system has loaded this
 * code, so that peers cannot choose addresses that collide. */
uint64_t ipv4b_path_hash(const struct msghdr *h);

#endif
