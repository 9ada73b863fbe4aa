/* test_inbox.c - a batch of datagrams, some of them coalesced, given one by one. */
#include "inbox.h"

#include "check.h"

/* Puts into a slot what a receive would: bytes that count up from `first`. */
static void
receive(ipv4b_inbox *box, size_t at, size_t len, unsigned char first, int segment_size)
{
    struct msghdr *h = &box->slots[at].msg_hdr;
    unsigned char *bytes = h->msg_iov->iov_base;

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (unsigned char)(first + i);
    }
    box->slots[at].msg_len = (unsigned int)len;
    box->names[at] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(first)};
    h->msg_controllen = 0;
    if (segment_size != 0) {
        struct cmsghdr *item;

        h->msg_controllen = CMSG_SPACE(sizeof segment_size);
        item = CMSG_FIRSTHDR(h);
        item->cmsg_level = IPPROTO_UDP;
        item->cmsg_type = IPV4B_UDP_GRO;
        item->cmsg_len = CMSG_LEN(sizeof segment_size);
        memcpy(CMSG_DATA(item), &segment_size, sizeof segment_size);
    }
}

static void
check_next(ipv4b_inbox *box, size_t len, unsigned char first, uint16_t port)
{
    const struct sockaddr_in *name;
    const unsigned char *bytes;
    size_t got;

    if (!CHECK(!ipv4b_inbox_is_empty(box))) {
        return;
    }
    bytes = ipv4b_inbox_peek(box, &got, &name);
    CHECK_INT(got, len);
    if (got != 0) {
        CHECK_INT(bytes[0], first);
    }
    CHECK_INT(ntohs(name->sin_port), port);
    ipv4b_inbox_advance(box, got);
}

int
main(void)
{
    ipv4b_inbox *box = ipv4b_inbox_new();

    if (!CHECK(box != NULL)) {
        return check_status();
    }
    CHECK(ipv4b_inbox_is_empty(box));
    ipv4b_inbox_prime(box, 5);
    CHECK_INT(box->slots[4].msg_hdr.msg_namelen, sizeof(struct sockaddr_in));
    CHECK(box->iov[0].iov_len > 65535);
    receive(box, 0, 7, 10, 0);
    receive(box, 1, 0, 20, 0);
    receive(box, 2, 8, 30, 3);
    receive(box, 3, 6, 40, 3);
    receive(box, 4, 2, 50, 3);
    ipv4b_inbox_fill(box, 5);
    check_next(box, 7, 10, 10);
    check_next(box, 0, 0, 20);
    check_next(box, 3, 30, 30);
    check_next(box, 3, 33, 30);
    check_next(box, 2, 36, 30);
    check_next(box, 3, 40, 40);
    check_next(box, 3, 43, 40);
    check_next(box, 2, 50, 50);
    CHECK(ipv4b_inbox_is_empty(box));
    ipv4b_inbox_fill(box, 0);
    CHECK(ipv4b_inbox_is_empty(box));
    ipv4b_inbox_free(box);
    ipv4b_inbox_free(NULL);
    return check_status();
}
