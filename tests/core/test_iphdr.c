/* test_iphdr.c - IPv4 headers to bytes and back, each refusal, and the checksum. */
#include "iphdr.h"

#include "check.h"

enum { ROUNDS = 100000, LONGEST = IPV4B_HEADER_LEN + IPV4B_OPTIONS_MAX };

/* x/net/ipv4's own example. */
static const unsigned char golden[] = {
    0x45, 0x01, 0xbe, 0xef, 0xca, 0xfe, 0x45, 0xdc, 0xff, 0x01,
    0xde, 0xad, 172,  16,   254,  254,  192,  168,  0,    1,
};

static ipv4b_iphdr
golden_header(void)
{
    return (ipv4b_iphdr){
        .len = 20,
        .tos = 1,
        .total_len = 0xbeef,
        .id = 0xcafe,
        .flags = IPV4B_DONT_FRAGMENT,
        .frag_off = 1500,
        .ttl = 255,
        .protocol = 1,
        .checksum = 0xdead,
        .has_src = true,
        .has_dst = true,
        .src.s_addr = htonl(0xac10fefe),
        .dst.s_addr = htonl(0xc0a80001),
    };
}

/* Every field, as the wire has it. */
static void
check_headers(const ipv4b_iphdr *got, const ipv4b_iphdr *expected)
{
    CHECK_INT(got->len, expected->len);
    CHECK_INT(got->tos, expected->tos);
    CHECK_INT(got->total_len, expected->total_len);
    CHECK_INT(got->id, expected->id);
    CHECK_INT(got->flags, expected->flags);
    CHECK_INT(got->frag_off, expected->frag_off);
    CHECK_INT(got->ttl, expected->ttl);
    CHECK_INT(got->protocol, expected->protocol);
    CHECK_INT(got->checksum, expected->checksum);
    CHECK_INT(got->has_src, expected->has_src);
    CHECK_INT(got->has_dst, expected->has_dst);
    CHECK_INT(got->src.s_addr, expected->src.s_addr);
    CHECK_INT(got->dst.s_addr, expected->dst.s_addr);
    CHECK_INT(got->options_len, expected->options_len);
    CHECK_BYTES(got->options, expected->options, sizeof expected->options);
}

/* Marshals into a buffer of `cap` bytes that ends where it ends. */
static int
marshal(const ipv4b_iphdr *h, unsigned char *wire, size_t cap)
{
    unsigned char *exact = edge_new(NULL, cap);
    int r;

    memset(exact, 0xee, cap);
    r = ipv4b_iphdr_marshal(h, exact, cap);
    memcpy(wire, exact, cap);
    edge_free(exact);
    return r;
}

static int
parse(ipv4b_iphdr *h, const unsigned char *wire, size_t len)
{
    unsigned char *exact = edge_new(wire, len);
    int r = ipv4b_iphdr_parse(h, exact, len);

    edge_free(exact);
    return r;
}

static void
test_golden(void)
{
    const ipv4b_iphdr expected = golden_header();
    unsigned char wire[LONGEST];
    ipv4b_iphdr h = expected;

    CHECK_INT(marshal(&h, wire, 20), 20);
    CHECK_BYTES(wire, golden, 20);
    memset(&h, 0xa5, sizeof h);
    CHECK_INT(parse(&h, golden, 20), 20);
    check_headers(&h, &expected);
    /* No source is all zeros, bits that have no place in their field are cut, and `len` is not what
     * is written. */
    h.has_src = false;
    h.flags = 0xff;
    h.frag_off = 0xffff;
    h.len = 60;
    CHECK_INT(marshal(&h, wire, 20), 20);
    CHECK_INT(wire[0], 0x45);
    CHECK_BYTES(wire + 6, "\xff\xff", 2);
    CHECK_BYTES(wire + 12, "\0\0\0\0", 4);
    h.flags = 8;
    h.frag_off = 0x2000;
    CHECK_INT(marshal(&h, wire, 20), 20);
    CHECK_BYTES(wire + 6, "\0\0", 2);
}

/* Options of every length there is a byte for, in every capacity up to one more than is needed. */
static void
test_options(void)
{
    for (size_t options = 0; options <= 255; options++) {
        size_t need = IPV4B_HEADER_LEN + options;
        bool legal = options <= IPV4B_OPTIONS_MAX && options % 4 == 0;

        for (size_t cap = 0; cap <= LONGEST; cap++) {
            unsigned char wire[LONGEST];
            ipv4b_iphdr h = golden_header(), back;

            h.options_len = (uint8_t)options;
            for (size_t i = 0; i < options && i < sizeof h.options; i++) {
                h.options[i] = (uint8_t)(i + 1);
            }
            if (!legal || cap < need) {
                CHECK_INT(marshal(&h, wire, cap), legal ? -ENOBUFS : -EINVAL);
                CHECK(cap == 0 || wire[0] == 0xee);
                continue;
            }
            CHECK_INT(marshal(&h, wire, cap), need);
            CHECK_INT(wire[0], 0x40 | need / 4);
            CHECK(cap == need || wire[need] == 0xee);
            memset(&back, 0xa5, sizeof back);
            CHECK_INT(parse(&back, wire, cap), need);
            h.len = (uint8_t)need;
            check_headers(&back, &h);
        }
    }
}

/* Which refusal comes first, where there are several reasons. */
static void
test_marshal_errors(void)
{
    unsigned char wire[LONGEST];
    ipv4b_iphdr h = golden_header();

    h.options_len = 3;
    CHECK_INT(marshal(&h, wire, 0), -EINVAL);
    h.has_dst = false;
    CHECK_INT(marshal(&h, wire, 0), -EDESTADDRREQ);
    h.len = 19;
    CHECK_INT(marshal(&h, wire, 0), -ENODATA);
}

/* Every first byte with every length: the result, and nothing changed on an error. */
static void
test_parse_errors(void)
{
    for (int first = 0; first <= 255; first++) {
        for (size_t len = 0; len <= LONGEST + 1; len++) {
            unsigned char wire[LONGEST + 1] = {0};
            ipv4b_iphdr h = golden_header();
            const ipv4b_iphdr before = h;
            int header_len = (first & 15) * 4;
            int expected = len < 20                ? -ENODATA
                           : first >> 4 != 4       ? -EPROTONOSUPPORT
                           : header_len < 20       ? -EINVAL
                           : (int)len < header_len ? -EMSGSIZE
                                                   : header_len;

            wire[0] = (unsigned char)first;
            CHECK_INT(parse(&h, wire, len), expected);
            if (expected < 0) {
                check_headers(&h, &before);
            }
        }
    }
}

/* RFC 1071 as it is written, byte by byte. */
static uint16_t
plain_checksum(const unsigned char *b, size_t len, uint32_t start)
{
    uint64_t sum = start;

    for (size_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint64_t)b[i] << 8 : b[i];
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void
test_checksum(void)
{
    /* Section 3 of RFC 1071: the sum of these is ddf2. */
    static const unsigned char example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    /* A header that comes with its checksum sums up to nothing. */
    static const unsigned char header[] = {
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199,
    };
    static unsigned char ones[65536];

    CHECK_INT(ipv4b_checksum(example, sizeof example, 0), 0xffff - 0xddf2);
    CHECK_INT(ipv4b_checksum(header, sizeof header, 0), 0);
    CHECK_INT(ipv4b_checksum(NULL, 0, 0), 0xffff);
    CHECK_INT(ipv4b_checksum(NULL, 0, 0x12345), 0xffff - 0x2346);
    CHECK_INT(ipv4b_checksum(NULL, 0, UINT32_MAX), 0);
    memset(ones, 0xff, sizeof ones);
    for (size_t len = 0; len < 9; len++) {
        CHECK_INT(ipv4b_checksum(ones, sizeof ones - len, UINT32_MAX),
                  plain_checksum(ones, sizeof ones - len, UINT32_MAX));
    }
}

static void
test_random(void)
{
    uint64_t state = 0x2545f4914f6cdd1d;

    for (int round = 0; round < ROUNDS; round++) {
        unsigned char wire[LONGEST + 8], back[LONGEST + 8];
        size_t len = random_below(&state, sizeof wire + 1);
        unsigned char *exact;
        uint32_t start = (uint32_t)random_next(&state);
        ipv4b_iphdr h;
        int r;

        random_fill(&state, wire, sizeof wire);
        wire[0] = (unsigned char)(round % 2 == 0 ? 0x40 | (wire[0] & 15) : wire[0]);
        r = parse(&h, wire, len);
        if (r >= 0) {
            CHECK(r >= 20 && (size_t)r <= len);
            CHECK_INT(marshal(&h, back, (size_t)r), r);
            CHECK_BYTES(back, wire, (size_t)r);
        }
        exact = edge_new(wire, len);
        CHECK_INT(ipv4b_checksum(exact, len, start), plain_checksum(wire, len, start));
        edge_free(exact);
    }
}

int
main(void)
{
    test_golden();
    test_options();
    test_marshal_errors();
    test_parse_errors();
    test_checksum();
    test_random();
    return check_status();
}
