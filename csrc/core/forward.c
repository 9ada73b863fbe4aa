/* forward.c - see forward.h. */
#include "forward.h"

#include "cmsg.h"

enum {
    CONTROL_SPACE = CMSG_SPACE(sizeof(uint16_t)),
    /* More than the 16 bits of an IPv4 header can hold. The kernel refuses the length and reads
     * no byte (udp_sendmsg, net/ipv4/udp.c; raw_sendmsg, net/ipv4/raw.c). */
    NO_DATAGRAM = 65536,
};

ipv4b_forward_scratch *
ipv4b_forward_scratch_new(void)
{
    return calloc(1, sizeof(ipv4b_forward_scratch));
}

void
ipv4b_forward_scratch_free(ipv4b_forward_scratch *s)
{
    if (s != NULL) {
        free(s->control);
        free(s->iov);
        free(s);
    }
}

int
ipv4b_forward_reserve(ipv4b_forward_scratch *s, size_t n)
{
    if (n <= s->capacity) {
        return 0;
    }
    free(s->control);
    s->control = calloc(n, CONTROL_SPACE);
    s->capacity = s->control == NULL ? 0 : n;
    return s->control == NULL ? -ENOMEM : 0;
}

uint16_t
ipv4b_forward_segment(const void *control, size_t control_len, size_t len)
{
    ipv4b_cmsg_iter it = {.buf = control, .len = control_len};
    ipv4b_cmsg_item item;
    int size = 0;

    while (ipv4b_cmsg_next(&it, &item) > 0) {
        if (item.level == IPPROTO_UDP && item.type == IPV4B_UDP_GRO && item.len == sizeof size) {
            memcpy(&size, item.data, sizeof size);
        }
    }
    return size > 0 && size <= UINT16_MAX && (size_t)size < len ? (uint16_t)size : 0;
}

void
ipv4b_forward_split(ipv4b_forward_scratch *s, size_t i, struct msghdr *h, uint16_t segment)
{
    ipv4b_cmsg_encoder enc = {.buf = s->control + i * CONTROL_SPACE, .cap = CONTROL_SPACE};

    (void)ipv4b_cmsg_put(&enc, IPPROTO_UDP, IPV4B_UDP_SEGMENT, &segment, sizeof segment);
    h->msg_control = enc.buf;
    h->msg_controllen = enc.len;
}

/* Shortens one slot. `iov` has room for as many iovecs as the slot has. Returns how many were
 * used. */
static size_t
trim_slot(struct iovec *iov, ipv4b_slot *slot)
{
    struct msghdr *h = &slot->msg_hdr;
    size_t left = slot->msg_len, parts = (size_t)h->msg_iovlen, k = 0;

    while (k < parts && h->msg_iov[k].iov_len <= left && left > 0) {
        left -= h->msg_iov[k++].iov_len;
    }
    if (k == parts && left > 0) {
        iov[0] = (struct iovec){&iov[0], NO_DATAGRAM};
        h->msg_iov = iov;
        h->msg_iovlen = 1;
        return 1;
    }
    if (left > 0) {
        memcpy(iov, h->msg_iov, (k + 1) * sizeof *iov);
        iov[k].iov_len = left;
        h->msg_iov = iov;
        h->msg_iovlen = k + 1;
        return k + 1;
    }
    h->msg_iovlen = k; /* where one ends, or no bytes at all */
    return 0;
}

int
ipv4b_forward_trim(ipv4b_forward_scratch *s, ipv4b_slot *slots, size_t n)
{
    size_t needed = 0, used = 0;

    for (size_t i = 0; i < n; i++) {
        size_t parts = (size_t)slots[i].msg_hdr.msg_iovlen;

        needed += parts == 0 ? 1 : parts;
    }
    if (needed > s->iov_capacity) {
        free(s->iov);
        s->iov = calloc(needed, sizeof *s->iov);
        s->iov_capacity = s->iov == NULL ? 0 : needed;
        if (s->iov == NULL) {
            return -ENOMEM;
        }
    }
    for (size_t i = 0; i < n; i++) {
        used += trim_slot(s->iov + used, &slots[i]);
    }
    return 0;
}
