/* test_mmsg.c - the scratch arrays, and batches over real sockets, with and without recvmmsg. */
#include "mmsg.h"

#include "loopback.h"

static void
test_scratch(void)
{
    static const size_t too_many[] = {SIZE_MAX, SIZE_MAX / sizeof(ipv4b_slot) + 1,
                                      SIZE_MAX / sizeof(ipv4b_slot)};
    ipv4b_scratch s = {.capacity = 0};
    ipv4b_slot *before;

    CHECK_INT(ipv4b_scratch_reserve(&s, 0), 0);
    CHECK(s.slots == NULL && s.names == NULL && s.owners == NULL);
    for (size_t i = 0; i < COUNT_OF(too_many); i++) {
        CHECK_INT(ipv4b_scratch_reserve(&s, 7), 0);
        CHECK_INT(s.capacity, 7);
        memset(s.slots, 0xee, 7 * sizeof *s.slots);
        memset(s.owners, 0xee, 7 * sizeof *s.owners);
        before = s.slots;
        CHECK_INT(ipv4b_scratch_reserve(&s, 3), 0);
        CHECK(s.slots == before && s.capacity == 7);
        CHECK_INT(ipv4b_scratch_reserve(&s, 64), 0);
        CHECK_INT(s.capacity, 64);
        memset(s.slots, 0xee, 64 * sizeof *s.slots);
        memset(s.names, 0xee, 64 * sizeof *s.names);
        memset(s.owners, 0xee, 64 * sizeof *s.owners);
        CHECK_INT(ipv4b_scratch_reserve(&s, too_many[i]), -ENOMEM);
        CHECK(s.slots == NULL && s.names == NULL && s.owners == NULL && s.capacity == 0);
    }
    ipv4b_scratch_free(&s);
    ipv4b_scratch_free(&s);
}

/* Batches on both sides of what one call takes: all are sent once and in order, with what the
 * kernel tells of each. */
static void
test_batches(void)
{
    static const size_t sizes[] = {1, 64, IPV4B_SEND_MAX, IPV4B_SEND_MAX + 1, SLOTS};
    struct sockaddr_in from, to;
    int tx = loopback_socket(&from), rx = loopback_socket(&to), on = 1, room = 1 << 23;
    /* Only the privileged may make room for all; else the tail of a batch is lost. */
    bool all = setsockopt(rx, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) == 0;

    require(setsockopt(rx, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0, "IP_RECVTTL");
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        int error = 99, pending = 99, r = 0;
        size_t got;

        prepare_send(sizes[k], to);
        CHECK_INT(ipv4b_mmsg_send(tx, slots, sizes[k], 0, &error), sizes[k]);
        CHECK_INT(error, 0);
        for (size_t i = 0; i < sizes[k]; i++) {
            CHECK_INT(slots[i].msg_len, 4);
        }
        prepare_receive(SLOTS);
        for (got = 0; got < sizes[k] && (all || got == 0) && wait_readable(rx); got += (size_t)r) {
            r = ipv4b_mmsg_recv(rx, slots + got, SLOTS - got, 0, &pending);
            require(r > 0, "recvmmsg");
            CHECK_INT(pending, 0);
        }
        CHECK(all ? got == sizes[k] : got <= sizes[k]);
        for (uint32_t i = 0; i < got; i++) {
            const struct msghdr *h = &slots[i].msg_hdr;

            CHECK_INT(slots[i].msg_len, 4);
            CHECK_BYTES(of[i].data, &(uint32_t){htole32(i)}, 4);
            CHECK_INT(of[i].data[4], 0xee);
            CHECK_INT(h->msg_namelen, sizeof from);
            CHECK_BYTES(&of[i].name, &from, sizeof from);
            CHECK_INT(h->msg_controllen, CMSG_SPACE(4));
            CHECK_INT(h->msg_flags, 0);
        }
    }
    (void)close(tx);
    (void)close(rx);
}

/* A pair of sockets where what was sent is there at once. */
static void
instant_pair(int fds[2])
{
    require(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0, "socketpair");
}

/* Sends datagrams of these lengths to the other socket of a pair. */
static void
send_lengths(int fd, const size_t *lengths, size_t n)
{
    int error = 99;

    prepare_send(n, (struct sockaddr_in){0});
    for (size_t i = 0; i < n; i++) {
        of[i].iov.iov_len = lengths[i];
        slots[i].msg_hdr.msg_namelen = 0;
    }
    CHECK_INT(ipv4b_mmsg_send(fd, slots, n, 0, &error), n);
    CHECK_INT(error, 0);
}

/* Datagrams of no bytes and of too many, looked at and then taken; buffers of several parts. */
static void
test_lengths_and_flags(void)
{
    static const size_t sent[] = {0, 16, 3};
    int fds[2], pending;

    instant_pair(fds);
    for (int flags = 0; flags <= MSG_TRUNC; flags += MSG_TRUNC) {
        struct iovec parts[] = {{.iov_base = of[1].data, .iov_len = 2},
                                {.iov_base = NULL, .iov_len = 0},
                                {.iov_base = of[1].data + 8, .iov_len = 3}};

        send_lengths(fds[0], sent, 3);
        prepare_receive(3);
        slots[0].msg_len = slots[1].msg_len = 99;
        CHECK_INT(ipv4b_mmsg_recv(fds[1], slots, 2, MSG_PEEK, &pending), 2);
        CHECK_INT(slots[0].msg_len, 0);
        CHECK_INT(slots[1].msg_len, 0);
        prepare_receive(3);
        slots[1].msg_hdr.msg_iov = parts;
        slots[1].msg_hdr.msg_iovlen = 3;
        slots[2].msg_hdr.msg_name = NULL;
        slots[2].msg_hdr.msg_namelen = 0;
        CHECK_INT(ipv4b_mmsg_recv(fds[1], slots, 3, flags, &pending), 3);
        CHECK_INT(slots[0].msg_len, 0);
        CHECK_INT(slots[1].msg_len, flags == 0 ? 5 : 16);
        CHECK_INT(slots[1].msg_hdr.msg_flags, MSG_TRUNC);
        CHECK_BYTES(of[1].data, "\1\0\xee\xee\xee\xee\xee\xee\0\0\xee\xee", 12);
        CHECK_INT(slots[2].msg_len, 3);
        CHECK_INT(slots[2].msg_hdr.msg_namelen, 0);
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* A message that cannot be sent: how many went before it, and who tells why. */
static void
test_send_errors(void)
{
    static const size_t bad[] = {0, 1, 63, IPV4B_SEND_MAX - 1, IPV4B_SEND_MAX, IPV4B_SEND_MAX + 1};
    struct sockaddr_in from;
    const struct sockaddr_in to = dead_address();
    int tx = loopback_socket(&from), error;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        /* The error is told where it comes first in a call. */
        bool told = !IPV4B_HAVE_MMSG || bad[i] % IPV4B_SEND_MAX == 0;

        prepare_send(bad[i] + 2, to);
        slots[bad[i]].msg_hdr.msg_namelen = 0;
        CHECK_INT(ipv4b_mmsg_send(tx, slots, bad[i] + 2, 0, &error), bad[i]);
        CHECK_INT(error, told ? EDESTADDRREQ : 0);
        CHECK_INT(ipv4b_mmsg_send(tx, slots + bad[i], 2, 0, &error), 0);
        CHECK_INT(error, EDESTADDRREQ);
        CHECK_INT(ipv4b_mmsg_send(tx, slots + bad[i] + 1, 1, 0, &error), 1);
    }
    prepare_send(1, to);
    slots[0].msg_hdr.msg_iovlen = IPV4B_IOV_MAX + 1;
    CHECK_INT(ipv4b_mmsg_send(tx, slots, 1, 0, &error), 0);
    CHECK_INT(error, EMSGSIZE);
    CHECK_INT(ipv4b_mmsg_send(tx, slots, 0, 0, &error), 0);
    CHECK_INT(error, 0);
    prepare_send(1, to);
    CHECK_INT(ipv4b_mmsg_send(-1, slots, 1, 0, &error), 0);
    CHECK_INT(error, EBADF);
    (void)close(tx);
}

/* A queue that is full is not waited for: what fitted was taken, and the rest is told of. */
static void
test_full(void)
{
    int fds[2], error, pending;
    size_t done;

    instant_pair(fds);
    prepare_send(SLOTS, (struct sockaddr_in){0});
    for (size_t i = 0; i < SLOTS; i++) {
        slots[i].msg_hdr.msg_namelen = 0;
    }
    done = ipv4b_mmsg_send(fds[0], slots, SLOTS, 0, &error);
    CHECK(done > 0 && done < SLOTS);
    CHECK_INT(error, IPV4B_HAVE_MMSG ? 0 : EAGAIN);
    CHECK_INT(ipv4b_mmsg_send(fds[0], slots + done, 1, 0, &error), 0);
    CHECK_INT(error, EAGAIN);
    prepare_receive(SLOTS);
    CHECK_INT(ipv4b_mmsg_recv(fds[1], slots, SLOTS, 0, &pending), done);
    CHECK_INT(pending, 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void
test_receive_errors(void)
{
    int pending = 99, fds[2], file;

    instant_pair(fds);
    file = open("/dev/null", O_RDONLY);
    require(file >= 0, "/dev/null");
    prepare_receive(3);
    CHECK_INT(ipv4b_mmsg_recv(fds[1], slots, 3, 0, &pending), -EAGAIN);
    CHECK_INT(pending, 0);
    CHECK_INT(ipv4b_mmsg_recv(-1, slots, 3, 0, &pending), -EBADF);
    CHECK_INT(ipv4b_mmsg_recv(file, slots, 3, 0, &pending), -ENOTSOCK);
    (void)close(file);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* An error after the first message waits for the next call, with us or in the kernel. */
static void
test_late_receive_error(void)
{
    int pending = 99, fds[2];

    instant_pair(fds);
    send_lengths(fds[0], (size_t[]){1, 2}, 2);
    prepare_receive(3);
    slots[1].msg_hdr.msg_iovlen = IPV4B_IOV_MAX + 1;
    CHECK_INT(ipv4b_mmsg_recv(fds[1], slots, 3, 0, &pending), 1);
    CHECK_INT(pending, IPV4B_HAVE_MMSG ? 0 : EMSGSIZE);
    if (IPV4B_HAVE_MMSG) {
        CHECK_INT(ipv4b_mmsg_recv(fds[1], slots, 1, 0, &pending), -EMSGSIZE);
    }
    CHECK_INT(ipv4b_mmsg_recv(fds[1], slots, 1, 0, &pending), 1);
    CHECK_INT(slots[0].msg_len, 2);
    CHECK_BYTES(of[0].data, "\1\0\xee", 3);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

int
main(void)
{
    test_scratch();
    test_batches();
    test_lengths_and_flags();
    test_send_errors();
    test_full();
    test_receive_errors();
    if (!emulator_lacks("an error that recvmmsg keeps for the next call")) {
        test_late_receive_error();
    }
    return check_status();
}
