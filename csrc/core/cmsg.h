/* cmsg.h - a bounded encoder and an iterator over a control buffer (cmsg(3), RFC 3542 section 20).
 *
 * The buffer needs no alignment: headers and data are copied, never read in place. Locking: none; a
 * buffer belongs to its caller for the time of a call.
 */
#ifndef IPV4B_CMSG_H
#define IPV4B_CMSG_H

#include "sysdep.h"

/* clang-format off
 *
 *     <--------------------- CMSG_SPACE(n) --------------------->
 *     +-----------+-------+------+---------+-----------+---------+
 *     | cmsg_len  | level | type | padding | n bytes   | padding |  next header ...
 *     +-----------+-------+------+---------+-----------+---------+
 *     <------------------ cmsg_len = CMSG_LEN(n) ------>
 *
 * clang-format on */

typedef struct {
    unsigned char *buf;
    size_t cap;
    size_t len; /* bytes written */
} ipv4b_cmsg_encoder;

typedef struct {
    const unsigned char *buf;
    size_t len;
    size_t pos; /* where the next header starts; after an error, where the bad one does */
} ipv4b_cmsg_iter;

typedef struct {
    int level;
    int type;
    const unsigned char *data; /* inside the buffer, with no alignment */
    size_t len;
} ipv4b_cmsg_item;

/* Appends one item, its padding zeroed. Returns 0, or -ENOBUFS with the buffer unchanged. */
int ipv4b_cmsg_put(ipv4b_cmsg_encoder *enc, int level, int type, const void *data, size_t len);

/* Gives the next item. Returns 1, 0 at the end (a tail too short for a header is ignored, as the
 * kernel does), or
 *   -EINVAL     a header length of zero
 *   -EBADMSG    a length too short for the header itself
 *   -ENOBUFS    a length that goes past the end of the buffer */
int ipv4b_cmsg_next(ipv4b_cmsg_iter *it, ipv4b_cmsg_item *out);

/* Copies items as the kernel delivers them (put_cmsg, net/core/scm.c): what does not fit whole is
 * cut and *truncated set. Items of (skip_level, skip_type) are left out. Returns the length
 * written. */
size_t ipv4b_cmsg_deliver(void *to, size_t cap, const void *from, size_t len, int skip_level,
                          int skip_type, bool *truncated);

/* Checks that a whole buffer is a sequence of items. Returns 0, or ipv4b_cmsg_next's error with
 * the offset of the bad header in *where. */
int ipv4b_cmsg_check(const void *buf, size_t len, size_t *where);

/* What ipv4b_cmsg_next's negative result means, in Go's words. */
const char *ipv4b_cmsg_strerror(int err);

#endif
