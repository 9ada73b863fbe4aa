/* test_cmsg.c - the encoder and the iterator over control buffers, down to the last byte. */
#include "cmsg.h"

#include "check.h"

enum { HEADER = CMSG_LEN(0), ROUNDS = 100000 };

/* A header with any length at all, in `at`. */
static void
write_header(unsigned char *at, size_t len, int level, int type)
{
    struct cmsghdr header;

    memset(&header, 0, sizeof header);
    header.cmsg_len = len;
    header.cmsg_level = level;
    header.cmsg_type = type;
    memcpy(at, &header, sizeof header);
}

/* Every capacity from none to one more than is needed, for data of every length up to 40. */
static void
test_put_bounds(void)
{
    unsigned char data[40];

    memset(data, 0xab, sizeof data);
    for (size_t len = 0; len <= sizeof data; len++) {
        for (size_t cap = 0; cap <= CMSG_SPACE(len) + 1; cap++) {
            unsigned char *buf = edge_new(NULL, cap);
            ipv4b_cmsg_encoder enc = {.buf = buf, .cap = cap};
            bool fits = cap >= CMSG_SPACE(len);

            memset(buf, 0xee, cap);
            CHECK_INT(ipv4b_cmsg_put(&enc, 1, 2, data, len), fits ? 0 : -ENOBUFS);
            CHECK_INT(enc.len, fits ? CMSG_SPACE(len) : 0);
            for (size_t i = fits ? HEADER : 0; i < cap; i++) {
                CHECK_INT(buf[i], i >= enc.len ? 0xee : i < HEADER + len ? 0xab : 0);
            }
            edge_free(buf);
        }
    }
}

/* Items of all sorts of lengths, with the last one's padding, without it, and with a tail too short
 * for a header. */
static void
test_next_walks(void)
{
    static const unsigned char data[200] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, [199] = 200};
    static const size_t lengths[] = {4, 0, 1, 12, 8, 189};
    enum { COUNT = COUNT_OF(lengths) };
    unsigned char buf[512];
    ipv4b_cmsg_encoder enc = {.buf = buf, .cap = sizeof buf};
    ipv4b_cmsg_item item;
    size_t where = 99;

    for (int i = 0; i < COUNT; i++) {
        CHECK_INT(ipv4b_cmsg_put(&enc, i, -i, data + i, lengths[i]), 0);
    }
    for (size_t len = enc.len - 3; len < enc.len + HEADER; len++) {
        unsigned char *exact = edge_new(NULL, len);
        ipv4b_cmsg_iter it = {.buf = exact, .len = len};

        memset(exact, 0xff, len);
        memcpy(exact, buf, len < enc.len ? len : enc.len);
        for (int i = 0; i < COUNT && CHECK_INT(ipv4b_cmsg_next(&it, &item), 1); i++) {
            CHECK_INT(item.level, i);
            CHECK_INT(item.type, -i);
            CHECK_INT(item.len, lengths[i]);
            CHECK_BYTES(item.data, data + i, lengths[i]);
        }
        CHECK_INT(ipv4b_cmsg_next(&it, &item), 0);
        CHECK_INT(ipv4b_cmsg_check(exact, len, &where), 0);
        edge_free(exact);
    }
    CHECK_INT(where, 99);
}

/* The second header of a buffer is bad: what the iterator says, and where. */
static void
test_next_errors(void)
{
    enum { LEN = 48, GOOD = CMSG_SPACE(4), LEFT = LEN - GOOD };
    static const struct {
        size_t len;
        int result;
        const char *text;
    } cases[] = {
        {0, -EINVAL, "invalid header length"},
        {1, -EBADMSG, "invalid message length"},
        {HEADER - 1, -EBADMSG, "invalid message length"},
        {HEADER, 1, NULL},
        {LEFT, 1, NULL},
        {LEFT + 1, -ENOBUFS, "short buffer"},
        {INT_MAX, -ENOBUFS, "short buffer"},
        {SIZE_MAX - HEADER, -ENOBUFS, "short buffer"},
        {SIZE_MAX, -ENOBUFS, "short buffer"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned char *buf = edge_new(NULL, LEN);
        ipv4b_cmsg_iter it = {.buf = buf, .len = LEN};
        ipv4b_cmsg_item item;
        size_t where = 99;

        memset(buf, 0, LEN);
        write_header(buf, CMSG_LEN(4), 1, 2);
        write_header(buf + GOOD, cases[i].len, 3, 4);
        CHECK_INT(ipv4b_cmsg_next(&it, &item), 1);
        CHECK_INT(ipv4b_cmsg_next(&it, &item), cases[i].result);
        if (cases[i].result == 1) {
            CHECK_INT(item.len, cases[i].len - HEADER);
        }
        else {
            CHECK_INT(it.pos, GOOD);
            CHECK_INT(ipv4b_cmsg_check(buf, LEN, &where), cases[i].result);
            CHECK_INT(where, GOOD);
            CHECK_STR(ipv4b_cmsg_strerror(cases[i].result), cases[i].text);
        }
        edge_free(buf);
    }
    CHECK_STR(ipv4b_cmsg_strerror(-EPROTO), "invalid control message");
}

/* A buffer of two items cut off anywhere: never a step past its end. */
static void
test_next_truncated(void)
{
    unsigned char whole[CMSG_SPACE(12) + CMSG_SPACE(4)];
    ipv4b_cmsg_encoder enc = {.buf = whole, .cap = sizeof whole};
    size_t where;

    CHECK_INT(ipv4b_cmsg_put(&enc, 0, 8, "twelve bytes", 12), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, 0, 2, "four", 4), 0);
    for (size_t len = 0; len <= sizeof whole; len++) {
        unsigned char *buf = edge_new(whole, len);
        size_t second = CMSG_SPACE(12);
        bool first_cut = len >= HEADER && len < CMSG_LEN(12);
        bool second_cut = len >= second + HEADER && len < second + CMSG_LEN(4);

        where = 99;
        CHECK_INT(ipv4b_cmsg_check(buf, len, &where), first_cut || second_cut ? -ENOBUFS : 0);
        CHECK_INT(where, first_cut ? 0 : second_cut ? second : 99);
        edge_free(buf);
    }
    CHECK_INT(ipv4b_cmsg_check(NULL, 0, &where), 0);
}

/* What put_cmsg of the kernel does for each length of the receiver's buffer. */
static void
test_deliver(void)
{
    enum { ONE = CMSG_SPACE(4), FULL = ONE + CMSG_SPACE(1), NEEDED = ONE + CMSG_LEN(1) };
    unsigned char from[ONE + FULL];
    ipv4b_cmsg_encoder enc = {.buf = from, .cap = sizeof from};

    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, "\x40\0\0", 4), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_UDP, IPV4B_UDP_GRO, "\xb0\x04\0", 4), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TOS, "\x02", 1), 0);
    for (size_t cap = 0; cap <= FULL + 1; cap++) {
        unsigned char *to = edge_new(NULL, cap);
        ipv4b_cmsg_iter it = {.buf = to};
        ipv4b_cmsg_item item;
        bool second = cap >= ONE + HEADER;
        bool truncated = cap >= NEEDED;

        it.len =
            ipv4b_cmsg_deliver(to, cap, from, sizeof from, IPPROTO_UDP, IPV4B_UDP_GRO, &truncated);
        CHECK_INT(truncated, cap < NEEDED);
        CHECK_INT(it.len, cap < HEADER ? 0
                          : second     ? (cap < FULL ? cap : FULL)
                          : cap < ONE  ? cap
                                       : ONE);
        if (CHECK_INT(ipv4b_cmsg_next(&it, &item), cap >= HEADER) && cap >= HEADER) {
            CHECK(item.level == IPPROTO_IP && item.type == IP_TTL);
            CHECK_INT(item.len, (cap < CMSG_LEN(4) ? cap : CMSG_LEN(4)) - HEADER);
            CHECK_BYTES(item.data, "\x40\0\0", item.len);
        }
        if (CHECK_INT(ipv4b_cmsg_next(&it, &item), second) && second) {
            CHECK_INT(item.type, IP_TOS);
            CHECK_INT(item.len, cap >= NEEDED);
            CHECK_BYTES(item.data, "\x02", item.len);
        }
        edge_free(to);
    }
}

/* A slot with no control buffer at all. */
static void
test_deliver_nowhere(void)
{
    unsigned char from[CMSG_SPACE(4)];
    ipv4b_cmsg_encoder enc = {.buf = from, .cap = sizeof from};
    bool truncated = true;

    CHECK_INT(ipv4b_cmsg_deliver(NULL, 0, NULL, 0, 0, 0, &truncated), 0);
    CHECK_INT(truncated, false);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, "\x40\0\0", 4), 0);
    CHECK_INT(ipv4b_cmsg_deliver(NULL, 0, from, sizeof from, IPPROTO_IP, IP_TTL, &truncated), 0);
    CHECK_INT(truncated, false);
    CHECK_INT(ipv4b_cmsg_deliver(NULL, 0, from, sizeof from, 0, 0, &truncated), 0);
    CHECK_INT(truncated, true);
}

/* Random headers with lengths near the truth: the first look and the iterator agree, every item
 * lies inside, and what is delivered is again a row of items. */
static void
test_random(void)
{
    uint64_t state = 0x9e3779b97f4a7c15;

    for (int round = 0; round < ROUNDS; round++) {
        size_t len = random_below(&state, 120), cap = random_below(&state, 120), where = 0;
        unsigned char *buf = edge_new(NULL, len), *to = edge_new(NULL, cap);
        ipv4b_cmsg_iter it = {.buf = buf, .len = len};
        ipv4b_cmsg_item item;
        bool truncated;
        int r;

        random_fill(&state, buf, len);
        for (size_t at = 0; at + HEADER <= len; at += 8 * (1 + random_below(&state, 5))) {
            write_header(buf + at, random_below(&state, 50), 0, (int)random_below(&state, 10));
        }
        while ((r = ipv4b_cmsg_next(&it, &item)) > 0) {
            CHECK(item.data >= buf + HEADER && item.data + item.len <= buf + len);
            CHECK(it.pos <= len);
        }
        CHECK_INT(ipv4b_cmsg_check(buf, len, &where), r);
        CHECK_INT(where, r < 0 ? it.pos : 0);
        cap = ipv4b_cmsg_deliver(to, cap, buf, len, 0, 2, &truncated);
        CHECK_INT(ipv4b_cmsg_check(to, cap, &where), 0);
        edge_free(to);
        edge_free(buf);
    }
}

int
main(void)
{
    test_put_bounds();
    test_next_walks();
    test_next_errors();
    test_next_truncated();
    test_deliver();
    test_deliver_nowhere();
    test_random();
    return check_status();
}
