/* errqueue.c - see errqueue.h. */
#include "errqueue.h"

#include "cmsg.h"

enum { CONTROL_SIZE = 512 };

static void
parse_item(const ipv4b_cmsg_item *item, ipv4b_queued_error *out)
{
    ipv4b_extended_error e;
    struct sockaddr_in offender;

    if (item->level != IPPROTO_IP || item->type != IPV4B_IP_RECVERR || item->len < sizeof e) {
        return;
    }
    memcpy(&e, item->data, sizeof e);
    out->error = e.ee_origin == IPV4B_ORIGIN_TIMESTAMPING ? 0 : (int)e.ee_errno; /* ENOMSG */
    out->origin = e.ee_origin;
    out->icmp_type = e.ee_type;
    out->icmp_code = e.ee_code;
    out->mtu = e.ee_errno == EMSGSIZE ? e.ee_info : 0;
    /* The offender's address follows (SO_EE_OFFENDER); its family is 0 when there is none. */
    if (item->len >= sizeof e + sizeof offender) {
        memcpy(&offender, item->data + sizeof e, sizeof offender);
        out->has_offender = offender.sin_family == AF_INET;
        out->offender = offender.sin_addr;
    }
}

int
ipv4b_errqueue_next(int fd, ipv4b_queued_error *out)
{
    unsigned char control[CONTROL_SIZE];
    struct iovec iov = {.iov_base = out->data, .iov_len = sizeof out->data};
    struct msghdr h = {
        .msg_name = &out->addr,
        .msg_namelen = sizeof out->addr,
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    ipv4b_cmsg_iter it = {.buf = control};
    ipv4b_cmsg_item item;
    ssize_t r;

    memset(out, 0, offsetof(ipv4b_queued_error, data));
    r = recvmsg(fd, &h, IPV4B_MSG_ERRQUEUE | MSG_DONTWAIT);
    if (r < 0) {
        return -errno;
    }
    out->len = (size_t)r;
    out->has_addr = h.msg_namelen == sizeof out->addr && out->addr.sin_family == AF_INET;
    it.len = (size_t)h.msg_controllen;
    while (ipv4b_cmsg_next(&it, &item) > 0) {
        parse_item(&item, out);
    }
    return 1;
}
