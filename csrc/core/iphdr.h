/* iphdr.h - an IPv4 header <-> bytes (RFC 791 section 3.1), and the Internet checksum (RFC 1071).
 *
 * Numbers are in host order here. Where a system's raw sockets use another order on the wire side
 * of the socket (sysdep.h), both directions follow it. Locking: none.
 */
#ifndef IPV4B_IPHDR_H
#define IPV4B_IPHDR_H

#include "sysdep.h"

enum {
    IPV4B_HEADER_LEN = 20,
    IPV4B_OPTIONS_MAX = 40,
    IPV4B_MORE_FRAGMENTS = 1, /* the lowest of the three flag bits */
    IPV4B_DONT_FRAGMENT = 2,
};

typedef struct {
    uint8_t len; /* bytes, options included */
    uint8_t tos;
    uint16_t total_len;
    uint16_t id;
    uint8_t flags;     /* 3 bits */
    uint16_t frag_off; /* 13 bits, in units of 8 bytes */
    uint8_t ttl;
    uint8_t protocol;
    uint16_t checksum;
    bool has_src, has_dst;
    struct in_addr src, dst;
    uint8_t options_len;
    uint8_t options[IPV4B_OPTIONS_MAX];
} ipv4b_iphdr;

/* Writes the header: 20 + options_len bytes. The length that it carries is that of what is written;
 * `len` is only checked. Nothing is computed: on an IP_HDRINCL socket the kernel fills in checksum
 * and total length. Returns the length, or
 *   -ENODATA       len under 20
 * -EDESTADDRREQ  no destination
 *   -EINVAL        options over 40 bytes or not a multiple of 4
 * -ENOBUFS       cap too small */
int ipv4b_iphdr_marshal(const ipv4b_iphdr *h, void *buf, size_t cap);

/* Reads a header from the start of a packet; every field of *h is set. Returns its length, or with
 * *h unchanged
 *   -ENODATA         under 20 bytes
 *   -EPROTONOSUPPORT a version other than 4
 * -EINVAL          a header length under 20
 *   -EMSGSIZE        fewer bytes than the header length says */
int ipv4b_iphdr_parse(ipv4b_iphdr *h, const void *buf, size_t len);

/* The Internet checksum of `len` bytes, begun with `start` (a sum not yet complemented, as of a
 * pseudo header); an odd last byte is padded with zero. */
uint16_t ipv4b_checksum(const void *buf, size_t len, uint32_t start);

#endif
