/* test_outbox.c - datagrams that wait to be sent: in order, adjoining, with holes, put behind others. */
#include "outbox.h"

#include "check.h"

enum { MANY = 100 };

static ipv4b_slot slots[MANY];
static struct iovec iov[MANY];
static size_t places[MANY];

static int
append(ipv4b_outbox *box, const char *text, uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    size_t len = strlen(text);
    struct iovec parts[2] = {{(void *)(uintptr_t)text, len / 2},
                             {(void *)(uintptr_t)(text + len / 2), len - len / 2}};

    return ipv4b_outbox_append(box, port == 0 ? NULL : &name, NULL, 0, parts, 2);
}

static void
check_slot(size_t at, const char *text, uint16_t port)
{
    const struct msghdr *h = &slots[at].msg_hdr;

    CHECK_INT(h->msg_iovlen, 1);
    if (CHECK_INT(h->msg_iov->iov_len, strlen(text))) {
        CHECK_BYTES(h->msg_iov->iov_base, text, strlen(text));
    }
    CHECK_INT(h->msg_namelen, port == 0 ? 0 : sizeof(struct sockaddr_in));
    if (port != 0) {
        CHECK_INT(ntohs(((const struct sockaddr_in *)h->msg_name)->sin_port), port);
    }
}

static void
test_they_adjoin(void)
{
    ipv4b_outbox box = {0};

    CHECK_INT(append(&box, "one", 1), 0);
    CHECK_INT(append(&box, "", 2), 0);
    CHECK_INT(append(&box, "three", 0), 0);
    CHECK_INT(box.count, 3);
    CHECK_INT(ipv4b_outbox_slots(&box, slots, iov, places, MANY), 3);
    check_slot(0, "one", 1);
    check_slot(1, "", 2);
    check_slot(2, "three", 0);
    CHECK((char *)iov[0].iov_base + 3 == (char *)iov[2].iov_base);
    CHECK_INT(ipv4b_outbox_slots(&box, slots, iov, places, 2), 2);
    ipv4b_outbox_free(&box);
}

static void
test_control_data_is_aligned(void)
{
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int))] = {1, 2, 3};
    struct iovec part = {control, 1};
    ipv4b_outbox box = {0};

    CHECK_INT(append(&box, "odd", 0), 0);
    CHECK_INT(ipv4b_outbox_append(&box, NULL, control, sizeof control, &part, 1), 0);
    CHECK_INT(ipv4b_outbox_slots(&box, slots, iov, places, MANY), 2);
    CHECK_INT(slots[0].msg_hdr.msg_controllen, 0);
    CHECK_INT(slots[1].msg_hdr.msg_controllen, sizeof control);
    CHECK_INT((uintptr_t)slots[1].msg_hdr.msg_control % _Alignof(struct cmsghdr), 0);
    CHECK_BYTES(slots[1].msg_hdr.msg_control, control, sizeof control);
    CHECK_BYTES(iov[1].iov_base, control, 1);
    ipv4b_outbox_free(&box);
}

/* Those that are gone leave holes, and the others keep their order. */
static void
test_holes(void)
{
    ipv4b_outbox box = {0};

    for (uint16_t i = 1; i <= 5; i++) {
        char text[2] = {(char)('0' + i), '\0'};

        CHECK_INT(append(&box, text, i), 0);
    }
    CHECK_INT(ipv4b_outbox_slots(&box, slots, iov, places, MANY), 5);
    CHECK_INT(ipv4b_outbox_remove(&box, places[1]), 1);
    CHECK_INT(ipv4b_outbox_remove(&box, places[3]), 1);
    CHECK_INT(box.count, 3);
    CHECK_INT(append(&box, "six", 6), 0);
    CHECK_INT(ipv4b_outbox_slots(&box, slots, iov, places, MANY), 4);
    check_slot(0, "1", 1);
    check_slot(1, "3", 3);
    check_slot(2, "5", 5);
    check_slot(3, "six", 6);
    for (size_t i = 0; i < 4; i++) {
        CHECK_INT(ipv4b_outbox_remove(&box, places[i]), i == 3 ? 3 : 1);
    }
    CHECK_INT(box.count, 0);
    CHECK_INT(ipv4b_outbox_slots(&box, slots, iov, places, MANY), 0);
    CHECK_INT(box.used, 0); /* its memory is used anew */
    ipv4b_outbox_free(&box);
}

static void
test_one_behind_the_other(void)
{
    ipv4b_outbox left = {0}, later = {0};

    CHECK_INT(ipv4b_outbox_join(&left, &later), 0);
    CHECK_INT(append(&later, "a", 1), 0);
    CHECK_INT(ipv4b_outbox_join(&left, &later), 0);
    CHECK_INT(later.count, 0);
    CHECK_INT(append(&later, "b", 0), 0);
    CHECK_INT(append(&later, "c", 3), 0);
    CHECK_INT(ipv4b_outbox_join(&left, &later), 0);
    CHECK_INT(later.count, 0);
    CHECK_INT(ipv4b_outbox_slots(&left, slots, iov, places, MANY), 3);
    check_slot(0, "a", 1);
    check_slot(1, "b", 0);
    check_slot(2, "c", 3);
    ipv4b_outbox_free(&left);
    ipv4b_outbox_free(&later);
}

/* It grows, and what is large stands whole. */
static void
test_growth(void)
{
    static char large[5000];
    ipv4b_outbox box = {0};

    memset(large, 'x', sizeof large - 1);
    for (int i = 0; i < MANY; i++) {
        CHECK_INT(append(&box, large, 1), 0);
    }
    CHECK_INT(ipv4b_outbox_slots(&box, slots, iov, places, MANY), MANY);
    check_slot(0, large, 1);
    check_slot(MANY - 1, large, 1);
    ipv4b_outbox_clear(&box);
    CHECK_INT(box.count, 0);
    ipv4b_outbox_free(&box);
}

int
main(void)
{
    test_they_adjoin();
    test_control_data_is_aligned();
    test_holes();
    test_one_behind_the_other();
    test_growth();
    return check_status();
}
