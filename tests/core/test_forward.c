/* test_forward.c - slots that send what was received: cut to its length, and split where it was several
 * datagrams. */
#include "forward.h"

#include "cmsg.h"
#include "loopback.h"

static void
test_trim(void)
{
    static unsigned char data[30];
    /* Three buffers of 10 bytes, or of 10, 0 and 10. */
    static const struct {
        size_t sizes[3], count;
        unsigned int len;
        size_t expected[3], used;
    } cases[] = {
        {{10}, 1, 10, {10}, 1},
        {{10}, 1, 4, {4}, 1},
        {{10}, 1, 0, {0}, 0},
        {{0}, 0, 0, {0}, 0},
        {{10, 10, 10}, 3, 30, {10, 10, 10}, 3},
        {{10, 10, 10}, 3, 20, {10, 10}, 2},
        {{10, 10, 10}, 3, 21, {10, 10, 1}, 3},
        {{10, 10, 10}, 3, 1, {1}, 1},
        {{10, 10, 10}, 3, 0, {0}, 0},
        {{10, 0, 10}, 3, 10, {10}, 1},
        {{10, 0, 10}, 3, 11, {10, 0, 1}, 3},
        /* More than there is, which must not go. */
        {{10}, 1, 11, {65536}, 1},
        {{10, 10, 10}, 3, UINT_MAX, {65536}, 1},
        {{0}, 0, 1, {65536}, 1},
    };
    ipv4b_forward_scratch *s = ipv4b_forward_scratch_new();
    struct iovec iov[COUNT_OF(cases)][3];

    require(s != NULL, "calloc");
    memset(slots, 0, COUNT_OF(cases) * sizeof slots[0]);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (size_t k = 0; k < 3; k++) {
            iov[i][k] = (struct iovec){data + 10 * k, cases[i].sizes[k]};
        }
        slots[i].msg_hdr.msg_iov = iov[i];
        slots[i].msg_hdr.msg_iovlen = cases[i].count;
        slots[i].msg_len = cases[i].len;
    }
    CHECK_INT(ipv4b_forward_trim(s, slots, COUNT_OF(cases)), 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct msghdr *h = &slots[i].msg_hdr;

        CHECK_INT(h->msg_iovlen, cases[i].used);
        for (size_t k = 0; k < cases[i].used; k++) {
            CHECK_INT(h->msg_iov[k].iov_len, cases[i].expected[k]);
            CHECK(cases[i].expected[k] == 65536 || h->msg_iov[k].iov_base == data + 10 * k);
        }
        /* What the message has stays as it is. */
        for (size_t k = 0; k < 3; k++) {
            CHECK_INT(iov[i][k].iov_len, cases[i].sizes[k]);
        }
    }
    ipv4b_forward_scratch_free(s);
    ipv4b_forward_scratch_free(NULL);
}

static void
test_segments(void)
{
    unsigned char control[CMSG_SPACE(4) + CMSG_SPACE(4)];
    ipv4b_cmsg_encoder enc = {.buf = control, .cap = sizeof control};
    ipv4b_forward_scratch *s = ipv4b_forward_scratch_new();
    struct msghdr h = {0};
    ipv4b_cmsg_iter it;
    ipv4b_cmsg_item item;
    uint16_t size;

    require(s != NULL, "calloc");
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, &(int){9}, sizeof(int)), 0);
    CHECK_INT(ipv4b_forward_segment(control, enc.len, 5000), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_UDP, IPV4B_UDP_GRO, &(int){1200}, sizeof(int)), 0);
    CHECK_INT(ipv4b_forward_segment(control, enc.len, 5000), 1200);
    CHECK_INT(ipv4b_forward_segment(control, enc.len, 1201), 1200);
    CHECK_INT(ipv4b_forward_segment(control, enc.len, 1200), 0);
    CHECK_INT(ipv4b_forward_segment(control, enc.len, 0), 0);
    CHECK_INT(ipv4b_forward_segment(NULL, 0, 5000), 0);
    CHECK_INT(ipv4b_forward_reserve(s, 3), 0);
    for (size_t i = 0; i < 3; i++) {
        ipv4b_forward_split(s, i, &h, (uint16_t)(1000 + i));
        it = (ipv4b_cmsg_iter){.buf = h.msg_control, .len = h.msg_controllen};
        CHECK_INT(ipv4b_cmsg_next(&it, &item), 1);
        CHECK(item.level == IPPROTO_UDP && item.type == IPV4B_UDP_SEGMENT);
        if (CHECK_INT(item.len, sizeof size)) {
            memcpy(&size, item.data, sizeof size);
            CHECK_INT(size, 1000 + i);
        }
        CHECK_INT(ipv4b_cmsg_next(&it, &item), 0);
    }
    ipv4b_forward_scratch_free(s);
}

int
main(void)
{
    test_trim();
    test_segments();
    return check_status();
}
