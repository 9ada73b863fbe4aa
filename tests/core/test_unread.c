/* test_unread.c - datagrams whose results could not be made: kept in order, and given as a receive would. */
#include "unread.h"

#include "check.h"

static ipv4b_unread_list list;

/* A slot with room for a datagram, in two buffers. */
typedef struct {
    ipv4b_slot slot;
    struct iovec iov[2];
    struct sockaddr_in name;
    unsigned char bytes[2][10];
    _Alignas(struct cmsghdr) unsigned char control[64];
} place;

static void
prepare(place *p, size_t first, size_t second, size_t control)
{
    memset(p, 0, sizeof *p);
    p->iov[0] = (struct iovec){p->bytes[0], first};
    p->iov[1] = (struct iovec){p->bytes[1], second};
    p->slot.msg_hdr.msg_name = &p->name;
    p->slot.msg_hdr.msg_namelen = sizeof p->name;
    p->slot.msg_hdr.msg_iov = p->iov;
    p->slot.msg_hdr.msg_iovlen = 2;
    p->slot.msg_hdr.msg_control = p->control;
    p->slot.msg_hdr.msg_controllen = control;
}

/* Keeps a datagram of `len` bytes, of which there are at most 15, from a port, with a control
 * item. */
static void
keep_with(const char *data, unsigned int len, uint16_t port, size_t room, int level, int type,
          int value)
{
    ipv4b_unread *unread = ipv4b_unread_new(room);
    struct cmsghdr *item;
    place from;

    CHECK(unread != NULL);
    prepare(&from, 10, 5, CMSG_SPACE(sizeof value));
    memcpy(from.bytes[0], data, 10);
    memcpy(from.bytes[1], data + 10, 5);
    from.name = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    item = CMSG_FIRSTHDR(&from.slot.msg_hdr);
    item->cmsg_level = level;
    item->cmsg_type = type;
    item->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(item), &value, sizeof value);
    from.slot.msg_len = len;
    from.slot.msg_hdr.msg_flags = len > 15 ? MSG_TRUNC : 0;
    ipv4b_unread_append(&list, unread, &from.slot);
}

static void
keep(const char *data, unsigned int len, uint16_t port, size_t room)
{
    keep_with(data, len, port, room, IPPROTO_IP, IP_TTL, 64);
}

static void
test_in_order_and_whole(void)
{
    place to[3];
    ipv4b_slot slots[3];

    keep("first datagram!", 15, 1, 100);
    keep("second datagram", 15, 2, 15);
    CHECK_INT(list.count, 2);
    for (int i = 0; i < 3; i++) {
        prepare(&to[i], 10, 10, sizeof to[i].control);
        slots[i] = to[i].slot;
    }
    CHECK_INT(ipv4b_unread_take(&list, slots, 3, 0, false), 2);
    CHECK_INT(list.count, 0);
    CHECK(list.first == NULL);
    CHECK(memcmp(to[0].bytes[0], "first data", 10) == 0 && memcmp(to[0].bytes[1], "gram!", 6) == 0);
    CHECK(memcmp(to[1].bytes[0], "second dat", 10) == 0 && memcmp(to[1].bytes[1], "agram", 6) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(slots[i].msg_len, 15);
        CHECK_INT(slots[i].msg_hdr.msg_flags, 0);
        CHECK_INT(slots[i].msg_hdr.msg_namelen, sizeof(struct sockaddr_in));
        CHECK_INT(ntohs(to[i].name.sin_port), i + 1);
        CHECK_INT(slots[i].msg_hdr.msg_controllen, CMSG_SPACE(sizeof(int)));
    }
    CHECK_INT(ipv4b_unread_take(&list, slots, 3, 0, false), 0);
}

static void
test_cut(void)
{
    place to;

    keep("fifteen of many", 500, 3, 65535);
    prepare(&to, 4, 4, 8);
    CHECK_INT(ipv4b_unread_take(&list, &to.slot, 1, MSG_PEEK | MSG_TRUNC, false), 1);
    CHECK_INT(to.slot.msg_len, 500);
    CHECK_INT(to.slot.msg_hdr.msg_flags, MSG_TRUNC | MSG_CTRUNC);
    CHECK_INT(list.count, 1);
    prepare(&to, 10, 10, 0);
    CHECK_INT(ipv4b_unread_take(&list, &to.slot, 1, 0, false), 1);
    CHECK_INT(to.slot.msg_len, 15);
    CHECK_INT(to.slot.msg_hdr.msg_flags, MSG_TRUNC | MSG_CTRUNC);
    CHECK_INT(list.count, 0);
}

static void
test_peek_fills_every_slot(void)
{
    place to[2];
    ipv4b_slot slots[2];

    keep("first datagram!", 15, 1, 15);
    keep("second datagram", 15, 2, 15);
    for (int i = 0; i < 2; i++) {
        prepare(&to[i], 10, 10, 0);
        slots[i] = to[i].slot;
    }
    CHECK_INT(ipv4b_unread_take(&list, slots, 2, MSG_PEEK, false), 2);
    CHECK_INT(ntohs(to[0].name.sin_port), 1);
    CHECK_INT(ntohs(to[1].name.sin_port), 1);
    CHECK_INT(list.count, 2);
    ipv4b_unread_clear(&list);
    CHECK_INT(list.count, 0);
    CHECK(list.first == NULL);
}

/* A coalesced datagram of segments of 6 bytes, of which the kernel had more than there was room for. */
static void
test_a_coalesced_datagram_is_split(void)
{
    static const char *const datas[] = {"aaaaaa", "bbbbbb", "ccc"};
    place to[2];
    ipv4b_slot slots[2];

    keep_with("aaaaaabbbbbbccc", 40, 1, 15, IPPROTO_UDP, IPV4B_UDP_GRO, 6);
    keep("second datagram", 15, 2, 15);
    CHECK_INT(ipv4b_unread_pending(&list, false), 2);
    CHECK_INT(ipv4b_unread_pending(&list, true), 4);
    for (int i = 0; i < 3; i++) {
        bool last = i == 2;

        /* A look at it first. */
        prepare(&to[0], 4, 4, 0);
        CHECK_INT(ipv4b_unread_take(&list, &to[0].slot, 1, MSG_PEEK, true), 1);
        CHECK_INT(to[0].slot.msg_len, last ? 3 : 6);
        CHECK(memcmp(to[0].bytes[0], datas[i], last ? 3 : 4) == 0);
        CHECK_INT(to[0].slot.msg_hdr.msg_flags & MSG_TRUNC, last ? MSG_TRUNC : 0);
        prepare(&to[0], 5, (size_t)i, sizeof to[0].control);
        CHECK_INT(ipv4b_unread_take(&list, &to[0].slot, 1, MSG_TRUNC, true), 1);
        CHECK_INT(to[0].slot.msg_len, last ? 28 : 6);
        /* The first has a room of five bytes, the second of six. */
        CHECK_INT(to[0].slot.msg_hdr.msg_flags, i == 1 ? 0 : MSG_TRUNC);
        CHECK_INT(to[0].slot.msg_hdr.msg_controllen, 0);
        CHECK_INT(ntohs(to[0].name.sin_port), 1);
        CHECK_INT(ipv4b_unread_pending(&list, true), 3 - i);
    }
    CHECK_INT(list.count, 1);
    ipv4b_unread_clear(&list);

    /* One that was begun, and then is to stay whole. */
    keep_with("aaaaaabbbbbbccc", 15, 1, 15, IPPROTO_UDP, IPV4B_UDP_GRO, 6);
    for (int i = 0; i < 2; i++) {
        prepare(&to[i], 10, 10, sizeof to[i].control);
        slots[i] = to[i].slot;
    }
    CHECK_INT(ipv4b_unread_take(&list, slots, 1, 0, true), 1);
    CHECK_INT(slots[0].msg_len, 6);
    CHECK_INT(slots[0].msg_hdr.msg_flags, 0);
    CHECK_INT(ipv4b_unread_pending(&list, false), 1);
    CHECK_INT(ipv4b_unread_take(&list, &slots[1], 1, 0, false), 1);
    CHECK_INT(slots[1].msg_len, 9);
    CHECK_INT(slots[1].msg_hdr.msg_controllen, CMSG_SPACE(sizeof(int)));
    CHECK(memcmp(to[1].bytes[0], "bbbbbbccc", 9) == 0);
    CHECK_INT(list.count, 0);

    /* Of no bytes, as a datagram may be. */
    keep("no bytes at all", 0, 1, 0);
    CHECK_INT(ipv4b_unread_pending(&list, true), 1);
    prepare(&to[0], 10, 10, 0);
    CHECK_INT(ipv4b_unread_take(&list, &to[0].slot, 1, 0, true), 1);
    CHECK_INT(to[0].slot.msg_len, 0);
    CHECK_INT(list.count, 0);
}

static void
test_no_room(void)
{
    CHECK(ipv4b_unread_new(SIZE_MAX) == NULL);
    ipv4b_unread_free(NULL);
}

int
main(void)
{
    test_in_order_and_whole();
    test_cut();
    test_peek_fills_every_slot();
    test_a_coalesced_datagram_is_split();
    test_no_room();
    return check_status();
}
