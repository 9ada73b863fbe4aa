/* capability.c - see capability.h. */
#include "capability.h"

#include "tx_request.h"

enum { PROTOCOL_EXPERIMENTAL = 253 /* RFC 3692 */ };

static bool
has_option(int fd, int level, int option)
{
    int64_t value[2]; /* as long as the longest */
    socklen_t len = sizeof value;

    return option >= 0 && getsockopt(fd, level, option, value, &len) == 0;
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
    out->gso = has_option(udp, IPPROTO_UDP, IPV4B_UDP_SEGMENT);
    out->gro = has_option(udp, IPPROTO_UDP, IPV4B_UDP_GRO);
    out->tx_timestamps = ipv4b_tx_request_probe() > 0;
    out->txtime = has_option(udp, SOL_SOCKET, IPV4B_SO_TXTIME);
    out->max_pacing_rate = has_option(udp, SOL_SOCKET, IPV4B_SO_MAX_PACING_RATE);
    (void)close(udp);
    raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, PROTOCOL_EXPERIMENTAL);
    out->raw_sockets = raw >= 0;
    if (raw >= 0) {
        (void)close(raw);
    }
    return 0;
}
