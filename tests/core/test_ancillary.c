/* test_ancillary.c - each row of the table: what it reads, refuses and writes. */
#include "ancillary.h"

#include "check.h"
#include "cmsg.h"

#define AT(field) offsetof(ipv4b_ancillary, field)

enum { ROUNDS = 100000, LONGEST = 24, UDP_SEGMENT = IPV4B_UDP_SEGMENT, UDP_GRO = IPV4B_UDP_GRO };

static void
test_space(void)
{
    const unsigned int path = IPV4B_CM_SRC | IPV4B_CM_DST | IPV4B_CM_INTERFACE;

    CHECK_INT(ipv4b_ancillary_space(0), 0);
    CHECK_INT(ipv4b_ancillary_space(IPV4B_CM_TTL), CMSG_SPACE(4));
    CHECK_INT(ipv4b_ancillary_space(IPV4B_CM_SRC), CMSG_SPACE(12));
    CHECK_INT(ipv4b_ancillary_space(path), CMSG_SPACE(12));
    CHECK_INT(ipv4b_ancillary_space(IPV4B_CM_TOS), CMSG_SPACE(1));
    CHECK_INT(ipv4b_ancillary_space(IPV4B_CM_TIMESTAMP), CMSG_SPACE(16));
    CHECK_INT(ipv4b_ancillary_space(IPV4B_CM_DROPS | IPV4B_CM_SEGMENT), 2 * CMSG_SPACE(4));
    CHECK_INT(ipv4b_ancillary_space(IPV4B_CM_ALL + 1), 0);
    CHECK(ipv4b_ancillary_space(IPV4B_CM_ALL) <= IPV4B_ANCILLARY_MAX);
}

/* Source 127.0.0.1 and interface 3, as a 64-bit system with the low byte first writes it. */
static void
test_golden(void)
{
    static const unsigned char golden[] = {
        0x1c, 0, 0, 0, 0,    0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0,
        3,    0, 0, 0, 0x7f, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
    };
    ipv4b_ancillary in = {
        .present = IPV4B_CM_SRC | IPV4B_CM_INTERFACE | IPV4B_CM_DST,
        .ifindex = 3,
        .src.s_addr = htonl(INADDR_LOOPBACK),
        .dst.s_addr = htonl(0x0a000001), /* never written */
    };
    ipv4b_ancillary out = {.present = IPV4B_CM_TTL, .ttl = 3};
    unsigned char buf[CMSG_SPACE(12)];

    CHECK_INT(ipv4b_ancillary_marshal(&in, buf, sizeof buf), CMSG_SPACE(12));
    if (sizeof(size_t) == 8 && htonl(1) != 1) {
        CHECK_BYTES(buf, golden, sizeof golden);
    }
    memcpy(buf + CMSG_LEN(8), &in.dst, 4);
    CHECK_INT(ipv4b_ancillary_parse(&out, buf, sizeof buf, NULL), 0);
    CHECK_INT(out.present, IPV4B_CM_TTL | IPV4B_CM_DST | IPV4B_CM_INTERFACE);
    CHECK_INT(out.ttl, 3);
    CHECK_INT(out.ifindex, 3);
    CHECK_INT(out.local.s_addr, in.src.s_addr);
    CHECK_INT(out.dst.s_addr, in.dst.s_addr);
    /* Of the two, only what is present. */
    for (unsigned int one = IPV4B_CM_SRC; one <= IPV4B_CM_INTERFACE; one *= 4) {
        in.present = one;
        CHECK_INT(ipv4b_ancillary_marshal(&in, buf, sizeof buf), CMSG_SPACE(12));
        CHECK_INT(ipv4b_ancillary_parse(&out, buf, sizeof buf, NULL), 0);
        CHECK_INT(out.ifindex, one == IPV4B_CM_INTERFACE ? 3 : 0);
        CHECK_INT(out.local.s_addr, one == IPV4B_CM_SRC ? in.src.s_addr : 0);
    }
}

/* Everything that can be sent, in every capacity, and read back. */
static void
test_marshal_bounds(void)
{
    const ipv4b_ancillary in = {
        .present = IPV4B_CM_ALL,
        .ttl = 255,
        .tos = 0xb8,
        .ifindex = INT_MAX,
        .src.s_addr = htonl(0xc0000201),
        .segment_size = 65535,
    };
    const size_t need = 2 * CMSG_SPACE(4) + CMSG_SPACE(12) + CMSG_SPACE(2);

    for (size_t cap = 0; cap <= need + 1; cap++) {
        unsigned char *buf = edge_new(NULL, cap);
        ipv4b_ancillary out = {.present = 0};
        int len = ipv4b_ancillary_marshal(&in, buf, cap);

        CHECK_INT(len, cap < need ? -ENOBUFS : (int)need);
        if (len >= 0 && CHECK_INT(ipv4b_ancillary_parse(&out, buf, (size_t)len, NULL), 0)) {
            CHECK_INT(out.present, IPV4B_CM_TTL | IPV4B_CM_DST | IPV4B_CM_INTERFACE | IPV4B_CM_TOS |
                                       IPV4B_CM_SEGMENT);
            CHECK_INT(out.ttl, 255);
            CHECK_INT(out.tos, 0xb8);
            CHECK_INT(out.ifindex, INT_MAX);
            CHECK_INT(out.local.s_addr, in.src.s_addr);
            CHECK_INT(out.segment_size, 65535);
        }
        edge_free(buf);
    }
    CHECK_INT(ipv4b_ancillary_marshal(&(ipv4b_ancillary){.ttl = 9}, NULL, 0), 0);
}

/* One item in a buffer of its own length, without padding. */
static int
parse_one(ipv4b_ancillary *out, int level, int type, const void *data, size_t len, size_t *where)
{
    unsigned char padded[CMSG_SPACE(LONGEST)];
    ipv4b_cmsg_encoder enc = {.buf = padded, .cap = sizeof padded};
    unsigned char *exact;
    int r;

    CHECK_INT(ipv4b_cmsg_put(&enc, level, type, data, len), 0);
    exact = edge_new(padded, CMSG_LEN(len));
    r = ipv4b_ancillary_parse(out, exact, CMSG_LEN(len), where);
    edge_free(exact);
    return r;
}

/* An item of each kind with data of every length: which are taken, and with what value. */
static void
test_parse_lengths(void)
{
    enum { BYTE = 1 << 1, TWO = 1 << 2, FOUR = 1 << 4, FROM_12 = 0x1fff000, ANY = 0x1ffffff };
    static const uint8_t one = 7;
    static const uint16_t two = 7;
    static const int four = 7;
    /* Level, type, what is present then, where the value lies, and the lengths that are taken. */
    static const size_t rows[][5] = {
        {IPPROTO_IP, IP_TTL, IPV4B_CM_TTL, AT(ttl), BYTE | FOUR},
        {IPPROTO_IP, IP_TOS, IPV4B_CM_TOS, AT(tos), BYTE | FOUR},
        {IPPROTO_IP, IP_PKTINFO, IPV4B_CM_DST | IPV4B_CM_INTERFACE, AT(ifindex), FROM_12},
        {SOL_SOCKET, SO_RXQ_OVFL, IPV4B_CM_DROPS, AT(drops), FOUR},
        {IPPROTO_UDP, UDP_GRO, IPV4B_CM_SEGMENT, AT(segment_size), TWO | FOUR},
        {IPPROTO_UDP, UDP_SEGMENT, IPV4B_CM_SEGMENT, AT(segment_size), TWO | FOUR},
        {IPPROTO_IP, 250, 0, 0, ANY},
        {IPPROTO_IP, 0, 0, 0, ANY},
        {IPPROTO_UDP, 99, 0, 0, ANY},
        {IPPROTO_TCP, IP_TTL, 0, 0, ANY},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t len = 0; len <= LONGEST; len++) {
            /* The same number in each width that numbers have. */
            unsigned char data[LONGEST] = {[4] = 1, [8] = 2};
            const void *number = len == 1   ? (const void *)&one
                                 : len == 2 ? (const void *)&two
                                            : &four;
            ipv4b_ancillary out = {.present = 0};
            bool taken = rows[i][4] >> len & 1, known = rows[i][2] != 0;
            size_t where = 99;

            memcpy(data, number, len < sizeof four ? len : sizeof four);
            CHECK_INT(parse_one(&out, (int)rows[i][0], (int)rows[i][1], data, len, &where),
                      taken ? 0 : -EPROTO);
            CHECK_INT(where, taken ? 99 : 0);
            CHECK_INT(out.present, taken ? rows[i][2] : 0);
            if (taken && known) {
                CHECK_BYTES((unsigned char *)&out + rows[i][3], &four, sizeof four);
            }
        }
    }
}

/* Numbers at the bounds of what they can be, and the zeros that stand for nothing. */
static void
test_parse_values(void)
{
    enum { DST = IPV4B_CM_DST, BOTH = IPV4B_CM_DST | IPV4B_CM_INTERFACE };
    /* Level, type, the number, the result, what can be present, and what is. */
    static const int cases[][6] = {
        {IPPROTO_IP, IP_TTL, -1, -EPROTO, IPV4B_CM_TTL, IPV4B_CM_TTL},
        {IPPROTO_IP, IP_TTL, 0, 0, IPV4B_CM_TTL, 0},
        {IPPROTO_IP, IP_TTL, 255, 0, IPV4B_CM_TTL, IPV4B_CM_TTL},
        {IPPROTO_IP, IP_TTL, 256, -EPROTO, IPV4B_CM_TTL, IPV4B_CM_TTL},
        {IPPROTO_IP, IP_TOS, INT_MIN, -EPROTO, IPV4B_CM_TOS, IPV4B_CM_TOS},
        {IPPROTO_IP, IP_TOS, 0, 0, IPV4B_CM_TOS, IPV4B_CM_TOS},
        {IPPROTO_IP, IP_TOS, 255, 0, IPV4B_CM_TOS, IPV4B_CM_TOS},
        {IPPROTO_IP, IP_TOS, 256, -EPROTO, IPV4B_CM_TOS, IPV4B_CM_TOS},
        {IPPROTO_UDP, UDP_GRO, -1, -EPROTO, IPV4B_CM_SEGMENT, IPV4B_CM_SEGMENT},
        {IPPROTO_UDP, UDP_GRO, 0, 0, IPV4B_CM_SEGMENT, 0},
        {IPPROTO_UDP, UDP_GRO, 65535, 0, IPV4B_CM_SEGMENT, IPV4B_CM_SEGMENT},
        {IPPROTO_UDP, UDP_GRO, 65536, -EPROTO, IPV4B_CM_SEGMENT, IPV4B_CM_SEGMENT},
        {SOL_SOCKET, SO_RXQ_OVFL, -1, 0, IPV4B_CM_DROPS, IPV4B_CM_DROPS},
        {IPPROTO_IP, IP_PKTINFO, -1, -EPROTO, BOTH, BOTH},
        {IPPROTO_IP, IP_PKTINFO, 0, 0, BOTH, DST},
        {IPPROTO_IP, IP_PKTINFO, INT_MAX, 0, BOTH, BOTH},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int data[3] = {cases[i][2]};
        /* What was present before stays on an error, and goes where the new item says nothing. */
        ipv4b_ancillary out = {.present = (unsigned int)cases[i][4]};

        CHECK_INT(parse_one(&out, cases[i][0], cases[i][1], data,
                            cases[i][1] == IP_PKTINFO ? 12 : 4, NULL),
                  cases[i][3]);
        CHECK_INT(out.present, cases[i][5]);
    }
}

static void
test_parse_timestamp(void)
{
    /* Seconds, nanoseconds, and whether they make a time. */
    static const int64_t cases[][3] = {
        {0, 0, true},
        {1700000000, 999999999, true},
        {INT64_MAX / 1000000000 - 1, 999999999, true},
        {INT64_MAX / 1000000000, 0, false},
        {INT64_MAX, INT64_MAX, false},
        {0, 1000000000, false},
        {0, -1, false},
        {-1, 0, false},
        {INT64_MIN, INT64_MIN, false},
    };
    const int32_t narrow[] = {INT32_MAX, 5};
    ipv4b_ancillary out;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool taken = cases[i][2];

        out = (ipv4b_ancillary){.timestamp_ns = -7};
        CHECK_INT(parse_one(&out, SOL_SOCKET, SCM_TIMESTAMPNS, cases[i], 16, NULL),
                  taken ? 0 : -EPROTO);
        CHECK_INT(out.present, taken ? IPV4B_CM_TIMESTAMP : 0);
        CHECK_INT(out.timestamp_ns, taken ? cases[i][0] * 1000000000 + cases[i][1] : -7);
    }
    /* Two 32-bit numbers are a timespec on a 32-bit system, and elsewhere one that was cut. */
    out.timestamp_ns = -7;
    CHECK_INT(parse_one(&out, SOL_SOCKET, SCM_TIMESTAMPNS, narrow, 8, NULL),
              sizeof(long) == 4 ? 0 : -EPROTO);
    CHECK_INT(out.timestamp_ns, sizeof(long) == 4 ? INT64_C(2147483647000000005) : -7);
    CHECK_INT(parse_one(&out, SOL_SOCKET, SCM_TIMESTAMPNS, narrow, 7, NULL), -EPROTO);
}

/* A good item before a bad one: nothing of either is kept, and the bad one is named. */
static void
test_parse_is_whole(void)
{
    unsigned char buf[2 * CMSG_SPACE(4)];
    ipv4b_cmsg_encoder enc = {.buf = buf, .cap = sizeof buf};
    ipv4b_ancillary out = {.present = IPV4B_CM_TOS, .tos = 5, .ttl = -1};
    size_t where = 99;

    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, &(int){0x40}, 4), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, "ab", 2), 0);
    CHECK_INT(ipv4b_ancillary_parse(&out, buf, sizeof buf, &where), -EPROTO);
    CHECK_INT(where, CMSG_SPACE(4));
    CHECK_INT(ipv4b_ancillary_parse(&out, buf, CMSG_SPACE(4) + CMSG_LEN(0), &where), -ENOBUFS);
    CHECK_INT(where, CMSG_SPACE(4));
    CHECK_INT(out.present, IPV4B_CM_TOS);
    CHECK_INT(out.ttl, -1);
    CHECK_INT(ipv4b_ancillary_parse(&out, NULL, 0, &where), 0);
    CHECK_INT(ipv4b_ancillary_parse(&out, buf, CMSG_SPACE(4), &where), 0);
    CHECK_INT(out.present, IPV4B_CM_TTL | IPV4B_CM_TOS);
    CHECK_INT(out.ttl, 0x40);
    CHECK_INT(out.tos, 5);
}

/* Known items with lengths near the truth, in random bytes. */
static void
test_random(void)
{
    static const int kinds[][2] = {
        {IPPROTO_IP, IP_TTL}, {IPPROTO_IP, IP_PKTINFO}, {SOL_SOCKET, SCM_TIMESTAMPNS}};
    uint64_t state = 88172645463325252;

    for (int round = 0; round < ROUNDS; round++) {
        size_t len = random_below(&state, 80), kind = random_below(&state, COUNT_OF(kinds));
        unsigned char *buf = edge_new(NULL, len);
        struct cmsghdr header = {.cmsg_len = random_below(&state, 48)};
        ipv4b_ancillary out = {.present = 0};
        size_t where = 0;

        random_fill(&state, buf, len);
        header.cmsg_level = kinds[kind][0];
        header.cmsg_type = kinds[kind][1];
        memcpy(buf, &header, len < sizeof header ? len : sizeof header);
        if (ipv4b_ancillary_parse(&out, buf, len, &where) < 0) {
            CHECK_INT(out.present, 0);
            CHECK(where < len);
        }
        edge_free(buf);
    }
}

int
main(void)
{
    test_space();
    test_golden();
    test_marshal_bounds();
    test_parse_lengths();
    test_parse_values();
    test_parse_timestamp();
    test_parse_is_whole();
    test_random();
    return check_status();
}
