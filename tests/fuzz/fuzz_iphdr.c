/* fuzz_iphdr.c - IPv4 headers: parsed and marshalled again, marshalled and parsed again, and the
 * checksum against RFC 1071 word by word.
 *
 * Input: mode, 4 bytes of a sum to start with; then a packet, or (mode bit 0) the fields of a header.
 */
#include "iphdr.h"

#include "fuzz.h"

_Static_assert(!IPV4B_RAW_HOST_ORDER && !IPV4B_RAW_LEN_WITHOUT_HEADER,
               "headers are compared byte by byte, as Linux has them");

static void
same(const ipv4b_iphdr *a, const ipv4b_iphdr *b)
{
    HOLDS(a->len == b->len && a->tos == b->tos && a->total_len == b->total_len);
    HOLDS(a->id == b->id && a->flags == b->flags && a->frag_off == b->frag_off);
    HOLDS(a->ttl == b->ttl && a->protocol == b->protocol && a->checksum == b->checksum);
    HOLDS(a->has_src == b->has_src && a->src.s_addr == b->src.s_addr);
    HOLDS(a->has_dst == b->has_dst && a->dst.s_addr == b->dst.s_addr);
    HOLDS(a->options_len == b->options_len);
    HOLDS(memcmp(a->options, b->options, a->options_len) == 0);
}

/* 16 bits at a time, with the carry taken in at once. */
static uint16_t
sum_plainly(const uint8_t *b, size_t len, uint32_t start)
{
    uint32_t sum = (start & 0xffff) + (start >> 16);

    for (size_t i = 0; i < len; i += 2) {
        sum += (uint32_t)b[i] << 8 | (i + 1 < len ? b[i + 1] : 0);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void
test_checksum(unsigned char *b, size_t len, uint32_t start)
{
    uint16_t sum = ipv4b_checksum(b, len, start);
    size_t half = len / 4 * 2;

    HOLDS(sum == sum_plainly(b, len, start));
    /* A sum goes on where another has stopped, at an even place. */
    HOLDS(ipv4b_checksum(b + half, len - half, (uint16_t)~ipv4b_checksum(b, half, start)) == sum);
    /* Data that carry their checksum add up to nothing. */
    if (len >= 2) {
        b[0] = b[1] = 0;
        sum = ipv4b_checksum(b, len, start);
        b[0] = (uint8_t)(sum >> 8);
        b[1] = (uint8_t)sum;
        HOLDS(ipv4b_checksum(b, len, start) == 0);
    }
}

static void
test_parse(const unsigned char *b, size_t len)
{
    ipv4b_iphdr h, again;
    const size_t wanted = len == 0 ? 0 : (size_t)(b[0] & 15) * 4;
    unsigned char *out;
    int r;

    memset(&h, 0xee, sizeof h);
    r = ipv4b_iphdr_parse(&h, b, len);
    if (len < 20 || b[0] >> 4 != 4 || wanted < 20 || wanted > len) {
        HOLDS(r == (len < 20         ? -ENODATA
                    : b[0] >> 4 != 4 ? -EPROTONOSUPPORT
                    : wanted < 20    ? -EINVAL
                                     : -EMSGSIZE));
        HOLDS(fuzz_all((const unsigned char *)&h, sizeof h, 0xee));
        return;
    }
    HOLDS(r >= 0 && (size_t)r == wanted && h.len == wanted && h.options_len == wanted - 20);
    HOLDS(h.tos == b[1] && h.ttl == b[8] && h.protocol == b[9]);
    HOLDS(h.total_len == (b[2] << 8 | b[3]));
    HOLDS((h.flags << 13 | h.frag_off) == (b[6] << 8 | b[7]));
    HOLDS(h.id == (b[4] << 8 | b[5]) && h.checksum == (b[10] << 8 | b[11]));
    HOLDS(h.has_src && memcmp(&h.src, b + 12, 4) == 0);
    HOLDS(h.has_dst && memcmp(&h.dst, b + 16, 4) == 0);
    HOLDS(memcmp(h.options, b + 20, h.options_len) == 0);
    HOLDS(fuzz_all(h.options + h.options_len, sizeof h.options - h.options_len, 0));

    /* Back come the bytes that it was made from. */
    out = fuzz_exact(NULL, wanted);
    HOLDS(ipv4b_iphdr_marshal(&h, out, wanted) == r);
    HOLDS(memcmp(out, b, wanted) == 0);
    HOLDS(ipv4b_iphdr_parse(&again, out, wanted) == r);
    same(&again, &h);
}

/* Any fields at all: what a header cannot say is refused, or cut to the width of its field. */
static void
test_marshal(fuzz_input *in)
{
    ipv4b_iphdr h = {.len = (uint8_t)fuzz_u8(in), .options_len = (uint8_t)fuzz_u8(in)};
    const size_t len = 20U + h.options_len;
    const unsigned int has = fuzz_u8(in);
    size_t cap = fuzz_u8(in);
    ipv4b_iphdr again, expected;
    unsigned char *out;
    int r;

    h.has_src = has & 1;
    h.has_dst = (has & 2) != 0;
    cap = has & 4 ? cap : len; /* most often what is needed */
    h.tos = (uint8_t)fuzz_u8(in);
    h.total_len = (uint16_t)fuzz_u16(in);
    h.id = (uint16_t)fuzz_u16(in);
    h.flags = (uint8_t)fuzz_u8(in);
    h.frag_off = (uint16_t)fuzz_u16(in);
    h.ttl = (uint8_t)fuzz_u8(in);
    h.protocol = (uint8_t)fuzz_u8(in);
    h.checksum = (uint16_t)fuzz_u16(in);
    fuzz_bytes(in, &h.src, sizeof h.src);
    fuzz_bytes(in, &h.dst, sizeof h.dst);
    fuzz_bytes(in, h.options, sizeof h.options);
    out = fuzz_exact(NULL, cap);
    r = ipv4b_iphdr_marshal(&h, out, cap);
    if (h.len < 20 || !h.has_dst || len > 60 || len % 4 != 0 || cap < len) {
        HOLDS(r == (h.len < 20                 ? -ENODATA
                    : !h.has_dst               ? -EDESTADDRREQ
                    : len > 60 || len % 4 != 0 ? -EINVAL
                                               : -ENOBUFS));
        HOLDS(fuzz_all(out, cap, 0xee));
    }
    else {
        HOLDS(r >= 0 && (size_t)r == len && fuzz_all(out + len, cap - len, 0xee));
        HOLDS(ipv4b_iphdr_parse(&again, out, len) == r);
        expected = h;
        expected.len = (uint8_t)len;
        expected.flags &= 7;
        expected.frag_off &= 0x1fff;
        expected.src.s_addr = h.has_src ? h.src.s_addr : 0;
        expected.has_src = true;
        same(&again, &expected);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    const unsigned int mode = fuzz_u8(&in);
    const uint32_t start = fuzz_u16(&in) | (uint32_t)fuzz_u16(&in) << 16;
    unsigned char *packet = fuzz_exact(in.at, in.left);

    if (mode & 1) {
        test_marshal(&in);
    }
    else {
        test_parse(packet, in.left);
        test_checksum(packet, in.left, start);
    }
    fuzz_forget();
    return 0;
}
