/* test_send.c - batches handed to the kernel: runs, their refusal, and errors of the network. */
#include "send.h"

#include "cmsg.h"
#include "loopback.h"
#include "mmsg.h"

#include <sched.h>

/* The datagrams that come next are numbers from `first` to `last`, in 4 bytes, and none follows. */
static void
check_arrived(int rx, uint32_t first, uint32_t last)
{
    unsigned char data[64];

    for (uint32_t i = first; i <= last && wait_readable(rx); i++) {
        CHECK_INT(recv(rx, data, sizeof data, MSG_DONTWAIT), 4);
        CHECK_BYTES(data, &(uint32_t){htole32(i)}, 4);
    }
    CHECK_INT(recv(rx, data, sizeof data, MSG_DONTWAIT), -1);
}

static bool unable; /* whether the socket could make no runs at all */

/* Sends the n prepared messages in runs; gives how many were taken. */
static size_t
send_runs(int fd, size_t n, ipv4b_sender *s)
{
    size_t done;

    *s = (ipv4b_sender){.gso = true, .error = 99, .refused = 99};
    ipv4b_send_plan(s, slots, n, 0, NULL);
    done = ipv4b_send(fd, slots, n, 0, s);
    for (size_t i = 0; i < n; i++) {
        CHECK_INT(slots[i].msg_len, i < done ? 4 : 0);
    }
    unable = s->plan != NULL && s->plan->unable;
    ipv4b_gso_plan_free(s->plan);
    return done;
}

static void
test_runs(void)
{
    struct sockaddr_in from, to, other, third;
    int tx = loopback_socket(&from), rx = loopback_socket(&to), rx2 = loopback_socket(&other);
    int rx3 = loopback_socket(&third);
    ipv4b_sender s;

    prepare_send(150, to);
    /* Runs of 64 and 36, one alone, and a run of 49. */
    for (size_t i = 100; i < 150; i++) {
        of[i].name = i == 100 ? third : other;
    }
    CHECK_INT(send_runs(tx, 150, &s), 150);
    CHECK_INT(s.error, 0);
    CHECK_INT(s.refused, 0);
    CHECK(!unable);
    check_arrived(rx, 0, 99);
    check_arrived(rx3, 100, 100);
    check_arrived(rx2, 101, 149);
    (void)close(rx3);
    (void)close(rx2);
    (void)close(rx);
    (void)close(tx);
}

/* A message or a run that cannot be sent: all before it go, nothing after it does. */
static void
test_errors(void)
{
    struct sockaddr_in from, to;
    int tx = loopback_socket(&from), rx = loopback_socket(&to);
    ipv4b_sender s;

    for (size_t bad = 1; bad <= 2; bad++) {
        prepare_send(8, to);
        for (size_t i = 0; i < bad; i++) {
            slots[3 + i].msg_hdr.msg_namelen = 0;
        }
        CHECK_INT(send_runs(tx, 8, &s), 3);
        /* sendmmsg forgets why it stopped; for a run it is asked again. */
        CHECK_INT(s.error, bad == 1 && IPV4B_HAVE_MMSG ? 0 : EDESTADDRREQ);
        CHECK_INT(s.refused, 0);
        CHECK(!unable);
        check_arrived(rx, 0, 2);
    }
    /* An error that a refusal could be too, and is not. */
    to.sin_port = 0;
    prepare_send(8, to);
    CHECK_INT(send_runs(tx, 8, &s), 0);
    CHECK_INT(s.error, EINVAL);
    CHECK_INT(s.refused, 0);
    CHECK(!unable);
    CHECK_INT(send_runs(-1, 8, &s), 0);
    CHECK_INT(s.error, EBADF);
    (void)close(rx);
    (void)close(tx);
}

/* A socket without checksums takes no runs: what is behind the first message goes one by one, and
 * all once. */
static void
test_refusal(void)
{
    struct sockaddr_in from, to;
    int tx = loopback_socket(&from), rx = loopback_socket(&to), on = 1;
    ipv4b_sender s;

    require(setsockopt(tx, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on) == 0, "SO_NO_CHECK");
    prepare_send(100, to);
    of[0].name = dead_address();
    CHECK_INT(send_runs(tx, 100, &s), 100);
    CHECK_INT(s.error, 0);
    CHECK_INT(s.refused, EINVAL);
    CHECK(unable);
    check_arrived(rx, 1, 99);
    (void)close(rx);
    (void)close(tx);
}

/* Leaves EMSGSIZE pending on a socket, as an ICMP message about an earlier datagram does: recvmmsg
 * keeps what stopped it after its first message, here too many parts (net/socket.c). */
static void
make_pending(int fd, const struct sockaddr_in *name)
{
    require(sendto(fd, "x", 1, 0, (const struct sockaddr *)name, sizeof *name) == 1 &&
                wait_readable(fd),
            "sendto");
    prepare_receive(2);
    slots[1].msg_hdr.msg_iovlen = IPV4B_IOV_MAX + 1;
    CHECK_INT(recvmmsg(fd, slots, 2, MSG_DONTWAIT, NULL), 1);
}

/* The report of an earlier datagram looks like a refusal, and is told of as what it is. */
static void
test_late(void)
{
    struct sockaddr_in from, to;
    int tx = loopback_socket(&from), rx = loopback_socket(&to);
    ipv4b_sender s;

    for (int round = 0; round < 2; round++) {
        make_pending(tx, &from);
        prepare_send(3, to);
        CHECK_INT(send_runs(tx, 3, &s), 3);
        CHECK_INT(s.pending, EMSGSIZE);
        CHECK_INT(s.error, 0);
        CHECK_INT(s.refused, 0);
        CHECK(!unable);
        check_arrived(rx, 0, 2);
        CHECK_INT(send_runs(tx, 3, &s), 3);
        CHECK_INT(s.pending, 0);
        check_arrived(rx, 0, 2);
    }
    (void)close(rx);
    (void)close(tx);
}

/* Whether the prepared message goes, given to the kernel as it is. A kernel of 64 bits takes no tail
 * from a process of 32 (cmsghdr_from_user_compat_to_kern, net/compat.c). */
static bool
is_taken(int tx, int rx)
{
    bool taken = sendmsg(tx, &slots[0].msg_hdr, 0) == 4;

    CHECK(taken || (sizeof(size_t) == 4 && errno == EINVAL));
    if (taken) {
        CHECK(wait_readable(rx));
        CHECK_INT(recv(rx, NULL, 0, 0), 0);
    }
    return taken;
}

/* Control data goes with each datagram of a run. A tail too short for a header means nothing to the
 * kernel (CMSG_NXTHDR): nor may it in a run, be it zeros or what would be the length of an item. */
static void
test_control(void)
{
    static const struct {
        size_t len;
        unsigned char first;
    } tails[] = {{0, 0},
                 {1, 0},
                 {1, CMSG_SPACE(2) + 8},
                 {8, 0},
                 {8, CMSG_SPACE(2) + 8},
                 {CMSG_LEN(0) - 1, 0}};
    unsigned char control[CMSG_SPACE(4) + CMSG_LEN(0)];
    struct sockaddr_in from, to;
    int tx = loopback_socket(&from), rx = loopback_socket(&to), on = 1, pending;
    const int ttl = 7;
    ipv4b_sender s;

    require(setsockopt(rx, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0, "IP_RECVTTL");
    for (size_t k = 0; k < COUNT_OF(tails); k++) {
        ipv4b_cmsg_encoder enc = {.buf = control, .cap = sizeof control};

        memset(control, 0, sizeof control);
        control[CMSG_SPACE(4)] = tails[k].first;
        CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl), 0);
        /* One alone, and two in a run. */
        for (size_t n = 1; n <= 2; n++) {
            prepare_send(n, to);
            for (size_t i = 0; i < n; i++) {
                slots[i].msg_hdr.msg_control = control;
                slots[i].msg_hdr.msg_controllen = CMSG_SPACE(4) + tails[k].len;
            }
            if (n == 1 && !is_taken(tx, rx)) {
                continue;
            }
            CHECK_INT(send_runs(tx, n, &s), n);
            CHECK_INT(s.refused, 0);
            for (uint32_t i = 0; i < n && wait_readable(rx); i++) {
                prepare_receive(1);
                CHECK_INT(ipv4b_mmsg_recv(rx, slots, 1, 0, &pending), 1);
                CHECK_INT(slots[0].msg_len, 4);
                CHECK_BYTES(of[0].data, &(uint32_t){htole32(i)}, 4);
                CHECK_BYTES(of[0].control + CMSG_LEN(0), &ttl, sizeof ttl);
            }
        }
    }
    (void)close(rx);
    (void)close(tx);
}

/* MSG_MORE makes one datagram of several messages, and no run. */
static void
test_more(void)
{
    struct sockaddr_in from, to;
    int tx = loopback_socket(&from), rx = loopback_socket(&to);
    ipv4b_sender s = {.gso = true};
    unsigned char data[64];

    prepare_send(3, to);
    ipv4b_send_plan(&s, slots, 3, MSG_MORE, NULL);
    CHECK(!s.planned);
    CHECK_INT(ipv4b_send(tx, slots, 3, MSG_MORE, &s), 3);
    CHECK_INT(recv(rx, data, sizeof data, MSG_DONTWAIT), -1);
    ipv4b_send_plan(&s, slots, 1, 0, NULL);
    CHECK_INT(ipv4b_send(tx, slots, 1, 0, &s), 1);
    CHECK(wait_readable(rx));
    CHECK_INT(recv(rx, data, sizeof data, 0), 16);
    CHECK_BYTES(data, "\0\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0", 16);
    ipv4b_gso_plan_free(s.plan);
    (void)close(rx);
    (void)close(tx);
}

/* Every other peer is dead, and each of its answers would fail the next message. */
static void
test_network_errors(void)
{
    enum { COUNT = 40 };
    struct sockaddr_in from, to, dead = dead_address();
    int tx = loopback_socket(&from), rx = loopback_socket(&to), on = 1;

    require(setsockopt(tx, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0, "IP_RECVERR");
    for (int gso = 0; gso < 2; gso++) {
        ipv4b_sender s = {.gso = gso, .recv_errors = true};

        prepare_send(2 * COUNT, to);
        for (size_t i = 0; i < COUNT; i++) {
            of[2 * i].name = dead;
            memcpy(of[2 * i + 1].data, &(uint32_t){htole32((uint32_t)i)}, 4);
        }
        ipv4b_send_plan(&s, slots, 2 * COUNT, 0, NULL);
        CHECK_INT(ipv4b_send(tx, slots, 2 * COUNT, 0, &s), 2 * COUNT);
        CHECK_INT(s.error, 0);
        check_arrived(rx, 0, COUNT - 1);
        /* An error that no answer explains ends the batch. */
        slots[5].msg_hdr.msg_namelen = 0;
        ipv4b_send_plan(&s, slots, 2 * COUNT, 0, NULL);
        CHECK_INT(ipv4b_send(tx, slots, 2 * COUNT, 0, &s), 5);
        CHECK_INT(s.error, EDESTADDRREQ);
        for (int i = 0; i < 2 && wait_readable(rx); i++) {
            CHECK_INT(recv(rx, NULL, 0, 0), 0);
        }
        ipv4b_gso_plan_free(s.plan);
    }
    (void)close(rx);
    (void)close(tx);
}

/* A turn goes on behind a message that failed, from the same plan: the others of its run go alone, and
 * what is too large for any path leaves the runs around it as they are. */
static void
test_skip(void)
{
    struct sockaddr_in from, to;
    int tx = loopback_socket(&from), rx = loopback_socket(&to);
    static unsigned char large[IPV4B_GSO_BYTES + 1];
    ipv4b_sender s = {.gso = true, .reorder = true};

    prepare_send(8, to);
    of[1].name.sin_port = of[5].name.sin_port = 0;
    of[3].iov = (struct iovec){large, sizeof large};
    ipv4b_send_plan(&s, slots, 8, 0, NULL);
    /* A run of 0, 2, 4, 6, 7, one of 1 and 5, and 3. */
    CHECK_INT(s.plan->count, 3);
    CHECK_INT(ipv4b_send(tx, slots, 8, 0, &s), 5);
    CHECK_INT(s.error, EINVAL);
    for (size_t bad = 1; bad <= 5; bad += 4) {
        CHECK_INT(ipv4b_send_next(&s), bad);
        CHECK_INT(ipv4b_send(tx, slots, 8, 0, &s), 0);
        CHECK_INT(s.error, EINVAL);
        ipv4b_send_skip(&s);
    }
    CHECK_INT(ipv4b_send_next(&s), 3);
    CHECK_INT(ipv4b_send(tx, slots, 8, 0, &s), 0);
    CHECK_INT(s.error, EMSGSIZE);
    ipv4b_send_skip(&s);
    CHECK_INT(s.done, 8);
    CHECK_INT(ipv4b_send(tx, slots, 8, 0, &s), 0);
    CHECK_INT(s.error, 0);
    CHECK_INT(s.refused, 0);
    for (size_t i = 0; i < 5 && wait_readable(rx); i++) {
        static const uint32_t sent[] = {0, 2, 4, 6, 7};
        unsigned char data[8];

        CHECK_INT(recv(rx, data, sizeof data, 0), 4);
        CHECK_BYTES(data, &(uint32_t){htole32(sent[i])}, 4);
    }
    CHECK_INT(recv(rx, large, sizeof large, MSG_DONTWAIT), -1);
    ipv4b_gso_plan_free(s.plan);
    (void)close(rx);
    (void)close(tx);
}

/* Where there is no route, the error looks like an answer of the network, but comes every time. */
static void
test_no_route(void)
{
    ipv4b_sender s = {.recv_errors = true};
    int tx;

    if (unshare(CLONE_NEWNET) < 0) {
        return; /* a namespace without routes is for the privileged */
    }
    tx = socket(AF_INET, SOCK_DGRAM, 0);
    prepare_send(3, (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = htons(9),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)});
    CHECK_INT(ipv4b_send(tx, slots, 3, 0, &s), 0);
    CHECK_INT(s.error, ENETUNREACH);
    (void)close(tx);
}

int
main(void)
{
    if (!emulator_lacks("segmentation offload, and an error that recvmmsg keeps")) {
        test_runs();
        test_errors();
        test_refusal();
        test_late();
        test_control();
        test_skip();
        test_network_errors();
    }
    test_more();
    test_no_route();
    return check_status();
}
