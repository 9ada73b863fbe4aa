/* iphdr.c - see iphdr.h. */
#include "iphdr.h"

static void
put16(uint8_t *at, unsigned int value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint16_t
get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

/* Total length and fragment offset, which some systems' raw sockets carry in host order. */
static void
put16_raw(uint8_t *at, unsigned int value)
{
    if (IPV4B_RAW_HOST_ORDER) {
        uint16_t native = (uint16_t)value;
        memcpy(at, &native, sizeof native);
    }
    else {
        put16(at, value);
    }
}

static uint16_t
get16_raw(const uint8_t *at)
{
    if (IPV4B_RAW_HOST_ORDER) {
        uint16_t native;
        memcpy(&native, at, sizeof native);
        return native;
    }
    return get16(at);
}

int
ipv4b_iphdr_marshal(const ipv4b_iphdr *h, void *buf, size_t cap)
{
    uint8_t *b = buf;
    size_t len = IPV4B_HEADER_LEN + (size_t)h->options_len;

    if (h->len < IPV4B_HEADER_LEN) {
        return -ENODATA;
    }
    if (!h->has_dst) {
        return -EDESTADDRREQ;
    }
    if (h->options_len > IPV4B_OPTIONS_MAX || h->options_len % 4 != 0) {
        return -EINVAL;
    }
    if (cap < len) {
        return -ENOBUFS;
    }
    b[0] = (uint8_t)(4 << 4 | len / 4);
    b[1] = h->tos;
    put16_raw(b + 2, h->total_len);
    put16(b + 4, h->id);
    put16_raw(b + 6, ((unsigned int)h->flags & 7) << 13 | (h->frag_off & 0x1fffU));
    b[8] = h->ttl;
    b[9] = h->protocol;
    put16(b + 10, h->checksum);
    memset(b + 12, 0, 4);
    if (h->has_src) {
        memcpy(b + 12, &h->src, 4);
    }
    memcpy(b + 16, &h->dst, 4);
    memcpy(b + IPV4B_HEADER_LEN, h->options, h->options_len);
    return (int)len;
}

int
ipv4b_iphdr_parse(ipv4b_iphdr *h, const void *buf, size_t len)
{
    const uint8_t *b = buf;
    size_t header_len;
    unsigned int fragment;

    if (len < IPV4B_HEADER_LEN) {
        return -ENODATA;
    }
    if (b[0] >> 4 != 4) {
        return -EPROTONOSUPPORT;
    }
    header_len = (size_t)(b[0] & 0x0f) * 4;
    if (header_len < IPV4B_HEADER_LEN) {
        return -EINVAL;
    }
    if (len < header_len) {
        return -EMSGSIZE;
    }
    h->len = (uint8_t)header_len;
    h->tos = b[1];
    h->total_len = get16_raw(b + 2);
    if (IPV4B_RAW_LEN_WITHOUT_HEADER) {
        h->total_len = (uint16_t)(h->total_len + header_len);
    }
    h->id = get16(b + 4);
    fragment = get16_raw(b + 6);
    h->flags = (uint8_t)(fragment >> 13);
    h->frag_off = fragment & 0x1fff;
    h->ttl = b[8];
    h->protocol = b[9];
    h->checksum = get16(b + 10);
    h->has_src = h->has_dst = true;
    memcpy(&h->src, b + 12, 4);
    memcpy(&h->dst, b + 16, 4);
    h->options_len = (uint8_t)(header_len - IPV4B_HEADER_LEN);
    memset(h->options, 0, sizeof h->options);
    memcpy(h->options, b + IPV4B_HEADER_LEN, h->options_len);
    return (int)header_len;
}

uint16_t
ipv4b_checksum(const void *buf, size_t len, uint32_t start)
{
    const uint8_t *b = buf;
    uint64_t sum = 0;
    uint16_t native;

    /* The one's complement sum does not depend on byte order (RFC 1071, section 2 (B)): it is taken
     * over 32-bit words as they lie in memory, and only the result is turned round. Carries pile up
     * in the upper half, which 2^32 words cannot overflow. */
    while (len >= 4) {
        uint32_t word;

        memcpy(&word, b, sizeof word);
        sum += word;
        b += 4;
        len -= 4;
    }
    if (len > 0) {
        uint8_t tail[4] = {0};
        uint32_t word;

        memcpy(tail, b, len);
        memcpy(&word, tail, sizeof word);
        sum += word;
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    native = (uint16_t)sum;
    sum = (uint64_t)ntohs(native) + (start & 0xffff) + (start >> 16);
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}
