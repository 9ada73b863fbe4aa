/* iovec.h - bytes to and from the buffers of a message.
 *
 * Locking: none.
 */
#ifndef IPV4B_IOVEC_H
#define IPV4B_IOVEC_H

#include "sysdep.h"

/* Fills a message's buffers from the first on; returns how many bytes fitted. */
static inline size_t
ipv4b_scatter(const struct msghdr *h, const unsigned char *from, size_t len)
{
    size_t done = 0;

    if (h->msg_iovlen == 1 && h->msg_iov->iov_len >= len && len != 0) {
        memcpy(h->msg_iov->iov_base, from, len);
        return len;
    }
    for (size_t i = 0; i < (size_t)h->msg_iovlen && done < len; i++) {
        size_t part = h->msg_iov[i].iov_len < len - done ? h->msg_iov[i].iov_len : len - done;

        if (part != 0) {
            memcpy(h->msg_iov[i].iov_base, from + done, part);
        }
        done += part;
    }
    return done;
}

/* Bytes from a message's buffers, from the first on; returns how many. */
static inline size_t
ipv4b_gather_bytes(unsigned char *to, size_t room, const struct msghdr *h)
{
    size_t done = 0;

    for (size_t i = 0; i < (size_t)h->msg_iovlen && done < room; i++) {
        size_t part = h->msg_iov[i].iov_len < room - done ? h->msg_iov[i].iov_len : room - done;

        if (part != 0) {
            memcpy(to + done, h->msg_iov[i].iov_base, part);
        }
        done += part;
    }
    return done;
}

#endif
