/* error_queue.c - see error_queue.h. */
#include "error_queue.h"

#include "cmsg.h"
#include "iovec.h"

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

void
ipv4b_error_queue_prepare(ipv4b_queued_error *e)
{
    struct msghdr *h = &e->slot.msg_hdr;

    memset(e, 0, offsetof(ipv4b_queued_error, data));
    e->iov = (struct iovec){.iov_base = e->data, .iov_len = sizeof e->data};
    h->msg_name = &e->addr;
    h->msg_namelen = sizeof e->addr;
    h->msg_iov = &e->iov;
    h->msg_iovlen = 1;
    h->msg_control = e->control;
    h->msg_controllen = sizeof e->control;
}

int
ipv4b_error_queue_recv(int fd, ipv4b_queued_error *e)
{
    ssize_t r = recvmsg(fd, &e->slot.msg_hdr, IPV4B_MSG_ERRQUEUE | MSG_DONTWAIT);

    if (r < 0) {
        return -errno;
    }
    e->slot.msg_len = (unsigned int)r;
    return 1;
}

void
ipv4b_error_queue_copy(ipv4b_queued_error *e, const ipv4b_slot *from)
{
    const struct msghdr *h = &from->msg_hdr;
    size_t len = from->msg_len < sizeof e->data ? from->msg_len : sizeof e->data;
    size_t control_len = (size_t)h->msg_controllen;

    ipv4b_error_queue_prepare(e);
    e->slot.msg_len = (unsigned int)ipv4b_gather_bytes(e->data, len, h);
    control_len = control_len < sizeof e->control ? control_len : sizeof e->control;
    memcpy(e->control, h->msg_control, control_len);
    e->slot.msg_hdr.msg_controllen = control_len;
    e->slot.msg_hdr.msg_namelen = h->msg_namelen;
    if (h->msg_namelen == sizeof e->addr) {
        memcpy(&e->addr, h->msg_name, sizeof e->addr);
    }
}

void
ipv4b_error_queue_parse(ipv4b_queued_error *e)
{
    const struct msghdr *h = &e->slot.msg_hdr;
    ipv4b_cmsg_iter it = {.buf = h->msg_control, .len = (size_t)h->msg_controllen};
    ipv4b_cmsg_item item;

    e->len = e->slot.msg_len;
    e->has_addr = h->msg_namelen == sizeof e->addr && e->addr.sin_family == AF_INET;
    while (ipv4b_cmsg_next(&it, &item) > 0) {
        parse_item(&item, e);
    }
}
