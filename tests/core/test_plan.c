/* test_plan.c - which messages make a run, and what the kernel is to get of it. */
#include "plan.h"

#include "cmsg.h"
#include "loopback.h"
#include "path.h"

enum { ROUNDS = 100000 };

static ipv4b_gso_plan *
new_plan(void)
{
    ipv4b_gso_plan *plan = ipv4b_gso_plan_new();

    require(plan != NULL, "calloc");
    return plan;
}

static const struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_port = 1};

/* Plans n prepared messages in the list's order, and compares how many stand together. */
static void
check_members(size_t n, const uint32_t *members, size_t count)
{
    ipv4b_gso_plan *plan = new_plan();

    CHECK_INT(ipv4b_gso_plan_make(plan, slots, n, false, NULL, 0), 0);
    CHECK(!plan->shuffled);
    CHECK_INT(plan->count, count);
    for (size_t k = 0; k < plan->count && k < count; k++) {
        CHECK_INT(plan->runs[k].length, members[k]);
    }
    for (size_t i = 0; i < n; i++) {
        CHECK_INT(plan->order[i], i);
    }
    ipv4b_gso_plan_free(plan);
}

/* Plans n prepared messages by path, and compares the order in which they go and where runs end. */
static void
check_order(size_t n, const uint32_t *order, const uint32_t *members, size_t count)
{
    ipv4b_gso_plan *plan = new_plan();
    bool shuffled = false;

    CHECK_INT(ipv4b_gso_plan_make(plan, slots, n, true, NULL, 0), 0);
    CHECK_INT(plan->count, count);
    for (size_t k = 0; k < plan->count && k < count; k++) {
        CHECK_INT(plan->runs[k].length, members[k]);
    }
    for (size_t i = 0; i < n; i++) {
        CHECK_INT(plan->order[i], order[i]);
        shuffled = shuffled || order[i] != i;
    }
    CHECK_INT(plan->shuffled, shuffled);
    ipv4b_gso_plan_free(plan);
}

#define CHECK_MEMBERS(n, ...)                                                                      \
    check_members((n), (const uint32_t[]){__VA_ARGS__}, COUNT_OF(((const uint32_t[]){__VA_ARGS__})))

static void
test_sizes(void)
{
    static const struct {
        size_t sizes[4];
        uint32_t members[4];
        size_t count;
    } cases[] = {
        {{9, 9, 9, 9}, {4}, 1},
        {{1, 1, 1, 1}, {4}, 1},
        {{9, 9, 8, 9}, {3, 1}, 2},
        {{9, 9, 8, 8}, {3, 1}, 2},
        {{9, 8, 8, 8}, {2, 2}, 2},
        {{8, 9, 9, 1}, {1, 3}, 2},
        {{0, 0, 9, 9}, {1, 1, 2}, 3},
        {{9, 0, 9, 9}, {1, 1, 2}, 3},
        {{32753, 32753, 1, 1}, {3, 1}, 2},
        {{32753, 32753, 2, 2}, {2, 2}, 2},
        {{32754, 32753, 1, 1}, {1, 2, 1}, 3},
        {{16377, 16377, 16377, 16377}, {3, 1}, 2},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        prepare_send(4, nowhere);
        for (size_t k = 0; k < 4; k++) {
            of[k].iov.iov_len = cases[i].sizes[k];
        }
        check_members(4, cases[i].members, cases[i].count);
    }
    prepare_send(130, nowhere);
    check_members(0, NULL, 0);
    CHECK_MEMBERS(1, 1);
    CHECK_MEMBERS(64, 64);
    CHECK_MEMBERS(65, 64, 1);
    CHECK_MEMBERS(130, 64, 64, 2);
}

#define LIST(...) ((const uint32_t[]){__VA_ARGS__})

/* Messages that stand apart make a run, and those of one path keep their order. */
static void
test_stripes(void)
{
    static unsigned char control[2][CMSG_SPACE(4)];

    prepare_send(6, nowhere);
    of[1].name.sin_port = of[3].name.sin_port = of[5].name.sin_port = 2;
    check_order(6, LIST(0, 2, 4, 1, 3, 5), LIST(3, 3), 2);
    CHECK_MEMBERS(6, 1, 1, 1, 1, 1, 1);
    /* A shorter one ends its path's run, and so does one that is longer or empty. */
    of[2].iov.iov_len = 3;
    check_order(6, LIST(0, 2, 1, 3, 5, 4), LIST(2, 3, 1), 3);
    of[2].iov.iov_len = 5;
    check_order(6, LIST(0, 1, 3, 5, 2, 4), LIST(1, 3, 2), 3);
    of[2].iov.iov_len = 0;
    check_order(6, LIST(0, 1, 3, 5, 2, 4), LIST(1, 3, 1, 1), 4);
    /* What is too large for any path cannot arrive, and ends none. */
    of[2].iov.iov_len = IPV4B_GSO_BYTES + 1;
    check_order(6, LIST(0, 4, 1, 3, 5, 2), LIST(2, 3, 1), 3);
    of[2].iov.iov_len = IPV4B_GSO_BYTES;
    check_order(6, LIST(0, 1, 3, 5, 2, 4), LIST(1, 3, 1, 1), 4);
    /* Control data makes a path too, and so does having none. */
    prepare_send(6, nowhere);
    control[1][7] = 1;
    for (size_t i = 0; i < 6; i++) {
        slots[i].msg_hdr.msg_control = control[i % 3 % 2];
        slots[i].msg_hdr.msg_controllen = i % 3 == 2 ? 0 : sizeof control[0];
    }
    check_order(6, LIST(0, 3, 1, 4, 2, 5), LIST(2, 2, 2), 3);
    /* Of destinations that nobody can compare each is a path. */
    for (size_t i = 0; i < 6; i++) {
        slots[i].msg_hdr.msg_namelen = 8;
    }
    check_order(6, LIST(0, 1, 2, 3, 4, 5), LIST(1, 1, 1, 1, 1, 1), 6);
}

/* As many paths as there are messages, twice over; and the memory of a plan that was larger. */
static void
test_many_paths(void)
{
    enum { PATHS = 1000 };
    ipv4b_gso_plan *plan = new_plan();

    for (int round = 0; round < 3; round++) {
        size_t paths = round == 1 ? 7 : PATHS;

        prepare_send(2 * paths, nowhere);
        for (size_t i = 0; i < 2 * paths; i++) {
            of[i].name.sin_addr.s_addr = htonl((uint32_t)(i % paths << 8));
        }
        CHECK_INT(ipv4b_gso_plan_make(plan, slots, 2 * paths, true, NULL, 0), 0);
        CHECK_INT(plan->count, paths);
        CHECK_INT(plan->path_count, paths);
        for (size_t i = 0; i < 2 * paths; i++) {
            CHECK_INT(plan->order[i], i / 2 + (i % 2) * paths);
        }
    }
    ipv4b_gso_plan_free(plan);
}

/* Buffers that follow each other in memory are one, over the messages of a run. */
static void
test_adjoining(void)
{
    static unsigned char slab[64];
    ipv4b_gso_plan *plan = new_plan();

    prepare_send(8, nowhere);
    for (size_t i = 0; i < 8; i++) {
        of[i].iov = (struct iovec){slab + 4 * i + (i >= 5), 4};
    }
    CHECK_INT(ipv4b_gso_plan_make(plan, slots, 8, true, NULL, 0), 0);
    CHECK_INT(plan->count, 1);
    CHECK_INT(plan->slots[0].msg_hdr.msg_iovlen, 2);
    CHECK(plan->slots[0].msg_hdr.msg_iov[0].iov_base == slab);
    CHECK_INT(plan->slots[0].msg_hdr.msg_iov[0].iov_len, 20);
    CHECK(plan->slots[0].msg_hdr.msg_iov[1].iov_base == slab + 21);
    CHECK_INT(plan->slots[0].msg_hdr.msg_iov[1].iov_len, 12);
    /* Two runs side by side stay two. */
    of[4].name.sin_port = of[5].name.sin_port = of[6].name.sin_port = of[7].name.sin_port = 2;
    of[5].iov.iov_base = slab + 20;
    CHECK_INT(ipv4b_gso_plan_make(plan, slots, 8, true, NULL, 0), 0);
    CHECK_INT(plan->count, 2);
    CHECK_INT(plan->slots[0].msg_hdr.msg_iov[0].iov_len, 16);
    CHECK_INT(plan->slots[1].msg_hdr.msg_iovlen, 2);
    CHECK_INT(plan->slots[1].msg_hdr.msg_iov[0].iov_len, 8);
    ipv4b_gso_plan_free(plan);
}

/* Paths that have refused make no runs until their time is over. */
static void
test_refused_paths(void)
{
    ipv4b_refusals *table = ipv4b_refusals_new();
    ipv4b_gso_plan *plan = new_plan();
    const int64_t over = IPV4B_REFUSAL_SECONDS * INT64_C(1000000000);

    require(table != NULL, "calloc");
    prepare_send(6, nowhere);
    of[1].name.sin_port = of[3].name.sin_port = of[5].name.sin_port = 2;
    ipv4b_refusals_add(table, &slots[3].msg_hdr, ipv4b_path_hash(&slots[3].msg_hdr), EIO, 5);
    CHECK_INT(ipv4b_gso_plan_make(plan, slots, 6, true, table, over + 4), 0);
    CHECK_INT(plan->count, 4);
    CHECK_INT(plan->runs[0].length, 3);
    CHECK_INT(plan->paths[plan->runs[1].path].refused, EIO);
    CHECK(plan->paths[plan->runs[1].path].told);
    CHECK_INT(ipv4b_gso_plan_make(plan, slots, 6, true, table, over + 5), 0);
    CHECK_INT(plan->count, 2);
    ipv4b_gso_plan_free(plan);
    free(table);
}

static void
set_control(size_t index, void *control, size_t len)
{
    slots[index].msg_hdr.msg_control = control;
    slots[index].msg_hdr.msg_controllen = len;
}

/* What must be equal in a run, and what cannot be in one. */
static void
test_paths(void)
{
    static unsigned char control[IPV4B_GSO_CONTROL_MAX + 2];
    static struct iovec many[2][600];
    ipv4b_cmsg_encoder enc = {.buf = control, .cap = sizeof control};

    prepare_send(4, nowhere);
    of[2].name.sin_port = 2;
    CHECK_MEMBERS(4, 2, 1, 1);
    slots[2].msg_hdr.msg_namelen = slots[3].msg_hdr.msg_namelen = 0;
    CHECK_MEMBERS(4, 2, 2);
    slots[1].msg_hdr.msg_namelen = 8;
    CHECK_MEMBERS(4, 1, 1, 2);
    prepare_send(4, nowhere);
    memset(control, 1, sizeof control);
    for (size_t i = 0; i < 4; i++) {
        set_control(i, control + i / 2, IPV4B_GSO_CONTROL_MAX);
    }
    CHECK_MEMBERS(4, 4);
    control[IPV4B_GSO_CONTROL_MAX] = 2;
    CHECK_MEMBERS(4, 2, 2);
    set_control(0, control, IPV4B_GSO_CONTROL_MAX + 1);
    set_control(1, control, IPV4B_GSO_CONTROL_MAX + 1);
    CHECK_MEMBERS(4, 1, 1, 2);
    /* Messages that are to be cut up already. */
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IPV4B_UDP_SEGMENT, "x", 1), 0);
    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_UDP, IPV4B_UDP_SEGMENT, "\4", 2), 0);
    for (size_t i = 0; i < 4; i++) {
        set_control(i, control, i < 2 ? enc.len : CMSG_SPACE(1));
    }
    CHECK_MEMBERS(4, 1, 1, 2);
    /* As many parts as one call takes, and one more. */
    prepare_send(2, nowhere);
    for (size_t i = 0; i < 2; i++) {
        many[i][0] = of[i].iov;
        slots[i].msg_hdr.msg_iov = many[i];
        slots[i].msg_hdr.msg_iovlen = i == 0 ? 424 : 600;
    }
    CHECK_MEMBERS(2, 2);
    slots[0].msg_hdr.msg_iovlen++;
    CHECK_MEMBERS(2, 1, 1);
}

/* A run has the buffers of its messages, and their control data with the segment size. */
static void
test_plan_contents(void)
{
    unsigned char ttl[CMSG_SPACE(4)];
    ipv4b_cmsg_encoder enc = {.buf = ttl, .cap = sizeof ttl};
    ipv4b_gso_plan *plan = new_plan();

    CHECK_INT(ipv4b_cmsg_put(&enc, IPPROTO_IP, IP_TTL, "\7\0\0", 4), 0);
    /* With the padding of the last item and without; growing, shrinking. */
    for (size_t n = 60, len = CMSG_LEN(4); n > 0; n -= 20, len = CMSG_SPACE(4)) {
        unsigned char *control = edge_new(ttl, len);
        ipv4b_cmsg_iter it;
        ipv4b_cmsg_item item;
        uint16_t size = 0;

        prepare_send(n + 1, nowhere);
        of[n].name.sin_port = 2;
        for (size_t i = 0; i <= n; i++) {
            set_control(i, control, len);
        }
        CHECK_INT(ipv4b_gso_plan_make(plan, slots, n + 1, true, NULL, 0), 0);
        CHECK_INT(plan->count, 2);
        CHECK_INT(plan->runs[0].length, n);
        CHECK_INT(plan->slots[0].msg_hdr.msg_iovlen, n);
        for (size_t i = 0; i < n; i++) {
            CHECK(plan->slots[0].msg_hdr.msg_iov[i].iov_base == of[i].data);
            CHECK_INT(plan->slots[0].msg_hdr.msg_iov[i].iov_len, 4);
        }
        CHECK(plan->slots[0].msg_hdr.msg_name == &of[0].name);
        it = (ipv4b_cmsg_iter){.buf = plan->slots[0].msg_hdr.msg_control,
                               .len = plan->slots[0].msg_hdr.msg_controllen};
        CHECK_INT(it.len, CMSG_SPACE(4) + CMSG_SPACE(2));
        CHECK_INT(ipv4b_cmsg_next(&it, &item), 1);
        CHECK_INT(item.type, IP_TTL);
        CHECK_BYTES(item.data, "\7\0\0\0\0\0\0", CMSG_SPACE(4) - CMSG_LEN(0));
        CHECK_INT(ipv4b_cmsg_next(&it, &item), 1);
        CHECK(item.level == IPPROTO_UDP && item.type == IPV4B_UDP_SEGMENT && item.len == 2);
        memcpy(&size, item.data, sizeof size);
        CHECK_INT(size, 4);
        CHECK_INT(ipv4b_cmsg_next(&it, &item), 0);
        CHECK_BYTES(&plan->slots[1], &slots[n], sizeof slots[n]);
        edge_free(control);
    }
    /* More messages than there is memory for, and then as many as there is. */
    prepare_send(SLOTS, nowhere);
    if (!MEMORY_IS_SHADOWED && !emulator_lacks("limits of memory")) {
        memory_limit(true);
        CHECK_INT(ipv4b_gso_plan_make(plan, slots, SLOTS, true, NULL, 0), -ENOMEM);
        memory_limit(false);
    }
    CHECK_INT(ipv4b_gso_plan_make(plan, slots, SLOTS, true, NULL, 0), 0);
    CHECK_INT(plan->count, (SLOTS + 63) / 64);
    ipv4b_gso_plan_free(plan);
}

static size_t
bytes_of(const struct msghdr *h)
{
    size_t bytes = 0;

    for (size_t i = 0; i < h->msg_iovlen; i++) {
        bytes += h->msg_iov[i].iov_len;
    }
    return bytes;
}

/* Random messages with random bytes for control data: each is in one run, and no part is lost. */
static void
test_random(void)
{
    static struct iovec parts[SLOTS];
    uint64_t state = 0xda942042e4dd58b5;
    ipv4b_gso_plan *plan = new_plan();

    for (int round = 0; round < ROUNDS; round++) {
        size_t n = random_below(&state, 12), len = random_below(&state, 60), runs = 0, used = 0;
        unsigned char *control = edge_new(NULL, len);

        random_fill(&state, control, len);
        if (len >= sizeof(size_t)) {
            memcpy(control, &(size_t){random_below(&state, 64)}, sizeof(size_t));
        }
        prepare_send(n, nowhere);
        for (size_t i = 0, part = 0; i < n; i++) {
            size_t count = random_below(&state, 3);

            slots[i].msg_hdr.msg_iov = parts + part;
            slots[i].msg_hdr.msg_iovlen = count;
            for (; count > 0; count--, part++) {
                parts[part].iov_len =
                    random_below(&state, 16) == 0 ? 40000 : random_below(&state, 2);
            }
            set_control(i, control, len - (random_below(&state, 8) == 0 && len > 0));
        }
        CHECK_INT(ipv4b_gso_plan_make(plan, slots, n, true, NULL, 0), 0);
        for (; runs < plan->count; runs++) {
            const struct msghdr *run = &plan->slots[runs].msg_hdr;
            size_t count = 0;

            CHECK(plan->runs[runs].length > 0);
            for (size_t i = 0; i < plan->runs[runs].length && used < n; i++) {
                count += bytes_of(&slots[plan->order[used++]].msg_hdr);
            }
            CHECK_INT(bytes_of(run), count);
            if (plan->runs[runs].length > 1) {
                CHECK_INT(ipv4b_cmsg_check(run->msg_control, run->msg_controllen, &count), 0);
                CHECK(run->msg_controllen >= CMSG_SPACE(2));
            }
        }
        CHECK_INT(used, n);
        edge_free(control);
    }
    ipv4b_gso_plan_free(plan);
}

int
main(void)
{
    test_sizes();
    test_paths();
    test_stripes();
    test_many_paths();
    test_adjoining();
    test_refused_paths();
    test_plan_contents();
    test_random();
    return check_status();
}
