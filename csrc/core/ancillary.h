/* ancillary.h - the control messages that we know: a table with a row an item.
 *
 * A row says which socket option asks the kernel for the item, how long it can be, how it is parsed
 * and how it is written. A new item is a new field below and a new row in ancillary.c. Locking:
 * none; a struct belongs to its caller for the time of a call.
 */
#ifndef IPV4B_ANCILLARY_H
#define IPV4B_ANCILLARY_H

#include "sysdep.h"

/* Flags for the items that a caller can ask for, and for those that are present. The values are
 * public (ControlFlags). The first four have the values of Go's x/net/ipv4. */
enum {
    IPV4B_CM_TTL = 1,
    IPV4B_CM_SRC = 2,
    IPV4B_CM_DST = 4,
    IPV4B_CM_INTERFACE = 8,
    IPV4B_CM_TOS = 16,
    IPV4B_CM_TIMESTAMP = 32,
    IPV4B_CM_DROPS = 64,
    IPV4B_CM_SEGMENT = 128,
    IPV4B_CM_ALL = 255,
};

/* Only fields whose bit is in `present` hold a value. */
typedef struct {
    unsigned int present;
    int ttl;
    int ifindex;
    struct in_addr src;
    struct in_addr dst;
    struct in_addr local; /* present with dst: our own address to answer from, never a group's */
    int tos;
    int64_t timestamp_ns; /* CLOCK_REALTIME */
    uint32_t drops;       /* datagrams that the socket has dropped so far; wraps */
    int segment_size;     /* bytes of each datagram in a coalesced one */
} ipv4b_ancillary;

/* The longest that ipv4b_ancillary_marshal writes, with room to spare for rows to come. */
enum { IPV4B_ANCILLARY_MAX = 256 };

/* The size of a control buffer that holds all items in `flags`, in bytes. */
size_t ipv4b_ancillary_space(unsigned int flags);

/* Fills `out` from a control buffer; items of other levels and types are skipped, and fields that
 * are not in the buffer are left alone. Returns 0, or ipv4b_cmsg_next's error, or -EPROTO for an
 * item of a size or value that the kernel never gives; *where (may be NULL) then is the offset of the bad
 * item. On an error `out` is unchanged. */
int ipv4b_ancillary_parse(ipv4b_ancillary *out, const void *buf, size_t len, size_t *where);

/* Writes what can be sent: TTL, one IP_PKTINFO for source and interface, TOS and the segment size.
 * Returns the length, or -ENOBUFS. */
int ipv4b_ancillary_marshal(const ipv4b_ancillary *in, void *buf, size_t cap);

/* Makes the kernel deliver the items in `flags`. Sets each option that has a flag in `changed`,
 * whatever its value, and leaves the other options alone. Returns 0 or -errno. *current has the
 * flags of the changed options that are on now. -ENOPROTOOPT also means that the platform lacks
 * an item. */
int ipv4b_ancillary_request(int fd, unsigned int flags, unsigned int changed,
                            unsigned int *current);

/* Finds out what the kernel delivers already. *flags gets all flags of each option that is on. A
 * socket that lacks an option does not deliver its item. Returns 0 or -errno. */
int ipv4b_ancillary_found(int fd, unsigned int *flags);

#endif
