/* test_request.c - what is asked for is what the kernel delivers (ancillary.h), on loopback. */
#include "ancillary.h"

#include "loopback.h"

#include <net/if.h>

static void
test_options(void)
{
    static const unsigned int options[][3] = {
        {IPV4B_CM_TTL, IPPROTO_IP, IP_RECVTTL},
        {IPV4B_CM_SRC | IPV4B_CM_DST | IPV4B_CM_INTERFACE, IPPROTO_IP, IP_PKTINFO},
        {IPV4B_CM_TOS, IPPROTO_IP, IP_RECVTOS},
        {IPV4B_CM_TIMESTAMP, SOL_SOCKET, SO_TIMESTAMPNS},
        {IPV4B_CM_DROPS, SOL_SOCKET, SO_RXQ_OVFL},
        {IPV4B_CM_SEGMENT, IPPROTO_UDP, IPV4B_UDP_GRO},
    };
    struct sockaddr_in name;
    int udp = loopback_socket(&name), tcp = socket(AF_INET, SOCK_STREAM, 0);
    unsigned int current = 0;

    for (unsigned int i = 0; i <= IPV4B_CM_ALL; i++) {
        unsigned int flags = i * 37 & IPV4B_CM_ALL; /* every set once, in no plain order */

        CHECK_INT(ipv4b_ancillary_request(udp, flags, IPV4B_CM_ALL, &current), 0);
        CHECK_INT(current, flags);
        for (size_t k = 0; k < COUNT_OF(options); k++) {
            int on = -1;
            socklen_t len = sizeof on;

            CHECK_INT(getsockopt(udp, (int)options[k][1], (int)options[k][2], &on, &len), 0);
            CHECK_INT(on, (flags & options[k][0]) != 0);
        }
    }
    /* What is not changed is not asked for again, on no matter what descriptor. */
    CHECK_INT(ipv4b_ancillary_request(-1, current, 0, &current), 0);
    current = 0;
    CHECK_INT(ipv4b_ancillary_request(-1, IPV4B_CM_TOS, IPV4B_CM_TOS, &current), -EBADF);
    CHECK_INT(current, 0);
    /* The rows before the one that failed are on. */
    CHECK_INT(ipv4b_ancillary_request(tcp, IPV4B_CM_ALL, IPV4B_CM_ALL, &current), -ENOPROTOOPT);
    CHECK_INT(current, IPV4B_CM_ALL & ~IPV4B_CM_SEGMENT);
    (void)close(udp);
    (void)close(tcp);
}

/* Sends a byte with a TTL, a TOS and 127.0.0.2 as its source; what is in its control data when it
 * arrives at a socket that asked for `flags`. */
static ipv4b_ancillary
delivered(unsigned int flags)
{
    const ipv4b_ancillary in = {.present = IPV4B_CM_TTL | IPV4B_CM_TOS | IPV4B_CM_SRC,
                                .ttl = 9,
                                .tos = 0x2e << 2 | 1,
                                .src.s_addr = htonl(INADDR_LOOPBACK + 1)};
    ipv4b_ancillary out = {.present = 0};
    struct sockaddr_in any = {.sin_family = AF_INET}, to;
    int tx = socket(AF_INET, SOCK_DGRAM, 0), rx = loopback_socket(&to);
    unsigned int current = 0;
    struct msghdr *h = &slots[0].msg_hdr;

    require(tx >= 0 && bind(tx, (struct sockaddr *)&any, sizeof any) == 0, "socket");
    CHECK_INT(ipv4b_ancillary_request(rx, flags, flags, &current), 0);
    prepare_send(1, to);
    h->msg_controllen = (size_t)ipv4b_ancillary_marshal(&in, of[0].control, SLOT_CONTROL);
    CHECK_INT(sendmsg(tx, h, 0), 4);
    prepare_receive(1);
    /* No more room than the flags need. */
    h->msg_controllen = ipv4b_ancillary_space(flags);
    CHECK(wait_readable(rx));
    CHECK_INT(recvmsg(rx, h, MSG_DONTWAIT), 4);
    CHECK_INT(h->msg_flags, 0);
    CHECK_INT(ntohl(of[0].name.sin_addr.s_addr), INADDR_LOOPBACK + 1);
    CHECK_INT(ipv4b_ancillary_parse(&out, of[0].control, (size_t)h->msg_controllen, NULL), 0);
    (void)close(tx);
    (void)close(rx);
    return out;
}

static void
test_delivery(void)
{
    const unsigned int path = IPV4B_CM_DST | IPV4B_CM_INTERFACE;
    /* Neither a segment size nor drops come with a datagram that came alone, after no loss. */
    const unsigned int silent = IPV4B_CM_SEGMENT | IPV4B_CM_DROPS | IPV4B_CM_SRC;

    for (unsigned int flags = 0; flags <= IPV4B_CM_ALL; flags++) {
        struct timespec now;
        ipv4b_ancillary out = delivered(flags);

        CHECK_INT(out.present, (flags & ~silent) | (flags & (path | IPV4B_CM_SRC) ? path : 0));
        if (flags != IPV4B_CM_ALL) {
            continue;
        }
        require(clock_gettime(CLOCK_REALTIME, &now) == 0, "clock");
        CHECK_INT(out.ttl, 9);
        CHECK_INT(out.tos, 0xb9);
        CHECK_INT(ntohl(out.dst.s_addr), INADDR_LOOPBACK);
        CHECK_INT(ntohl(out.local.s_addr), INADDR_LOOPBACK);
        CHECK_INT(out.ifindex, if_nametoindex("lo"));
        CHECK(now.tv_sec - out.timestamp_ns / 1000000000 <= 10);
    }
}

int
main(void)
{
    if (!emulator_lacks("timestamps, drop counts, and receive offload")) {
        test_options();
        test_delivery();
    }
    return check_status();
}
