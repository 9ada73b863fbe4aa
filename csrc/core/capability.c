/* capability.c - see capability.h. */
#include "capability.h"

#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0 /* the descriptors live for a moment */
#endif

enum { PROTOCOL_EXPERIMENTAL = 253 /* RFC 3692 */ };

static bool
has_option(int fd, int option)
{
    int value = 0;
    socklen_t len = sizeof value;

    return getsockopt(fd, IPPROTO_UDP, option, &value, &len) == 0;
}

#if IPV4B_HAVE_MMSG

/* A batch of no messages is legal, moves nothing, and fails only where there is no such call. */
static bool
has_recvmmsg(int fd)
{
    return recvmmsg(fd, NULL, 0, MSG_DONTWAIT, NULL) == 0;
}

static bool
has_sendmmsg(int fd)
{
    return sendmmsg(fd, NULL, 0, MSG_DONTWAIT) == 0;
}

#else

static bool
has_recvmmsg(int fd)
{
    (void)fd;
    return false;
}

static bool
has_sendmmsg(int fd)
{
    (void)fd;
    return false;
}

#endif

int
ipv4b_capabilities_probe(ipv4b_capabilities *out)
{
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int raw;

    if (udp < 0) {
        return -errno;
    }
    out->recvmmsg = has_recvmmsg(udp);
    out->sendmmsg = has_sendmmsg(udp);
    out->gso = has_option(udp, IPV4B_UDP_SEGMENT);
    out->gro = has_option(udp, IPV4B_UDP_GRO);
    (void)close(udp);
    raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, PROTOCOL_EXPERIMENTAL);
    out->raw_sockets = raw >= 0;
    if (raw >= 0) {
        (void)close(raw);
    }
    return 0;
}
