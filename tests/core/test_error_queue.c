/* test_error_queue.c - errors of the network, taken off the queue of a socket on loopback. */
#include "error_queue.h"

#include "ancillary.h"
#include "loopback.h"

#include <linux/net_tstamp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

static ipv4b_queued_error queued;

static int
error_socket(struct sockaddr_in *name)
{
    int fd = loopback_socket(name), on = 1;

    require(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0, "IP_RECVERR");
    return fd;
}

/* Takes the next item. */
static int
next_error(int fd)
{
    int r;

    memset(&queued, 0xee, sizeof queued);
    ipv4b_error_queue_prepare(&queued);
    r = ipv4b_error_queue_recv(fd, &queued);
    if (r > 0) {
        ipv4b_error_queue_parse(&queued);
    }
    return r;
}

/* Waits for it first. */
static int
next(int fd)
{
    CHECK(wait_readable(fd));
    return next_error(fd);
}

/* Datagrams of any size to dead ports come back whole, as port unreachable. */
static void
test_unreachable(void)
{
    static const size_t sizes[] = {0, 1, 5, 500};
    static unsigned char data[500];
    struct sockaddr_in name;
    int fd = error_socket(&name);

    memset(data, 0xab, sizeof data);
    for (int connected = 0; connected < 2; connected++) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            struct sockaddr_in dead = dead_address();
            const void *to = connected ? NULL : &dead;

            require(!connected || connect(fd, (struct sockaddr *)&dead, sizeof dead) == 0,
                    "connect");
            require(sendto(fd, data, sizes[i], 0, to, connected ? 0 : sizeof dead) >= 0, "sendto");
            CHECK_INT(next(fd), 1);
            CHECK_INT(queued.error, ECONNREFUSED);
            CHECK_INT(queued.origin, SO_EE_ORIGIN_ICMP);
            CHECK_INT(queued.icmp_type, 3);
            CHECK_INT(queued.icmp_code, 3);
            CHECK_INT(queued.mtu, 0);
            CHECK(queued.has_offender && queued.has_addr);
            CHECK_INT(ntohl(queued.offender.s_addr), INADDR_LOOPBACK);
            CHECK_BYTES(&queued.addr, &dead, sizeof dead);
            CHECK_INT(queued.len, sizes[i]);
            CHECK_BYTES(queued.data, data, sizes[i]);
            CHECK_INT(queued.data[sizes[i]], 0xee);
        }
    }
    CHECK_INT(next_error(fd), -EAGAIN);
    (void)close(fd);
}

/* Several errors wait in order, and come whole where every control message is on as well. */
static void
test_order(void)
{
    struct sockaddr_in name, dead = dead_address();
    unsigned int current = 0;
    int fd = error_socket(&name);

    CHECK_INT(ipv4b_ancillary_request(fd, IPV4B_CM_ALL, IPV4B_CM_ALL, &current), 0);
    for (unsigned char i = 0; i < 20; i++) {
        int error;
        socklen_t len = sizeof error;

        require(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
                    sendto(fd, &i, 1, 0, (struct sockaddr *)&dead, sizeof dead) == 1,
                "sendto");
    }
    for (unsigned char i = 0; i < 20; i++) {
        CHECK_INT(next(fd), 1);
        CHECK_INT(queued.error, ECONNREFUSED);
        CHECK(queued.has_offender);
        CHECK_INT(queued.len, 1);
        CHECK_INT(queued.data[0], i);
    }
    CHECK_INT(next_error(fd), -EAGAIN);
    (void)close(fd);
}

/* An ICMP message quotes only the start of a large datagram. */
static void
test_quote(void)
{
    static unsigned char data[60000];
    struct sockaddr_in name, dead = dead_address();
    int fd = error_socket(&name);

    memset(data, 0xcd, sizeof data);
    require(sendto(fd, data, sizeof data, 0, (struct sockaddr *)&dead, sizeof dead) > 0, "sendto");
    CHECK_INT(next(fd), 1);
    CHECK(queued.len > 0 && queued.len < sizeof queued.data);
    CHECK_BYTES(queued.data, data, queued.len);
    (void)close(fd);
}

/* A transmit timestamp comes by the same queue and is no error. */
static void
test_timestamp(void)
{
    const unsigned int flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    struct sockaddr_in name, to;
    int fd = error_socket(&name), rx = loopback_socket(&to);

    require(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) == 0 &&
                sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1,
            "SO_TIMESTAMPING");
    CHECK_INT(next(fd), 1);
    CHECK_INT(queued.origin, SO_EE_ORIGIN_TIMESTAMPING);
    CHECK_INT(queued.error, 0);
    CHECK_INT(queued.mtu, 0);
    CHECK(!queued.has_offender);
    (void)close(rx);
    (void)close(fd);
}

static void
test_failures(void)
{
    struct sockaddr_in name;
    int fd = loopback_socket(&name), file = open("/dev/null", O_RDONLY);

    require(file >= 0, "/dev/null");
    memset(&queued, 0xee, sizeof queued);
    CHECK_INT(next_error(fd), -EAGAIN);
    /* An empty queue leaves no trace of an item before. */
    CHECK(queued.error == 0 && queued.len == 0 && !queued.has_addr && !queued.has_offender);
    CHECK_INT(next_error(-1), -EBADF);
    CHECK_INT(next_error(file), -ENOTSOCK);
    (void)close(file);
    (void)close(fd);
}

/* In a namespace whose loopback device takes 1500 bytes: the error is our own system's, names the
 * MTU, and has no offender. */
static void
test_too_long(void)
{
    static unsigned char data[1473];
    struct ifreq device = {.ifr_name = "lo", .ifr_mtu = 1500};
    struct sockaddr_in name, to;
    int fd, probe = IP_PMTUDISC_DO;

    if (unshare(CLONE_NEWNET) < 0) {
        return; /* for the privileged */
    }
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    require(ioctl(fd, SIOCSIFMTU, &device) == 0, "mtu");
    device.ifr_flags = IFF_UP;
    require(ioctl(fd, SIOCSIFFLAGS, &device) == 0, "up");
    (void)close(fd);
    to = dead_address();
    fd = error_socket(&name);
    /* Connected, since the kernel names that peer's port, not the datagram's (ip_local_error). */
    require(setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe) == 0 &&
                connect(fd, (struct sockaddr *)&to, sizeof to) == 0,
            "connect");
    CHECK_INT(send(fd, data, sizeof data, 0), -1);
    CHECK_INT(errno, EMSGSIZE);
    CHECK_INT(next(fd), 1);
    CHECK_INT(queued.error, EMSGSIZE);
    CHECK_INT(queued.origin, SO_EE_ORIGIN_LOCAL);
    CHECK_INT(queued.mtu, 1500);
    CHECK(!queued.has_offender && queued.has_addr);
    CHECK_BYTES(&queued.addr, &to, sizeof to);
    CHECK_INT(queued.len, 0);
    (void)close(fd);
}

int
main(void)
{
    if (!emulator_lacks("what the queue of errors tells beside the error")) {
        test_unreachable();
        test_order();
        test_timestamp();
        test_too_long();
    }
    test_quote();
    test_failures();
    return check_status();
}
