/* tx_request.c - see tx_request.h. */
#include "tx_request.h"

#include "cmsg.h"

ipv4b_tx_request *
ipv4b_tx_request_new(void)
{
    return calloc(1, sizeof(ipv4b_tx_request));
}

void
ipv4b_tx_request_free(ipv4b_tx_request *r)
{
    if (r != NULL) {
        free(r->slots);
        free(r->ids);
        free(r->control);
        free(r);
    }
}

/* The length of a message's items, without a tail that is too short for one and that the kernel ignores. */
static size_t
items_length(const struct msghdr *h)
{
    ipv4b_cmsg_iter it = {.buf = h->msg_control, .len = (size_t)h->msg_controllen};
    ipv4b_cmsg_item item;

    while (it.len != 0 && ipv4b_cmsg_next(&it, &item) > 0) {
    }
    return it.pos;
}

/* Where the next item can begin: the last one may have come without its padding. */
static size_t
aligned(size_t len)
{
    return CMSG_SPACE(len) - CMSG_SPACE(0);
}

static int
reserve(ipv4b_tx_request *r, const ipv4b_slot *slots, size_t n)
{
    size_t control = 0;

    for (size_t i = 0; i < n; i++) {
        control += aligned((size_t)slots[i].msg_hdr.msg_controllen) + IPV4B_TX_SPACE;
    }
    if (n > r->capacity) {
        free(r->slots);
        free(r->ids);
        r->slots = calloc(n, sizeof *r->slots);
        r->ids = calloc(n, sizeof *r->ids);
        r->capacity = r->slots == NULL || r->ids == NULL ? 0 : n;
    }
    if (control > r->control_capacity) {
        free(r->control);
        r->control = malloc(control);
        r->control_capacity = r->control == NULL ? 0 : control;
    }
    return n > r->capacity || control > r->control_capacity ? -ENOMEM : 0;
}

size_t
ipv4b_tx_request_put(unsigned char *control, size_t len, uint32_t kinds, uint64_t id)
{
    const uint32_t number = (uint32_t)id; /* the kernel's ids have 32 bits */
    ipv4b_cmsg_encoder enc = {.buf = control, .cap = len + IPV4B_TX_SPACE, .len = len};

    (void)ipv4b_cmsg_put(&enc, SOL_SOCKET, IPV4B_SO_TIMESTAMPING, &kinds, sizeof kinds);
    (void)ipv4b_cmsg_put(&enc, SOL_SOCKET, IPV4B_SCM_TS_OPT_ID, &number, sizeof number);
    return enc.len;
}

int
ipv4b_tx_request_make(ipv4b_tx_request *r, const ipv4b_slot *slots, size_t n, uint32_t kinds,
                      uint64_t first)
{
    unsigned char *control;

    if (reserve(r, slots, n) < 0) {
        return -ENOMEM;
    }
    control = r->control;
    r->kinds = kinds;
    for (size_t i = 0; i < n; i++) {
        struct msghdr *h = &r->slots[i].msg_hdr;
        size_t len = items_length(&slots[i].msg_hdr);

        r->slots[i] = slots[i];
        r->ids[i] = first + i;
        if (len != 0) {
            memcpy(control, h->msg_control, len);
            memset(control + len, 0, aligned(len) - len);
            len = aligned(len);
        }
        h->msg_control = control;
        h->msg_controllen = ipv4b_tx_request_put(control, len, kinds, first + i);
        control += h->msg_controllen;
    }
    return 0;
}

int
ipv4b_tx_request_probe(void)
{
    const struct sockaddr_in discard = {
        .sin_family = AF_INET,
        .sin_port = htons(9),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const uint32_t wanted = IPV4B_TX_REPORT;
    unsigned char control[IPV4B_TX_SPACE];
    struct msghdr h = {.msg_control = control};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0) {
        return -errno;
    }
    h.msg_controllen = ipv4b_tx_request_put(control, 0, IPV4B_TX_SOFTWARE, 0);
    if (setsockopt(fd, SOL_SOCKET, IPV4B_SO_TIMESTAMPING, &wanted, sizeof wanted) < 0 ||
        connect(fd, (const struct sockaddr *)&discard, sizeof discard) < 0) {
        r = errno == ENOPROTOOPT ? 0 : -errno;
    }
    /* The kernel parses the control data, and stops before it makes a datagram (udp_sendmsg,
     * net/ipv4/udp.c). */
    else if (sendmsg(fd, &h, IPV4B_MSG_CONFIRM | IPV4B_MSG_PROBE) < 0) {
        r = errno == EINVAL ? 0 : -errno;
    }
    else {
        r = 1;
    }
    (void)close(fd);
    return r;
}
