/* test_tx_request.c - what a message carries that asks for its departure time, alone and in a run. */
#include "tx_request.h"

#include "cmsg.h"
#include "loopback.h"
#include "send.h"

/* The items of control data, as level, type and the first 4 bytes. */
static void
check_items(const struct msghdr *h, const int (*expected)[3], size_t count)
{
    ipv4b_cmsg_iter it = {.buf = h->msg_control, .len = (size_t)h->msg_controllen};
    ipv4b_cmsg_item item;
    size_t found = 0;

    for (; ipv4b_cmsg_next(&it, &item) > 0; found++) {
        int value = 0;

        memcpy(&value, item.data, item.len < sizeof value ? item.len : sizeof value);
        if (found < count) {
            CHECK_INT(item.level, expected[found][0]);
            CHECK_INT(item.type, expected[found][1]);
            CHECK_INT(value, expected[found][2]);
        }
    }
    CHECK_INT(found, count);
    CHECK_INT(it.pos, it.len);
}

#define CHECK_ITEMS(h, ...)                                                                        \
    check_items((h), (const int[][3]){__VA_ARGS__}, COUNT_OF(((const int[][3]){__VA_ARGS__})))

enum { KINDS = IPV4B_TX_SCHED | IPV4B_TX_SOFTWARE };

#define REQUEST(id)                                                                                \
    {SOL_SOCKET, IPV4B_SO_TIMESTAMPING, KINDS},                                                    \
    {                                                                                              \
        SOL_SOCKET, IPV4B_SCM_TS_OPT_ID, (id)                                                      \
    }

static void
test_items(void)
{
    const uint64_t first = (UINT64_C(5) << 32) - 1; /* the second id does not fit into 32 bits */
    struct sockaddr_in nowhere = {.sin_family = AF_INET};
    ipv4b_tx_request *r = ipv4b_tx_request_new();
    ipv4b_cmsg_encoder enc = {.buf = of[1].control, .cap = SLOT_CONTROL};

    require(r != NULL, "calloc");
    prepare_send(4, nowhere);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, &(int){9}, sizeof(int)), 0);
    slots[1].msg_hdr.msg_controllen = enc.len;
    /* Without its padding, and with a tail that is too short for an item. */
    memcpy(of[2].control, of[1].control, enc.len);
    slots[2].msg_hdr.msg_controllen = CMSG_LEN(sizeof(int));
    memcpy(of[3].control, of[1].control, enc.len);
    slots[3].msg_hdr.msg_controllen = enc.len + 5;
    CHECK_INT(ipv4b_tx_request_make(r, slots, 4, KINDS, first), 0);
    CHECK_ITEMS(&r->slots[0].msg_hdr, REQUEST(-1));
    CHECK_ITEMS(&r->slots[1].msg_hdr, {IPPROTO_IP, IP_TTL, 9}, REQUEST(0));
    CHECK_ITEMS(&r->slots[2].msg_hdr, {IPPROTO_IP, IP_TTL, 9}, REQUEST(1));
    CHECK_ITEMS(&r->slots[3].msg_hdr, {IPPROTO_IP, IP_TTL, 9}, REQUEST(2));
    for (size_t i = 0; i < 4; i++) {
        CHECK(r->ids[i] == first + i);
        CHECK(r->slots[i].msg_hdr.msg_iov == &of[i].iov);
        CHECK(r->slots[i].msg_hdr.msg_name == &of[i].name);
    }
    /* The messages keep what they have. */
    CHECK_INT(slots[1].msg_hdr.msg_controllen, enc.len);
    CHECK(slots[1].msg_hdr.msg_control == of[1].control);
    CHECK_INT(ipv4b_tx_request_make(r, slots, 0, KINDS, 1), 0);
    ipv4b_tx_request_free(r);
    ipv4b_tx_request_free(NULL);
}

/* A run asks once, with the id of its first message, and its messages then share it. */
static void
test_runs(void)
{
    struct sockaddr_in name, to;
    int tx = loopback_socket(&name), rx = loopback_socket(&to);
    const uint32_t wanted = IPV4B_TX_REPORT;
    ipv4b_sender sender = {.gso = true, .reorder = true, .request = ipv4b_tx_request_new()};
    const struct msghdr *h;

    require(sender.request != NULL &&
                setsockopt(tx, SOL_SOCKET, SO_TIMESTAMPING, &wanted, sizeof wanted) == 0,
            "SO_TIMESTAMPING");
    prepare_send(5, to);
    of[4].iov.iov_len = 5; /* it does not fit into the run */
    CHECK_INT(ipv4b_tx_request_make(sender.request, slots, 5, KINDS, 7), 0);
    ipv4b_send_plan(&sender, slots, 5, 0, NULL);
    CHECK(sender.planned);
    CHECK_INT(sender.plan->count, 2);
    h = &sender.plan->slots[0].msg_hdr;
    CHECK_ITEMS(h, {IPPROTO_UDP, IPV4B_UDP_SEGMENT, 4}, REQUEST(7));
    CHECK_ITEMS(&sender.plan->slots[1].msg_hdr, REQUEST(11));
    CHECK_INT(ipv4b_send(tx, slots, 5, 0, &sender), 5);
    for (size_t i = 0; i < 5; i++) {
        CHECK_INT(sender.request->ids[i], i < 4 ? 7 : 11);
        CHECK_INT(slots[i].msg_len, i < 4 ? 4 : 5);
        CHECK_INT(slots[i].msg_hdr.msg_controllen, 0);
    }
    /* Message by message each has its own. */
    sender.done = 0;
    sender.planned = false;
    CHECK_INT(ipv4b_tx_request_make(sender.request, slots, 5, KINDS, 20), 0);
    CHECK_INT(ipv4b_send(tx, slots, 5, 0, &sender), 5);
    for (size_t i = 0; i < 5; i++) {
        CHECK_INT(sender.request->ids[i], 20 + i);
        CHECK_INT(slots[i].msg_len, i < 4 ? 4 : 5);
    }
    ipv4b_gso_plan_free(sender.plan);
    ipv4b_tx_request_free(sender.request);
    (void)close(tx);
    (void)close(rx);
}

static void
test_want_of_memory(void)
{
    static unsigned char control[1 << 20], zeros[1 << 19];
    struct sockaddr_in nowhere = {.sin_family = AF_INET};
    ipv4b_tx_request *r = ipv4b_tx_request_new();
    ipv4b_cmsg_encoder enc = {.buf = control, .cap = sizeof control};

    require(r != NULL, "calloc");
    prepare_send(SLOTS, nowhere);
    CHECK_INT(ipv4b_tx_request_make(r, slots, 2, KINDS, 1), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, zeros, sizeof zeros), 0);
    slots[0].msg_hdr.msg_control = control;
    slots[0].msg_hdr.msg_controllen = enc.len;
    memory_limit(true);
    CHECK_INT(ipv4b_tx_request_make(r, slots, SLOTS, KINDS, 1), -ENOMEM);
    memory_limit(false);
    CHECK_INT(ipv4b_tx_request_make(r, slots, SLOTS, KINDS, 1), 0);
    CHECK_ITEMS(&r->slots[SLOTS - 1].msg_hdr, REQUEST(SLOTS));
    ipv4b_tx_request_free(r);
}

int
main(void)
{
    int descriptors = open_descriptors();

    test_items();
    if (!MEMORY_IS_SHADOWED && !emulator_lacks("a lack of memory")) {
        test_want_of_memory();
    }
    if (!emulator_lacks("timestamps") && ipv4b_tx_request_probe() > 0) {
        test_runs();
    }
    CHECK_INT(open_descriptors(), descriptors);
    descriptor_limit(true);
    CHECK_INT(ipv4b_tx_request_probe(), -EMFILE);
    descriptor_limit(false);
    return check_status();
}
