/* test_tx_timestamps.c - entries of the error queue that tell when a datagram left, and their queue. */
#include "tx_timestamps.h"

#include "check.h"
#include "cmsg.h"

/* An entry as the kernel gives it: the times of struct scm_timestamping, and the extended error with the
 * (empty) address of an offender. */
typedef struct {
    int64_t software[2], hardware[2]; /* seconds and ns */
    uint8_t origin;
    uint32_t info, data;
} entry;

static size_t
parse(const entry *e, uint64_t newest, ipv4b_tx_timestamp stamps[2])
{
    const int64_t times[6] = {e->software[0], e->software[1], 0, 0, e->hardware[0], e->hardware[1]};
    struct {
        ipv4b_extended_error error;
        struct sockaddr_in offender;
    } error = {
        .error = {
            .ee_errno = ENOMSG, .ee_origin = e->origin, .ee_info = e->info, .ee_data = e->data}};
    unsigned char control[512];
    ipv4b_cmsg_encoder enc = {.buf = control, .cap = sizeof control};
    ipv4b_slot slot = {.msg_hdr = {.msg_control = control}};
    size_t count = 99;

    CHECK_INT(ipv4b_cmsg_put(&enc, SOL_SOCKET, IPV4B_SO_TIMESTAMPING, times, sizeof times), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IPV4B_IP_RECVERR, &error, sizeof error), 0);
    slot.msg_hdr.msg_controllen = enc.len;
    return ipv4b_tx_parse(&slot, newest, stamps, &count) ? count : SIZE_MAX;
}

enum { ORIGIN = IPV4B_ORIGIN_TIMESTAMPING };

/* Recorded from the kernel (Linux 6.18), and as its sources give those of a device that stamps
 * (__skb_tstamp_tx, net/core/skbuff.c; put_ts_err, net/core/sock.c). */
static void
test_kinds(void)
{
    const entry sched = {{1795800215, 484548286}, {0, 0}, ORIGIN, 1, 9};
    const entry sent = {{1795800215, 484552531}, {0, 0}, ORIGIN, 0, 9};
    const entry device = {{0, 0}, {12, 345}, ORIGIN, 0, 9};
    const entry both = {{3, 4}, {5, 6}, ORIGIN, 0, 9};
    const entry acknowledged = {{3, 4}, {0, 0}, ORIGIN, 2, 9};
    const entry nothing = {{0, 0}, {0, 0}, ORIGIN, 0, 9};
    const entry unreachable = {{3, 4}, {0, 0}, 2, 0, 9};
    ipv4b_tx_timestamp stamps[2];

    CHECK_INT(parse(&sched, 9, stamps), 1);
    CHECK_INT(stamps[0].id, 9);
    CHECK_INT(stamps[0].kind, IPV4B_STAMP_SCHED);
    CHECK_INT(stamps[0].ns, INT64_C(1795800215484548286));
    CHECK_INT(parse(&sent, 9, stamps), 1);
    CHECK_INT(stamps[0].kind, IPV4B_STAMP_SOFTWARE);
    CHECK_INT(stamps[0].ns, INT64_C(1795800215484552531));
    CHECK_INT(parse(&device, 9, stamps), 1);
    CHECK_INT(stamps[0].kind, IPV4B_STAMP_HARDWARE);
    CHECK_INT(stamps[0].ns, INT64_C(12000000345));
    CHECK_INT(parse(&both, 9, stamps), 2);
    CHECK_INT(stamps[0].kind, IPV4B_STAMP_SOFTWARE);
    CHECK_INT(stamps[0].ns, INT64_C(3000000004));
    CHECK_INT(stamps[1].kind, IPV4B_STAMP_HARDWARE);
    CHECK_INT(stamps[1].ns, INT64_C(5000000006));
    CHECK_INT(stamps[1].id, 9);
    CHECK_INT(parse(&acknowledged, 9, stamps), 0);
    CHECK_INT(parse(&nothing, 9, stamps), 0);
    CHECK(parse(&unreachable, 9, stamps) == SIZE_MAX);
}

/* The kernel's ids are the low 32 bits of ours. */
static void
test_wrap(void)
{
    const uint64_t turn = UINT64_C(1) << 32;
    const struct {
        uint32_t data;
        uint64_t newest, id;
    } cases[] = {
        {1, 1, 1},
        {1, 1000, 1},
        {0xffffffff, turn - 1, turn - 1},
        {0xffffffff, turn, turn - 1},
        {0, turn, turn},
        {0xfffffffe, turn + 5, turn - 2},
        {5, turn + 5, turn + 5},
        {6, turn + 5, 6},
        {7, 3 * turn + 8, 3 * turn + 7},
        {9, 3 * turn + 8, 2 * turn + 9},
    };
    ipv4b_tx_timestamp stamps[2];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const entry e = {{1, 2}, {0, 0}, ORIGIN, 0, cases[i].data};

        CHECK_INT(parse(&e, cases[i].newest, stamps), 1);
        CHECK(stamps[0].id == cases[i].id);
    }
    /* Ids that were not given away. */
    CHECK_INT(parse(&(entry){{1, 2}, {0, 0}, ORIGIN, 0, 0}, 0, stamps), 0);
    CHECK_INT(parse(&(entry){{1, 2}, {0, 0}, ORIGIN, 0, 0}, 9, stamps), 0);
    CHECK_INT(parse(&(entry){{1, 2}, {0, 0}, ORIGIN, 0, 10}, 9, stamps), 0);
}

/* Control data that the kernel does not give: no entry, or no time, and no byte past its end. */
static void
test_damaged(void)
{
    const int64_t times[6] = {1, 2, 0, 0, 3, 4};
    ipv4b_extended_error error = {.ee_origin = ORIGIN, .ee_data = 5};
    unsigned char control[512];
    ipv4b_cmsg_encoder enc = {.buf = control, .cap = sizeof control};

    CHECK_INT(ipv4b_cmsg_put(&enc, SOL_SOCKET, IPV4B_SO_TIMESTAMPING, times, sizeof times), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IPV4B_IP_RECVERR, &error, sizeof error), 0);
    for (size_t len = 0; len <= enc.len; len++) {
        unsigned char *edge = edge_new(control, len);
        ipv4b_slot slot = {.msg_hdr = {.msg_control = edge, .msg_controllen = len}};
        ipv4b_tx_timestamp stamps[2];
        size_t count;
        bool whole = len >= CMSG_SPACE(sizeof times) + CMSG_LEN(sizeof error);

        CHECK_INT(ipv4b_tx_parse(&slot, 5, stamps, &count), whole);
        CHECK_INT(count, whole ? 2 : 0);
        edge_free(edge);
    }
    for (size_t cut = 0; cut < sizeof times; cut++) {
        const ipv4b_slot slot = {.msg_hdr = {.msg_control = control}};
        ipv4b_tx_timestamp stamps[2];
        ipv4b_slot shorter = slot;
        size_t count;

        enc.len = 0;
        CHECK_INT(ipv4b_cmsg_put(&enc, SOL_SOCKET, IPV4B_SO_TIMESTAMPING, times, cut), 0);
        CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IPV4B_IP_RECVERR, &error, sizeof error), 0);
        shorter.msg_hdr.msg_controllen = enc.len;
        CHECK(ipv4b_tx_parse(&shorter, 5, stamps, &count));
        CHECK(count == 0 || cut / 3 == 8); /* two 32-bit numbers, on an old system */
    }
}

/* First in, first out, through every turn of the ring, up to the most. */
static void
test_queue(void)
{
    ipv4b_tx_queue q = {0};
    uint64_t in = 0, out = 0;

    ipv4b_tx_queue_push(&q, &(ipv4b_tx_timestamp){0}); /* no room */
    CHECK_INT(q.count, 0);
    for (size_t i = 0; i < 1000; i++) {
        CHECK_INT(ipv4b_tx_queue_reserve(&q), 0);
        for (size_t k = 0; k < 2; k++) {
            ipv4b_tx_queue_push(&q, &(ipv4b_tx_timestamp){in++, 0, 0});
        }
        if (i % 3 > 0) {
            CHECK(ipv4b_tx_queue_first(&q)->id == out++);
            ipv4b_tx_queue_pop(&q);
        }
    }
    while (q.count > 0) {
        CHECK(ipv4b_tx_queue_first(&q)->id == out++);
        ipv4b_tx_queue_pop(&q);
    }
    CHECK_INT(out, in);
    for (size_t i = 0; i < IPV4B_TX_KEPT_MAX + 10; i++) {
        CHECK_INT(ipv4b_tx_queue_reserve(&q), 0);
        ipv4b_tx_queue_push(&q, &(ipv4b_tx_timestamp){i, 0, 0});
    }
    CHECK_INT(q.count, IPV4B_TX_KEPT_MAX);
    CHECK_INT(ipv4b_tx_queue_first(&q)->id, 0);
    ipv4b_tx_queue_clear(&q);
    CHECK_INT(q.count, 0);
    ipv4b_tx_queue_clear(&q);
}

int
main(void)
{
    test_kinds();
    test_wrap();
    test_damaged();
    test_queue();
    CHECK_INT(ipv4b_tx_kinds(0), 0);
    CHECK_INT(ipv4b_tx_kinds(IPV4B_STAMP_ALL), 256 | 2 | 1);
    return check_status();
}
