/* test_gro.c - coalesced datagrams come out as they were sent, however they are asked for. */
#include "gro.h"

#include "ancillary.h"
#include "loopback.h"

#include <linux/sock_diag.h>

enum { ROUNDS = 100000, SOCKET_ROUNDS = 500, WITH_TTL = IPV4B_CM_SEGMENT | IPV4B_CM_TTL };

typedef struct {
    ipv4b_gro *q;
    int tx, rx;
    struct sockaddr_in from, to;
} setup;

/* Two sockets and an empty queue. */
static setup
setup_new(unsigned int flags)
{
    setup s = {.q = ipv4b_gro_new()};
    unsigned int current = 0;

    s.tx = loopback_socket(&s.from);
    s.rx = loopback_socket(&s.to);
    require(s.q != NULL && ipv4b_ancillary_request(s.rx, flags, flags, &current) == 0,
            "receive offload");
    return s;
}

static void
setup_end(const setup *s)
{
    ipv4b_gro_free(s->q);
    (void)close(s->tx);
    (void)close(s->rx);
}

/* How much memory what waits in a socket takes; it grows with each datagram that comes in. */
static unsigned int
waiting(int fd)
{
    unsigned int memory[SK_MEMINFO_VARS];
    socklen_t len = sizeof memory;

    require(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &len) == 0, "SO_MEMINFO");
    return memory[SK_MEMINFO_RMEM_ALLOC];
}

/* Sends `total` bytes, which count up from `first`, as one run of datagrams of `size` bytes; and
 * waits until they are there. */
static void
send_run(const setup *s, size_t total, size_t size, unsigned int first)
{
    static unsigned char data[4096];
    const ipv4b_ancillary a = {.present = IPV4B_CM_SEGMENT, .segment_size = (int)size};
    unsigned char control[64];
    struct iovec iov = {.iov_base = data, .iov_len = total};
    struct msghdr h = {.msg_name = (void *)(uintptr_t)&s->to,
                       .msg_namelen = sizeof s->to,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control};
    unsigned int before = waiting(s->rx);
    int len = size == 0 ? 0 : ipv4b_ancillary_marshal(&a, control, sizeof control);

    for (size_t i = 0; i < total; i++) {
        data[i] = (unsigned char)(first + i);
    }
    h.msg_controllen = (size_t)len;
    require(sendmsg(s->tx, &h, 0) == (ssize_t)total, "sendmsg");
    for (int tries = 0; tries < 5000 && waiting(s->rx) == before; tries++) {
        (void)poll(NULL, 0, 1);
    }
    require(waiting(s->rx) > before, "arrival");
}

static int
receive(const setup *s, size_t n, int flags)
{
    int pending = 99, r = ipv4b_gro_recv(s->q, s->rx, slots, n, flags, true, &pending);

    CHECK_INT(pending, 0);
    return r;
}

/* Slot number `index` holds `len` bytes that count up from `first`, as if they had come alone. */
static void
check_slot(const setup *s, size_t index, size_t len, unsigned int first)
{
    const struct msghdr *h = &slots[index].msg_hdr;
    ipv4b_ancillary a = {.present = 0};

    CHECK_INT(slots[index].msg_len, len);
    for (size_t i = 0; i < SLOT_DATA; i++) {
        CHECK_INT(of[index].data[i], i < len ? (unsigned char)(first + i) : 0xee);
    }
    CHECK_INT(h->msg_flags, 0);
    CHECK_INT(h->msg_namelen, sizeof s->from);
    CHECK_BYTES(&of[index].name, &s->from, sizeof s->from);
    CHECK_INT(h->msg_controllen, CMSG_SPACE(4));
    CHECK_INT(ipv4b_ancillary_parse(&a, of[index].control, h->msg_controllen, NULL), 0);
    CHECK_INT(a.present, IPV4B_CM_TTL);
    CHECK_INT(a.ttl, 64);
}

static void
test_segment(void)
{
    uint64_t state = 0x853c49e6748fea9b;

    CHECK_INT(ipv4b_gro_segment(0, 0, 0), 0);
    CHECK_INT(ipv4b_gro_segment(10, 0, 0), 10);
    CHECK_INT(ipv4b_gro_segment(10, 0, 10), 10);
    CHECK_INT(ipv4b_gro_segment(10, 0, 11), 10);
    CHECK_INT(ipv4b_gro_segment(10, 8, 4), 2);
    CHECK_INT(ipv4b_gro_segment(10, 10, 4), 0);
    CHECK_INT(ipv4b_gro_segment(SIZE_MAX, 0, SIZE_MAX), SIZE_MAX);
    for (int round = 0; round < ROUNDS; round++) {
        size_t total = random_below(&state, 65536), offset = random_below(&state, total + 1);
        size_t size = 1 + random_below(&state, 70000);
        size_t part = ipv4b_gro_segment(total, offset, size);

        CHECK(part == size ? offset + part <= total : offset + part == total && part < size);
    }
}

/* Datagrams that came alone, of no bytes and of some, more than there are buffers in the queue. */
static void
test_alone(void)
{
    enum { COUNT = 150 };
    setup s = setup_new(WITH_TTL);

    for (unsigned int i = 0; i < COUNT; i++) {
        send_run(&s, i % 8, 0, i);
    }
    prepare_receive(COUNT + 1);
    CHECK_INT(receive(&s, COUNT + 1, 0), COUNT);
    CHECK_INT(ipv4b_gro_pending(s.q), 0);
    for (unsigned int i = 0; i < COUNT; i++) {
        check_slot(&s, i, i % 8, i);
    }
    CHECK_INT(receive(&s, 1, 0), -EAGAIN);
    setup_end(&s);
}

/* Several buffers wait: a run, a datagram of no bytes, and a run whose last is shorter. */
static void
test_pending(void)
{
    setup s = setup_new(WITH_TTL);

    send_run(&s, 12, 4, 0);
    send_run(&s, 0, 0, 0);
    send_run(&s, 9, 4, 12);
    prepare_receive(4);
    CHECK_INT(receive(&s, 3, 0), 3);
    CHECK_INT(ipv4b_gro_pending(s.q), 4);
    prepare_receive(4);
    CHECK_INT(receive(&s, 2, 0), 2);
    check_slot(&s, 0, 0, 0);
    check_slot(&s, 1, 4, 12);
    CHECK_INT(ipv4b_gro_pending(s.q), 2);
    CHECK_INT(receive(&s, 4, 0), 2);
    CHECK_INT(ipv4b_gro_pending(s.q), 0);
    setup_end(&s);
}

/* Nothing but the segment size came with it, and that is not handed on. */
static void
test_no_control(void)
{
    setup s = setup_new(IPV4B_CM_SEGMENT);

    send_run(&s, 8, 4, 0);
    prepare_receive(2);
    slots[1].msg_hdr.msg_controllen = 0;
    CHECK_INT(receive(&s, 2, 0), 2);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(slots[i].msg_len, 4);
        CHECK_INT(slots[i].msg_hdr.msg_controllen, 0);
        CHECK_INT(slots[i].msg_hdr.msg_flags, 0);
    }
    setup_end(&s);
}

/* A look leaves everything where it is; and without `receive` the socket is not asked. */
static void
test_peek_and_queue_only(void)
{
    setup s = setup_new(WITH_TTL);
    int pending = 99;

    CHECK_INT(receive(&s, 3, MSG_PEEK), -EAGAIN);
    send_run(&s, 12, 4, 0);
    for (int flags = MSG_PEEK; flags >= 0; flags -= MSG_PEEK) {
        CHECK_INT(ipv4b_gro_recv(s.q, s.rx, slots, 3, flags, false, &pending), -EAGAIN);
        CHECK_INT(pending, 0);
    }
    for (int i = 0; i < 2; i++) {
        prepare_receive(3);
        CHECK_INT(receive(&s, 2, MSG_PEEK), 2);
        CHECK_INT(slots[2].msg_len, 0);
        check_slot(&s, 0, 4, 0);
        check_slot(&s, 1, 4, 0);
        CHECK_INT(ipv4b_gro_pending(s.q), 3);
    }
    send_run(&s, 4, 4, 12);
    prepare_receive(5);
    CHECK_INT(ipv4b_gro_recv(s.q, s.rx, slots, 2, 0, false, &pending), 2);
    check_slot(&s, 1, 4, 4);
    CHECK_INT(ipv4b_gro_recv(s.q, s.rx, slots, 5, 0, false, &pending), 1);
    /* An error behind what the queue still has is for later. */
    CHECK_INT(receive(&s, 1, MSG_PEEK), 1);
    CHECK_INT(ipv4b_gro_recv(s.q, -1, slots, 5, 0, true, &pending), 1);
    CHECK_INT(pending, EBADF);
    CHECK_INT(ipv4b_gro_recv(s.q, -1, slots, 5, 0, true, &pending), -EBADF);
    CHECK_INT(pending, 0);
    setup_end(&s);
}

/* Slots that are too small for what they get. */
static void
test_truncation(void)
{
    setup s = setup_new(WITH_TTL);

    for (int flags = 0; flags <= MSG_TRUNC; flags += MSG_TRUNC) {
        struct iovec parts[] = {{.iov_base = of[0].data, .iov_len = 2},
                                {.iov_base = NULL, .iov_len = 0},
                                {.iov_base = of[0].data + 8, .iov_len = 3}};

        prepare_receive(4);
        slots[0].msg_hdr.msg_iov = parts;
        slots[0].msg_hdr.msg_iovlen = 3;
        slots[1].msg_hdr.msg_controllen = CMSG_LEN(3);
        slots[1].msg_hdr.msg_name = NULL;
        slots[2].msg_hdr.msg_control = NULL;
        slots[2].msg_hdr.msg_controllen = 0;
        slots[2].msg_hdr.msg_iovlen = 0;
        slots[3].msg_hdr.msg_namelen = 100;
        send_run(&s, 32, 8, 1);
        CHECK_INT(receive(&s, 4, flags), 4);
        CHECK_INT(slots[0].msg_len, flags == 0 ? 5 : 8);
        CHECK_INT(slots[0].msg_hdr.msg_flags, MSG_TRUNC);
        CHECK_BYTES(of[0].data, "\1\2\xee\xee\xee\xee\xee\xee\3\4\5\xee", 12);
        CHECK_INT(slots[1].msg_len, 8);
        CHECK_INT(slots[1].msg_hdr.msg_flags, MSG_CTRUNC);
        CHECK_INT(slots[1].msg_hdr.msg_controllen, CMSG_LEN(3));
        CHECK_INT(of[1].control[CMSG_LEN(3)], 0xee);
        CHECK_INT(slots[2].msg_len, flags == 0 ? 0 : 8);
        CHECK_INT(slots[2].msg_hdr.msg_flags, MSG_TRUNC | MSG_CTRUNC);
        CHECK_INT(slots[2].msg_hdr.msg_controllen, 0);
        check_slot(&s, 3, 8, 25);
    }
    setup_end(&s);
}

/* Runs of any shape, read in any portions: the same row of datagrams. */
static void
test_random(void)
{
    uint64_t state = 0xcafef00dd15ea5e5;
    setup s = setup_new(WITH_TTL);

    for (int round = 0; round < SOCKET_ROUNDS; round++) {
        size_t size = 1 + random_below(&state, SLOT_DATA), left;
        unsigned int at = (unsigned int)round;

        left = 1 + random_below(&state, size * 64);
        send_run(&s, left, size, at);
        while (left > 0) {
            size_t n = 1 + random_below(&state, 40);
            int r;

            prepare_receive(n);
            r = receive(&s, n, 0);
            if (!CHECK(r > 0 && (size_t)r <= n)) {
                break;
            }
            for (size_t i = 0; i < (size_t)r; i++) {
                size_t len = left < size ? left : size;

                check_slot(&s, i, len, at);
                at += (unsigned int)len;
                left -= len;
            }
            CHECK_INT(ipv4b_gro_pending(s.q), (left + size - 1) / size);
        }
        CHECK_INT(receive(&s, 1, 0), -EAGAIN);
    }
    setup_end(&s);
}

static void
test_no_memory(void)
{
    memory_limit(true);
    CHECK(ipv4b_gro_new() == NULL);
    memory_limit(false);
    ipv4b_gro_free(NULL);
}

int
main(void)
{
    test_segment();
    if (!emulator_lacks("receive offload, and limits of memory")) {
        test_alone();
        test_pending();
        test_no_control();
        test_peek_and_queue_only();
        test_truncation();
        test_random();
        if (!MEMORY_IS_SHADOWED) {
            test_no_memory();
        }
    }
    return check_status();
}
