/* test_refusals.c - paths that have refused offload are remembered for a while, and not too many. */
#include "refusals.h"

#include "loopback.h"
#include "path.h"

static const int64_t over = IPV4B_REFUSAL_SECONDS * INT64_C(1000000000);
static ipv4b_refusals *table;

/* A message to such a port; there are 3 slots to make one in. */
static struct msghdr *
to_port(size_t slot, uint16_t port)
{
    of[slot].name = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    return &slots[slot].msg_hdr;
}

static int
find(const struct msghdr *h, int64_t now)
{
    return ipv4b_refusals_find(table, h, ipv4b_path_hash(h), now);
}

static void
add(const struct msghdr *h, int error, int64_t now)
{
    ipv4b_refusals_add(table, h, ipv4b_path_hash(h), error, now);
}

static void
test_paths(void)
{
    struct msghdr *one = to_port(0, 1), *other = to_port(1, 2), *nobody = to_port(2, 3);

    nobody->msg_namelen = 0;
    CHECK_INT(find(one, 0), 0);
    add(one, EMSGSIZE, 100);
    CHECK_INT(find(one, 100), EMSGSIZE);
    CHECK_INT(find(other, 100), 0);
    CHECK_INT(find(nobody, 100), 0);
    add(nobody, EIO, 100);
    CHECK_INT(find(nobody, 100), EIO);
    one->msg_control = "12345678123456781";
    for (size_t len = 1; len <= 17; len++) {
        one->msg_controllen = len;
        CHECK_INT(find(one, 100), 0);
    }
    one->msg_controllen = 0;
    /* Until its time is over; then the newest counts. */
    CHECK_INT(find(one, 99 + over), EMSGSIZE);
    CHECK_INT(find(one, 100 + over), 0);
    add(one, EINVAL, 100 + over);
    CHECK_INT(find(one, 99 + 2 * over), EINVAL);
    CHECK_INT(table->count, 2);
}

/* The oldest go, one for each that comes. */
static void
test_bound(void)
{
    for (uint16_t port = 1000; port < 1000 + 3 * IPV4B_REFUSALS_MAX; port++) {
        add(to_port(0, port), EIO, 0);
        CHECK_INT(find(to_port(1, port), 0), EIO);
        if (port >= 1000 + IPV4B_REFUSALS_MAX) {
            CHECK_INT(find(to_port(1, (uint16_t)(port - IPV4B_REFUSALS_MAX)), 0), 0);
            CHECK_INT(find(to_port(1, (uint16_t)(port - IPV4B_REFUSALS_MAX + 1)), 0), EIO);
        }
    }
    CHECK_INT(table->count, IPV4B_REFUSALS_MAX);
}

int
main(void)
{
    table = ipv4b_refusals_new();
    require(table != NULL, "calloc");
    prepare_send(3, (struct sockaddr_in){.sin_family = AF_INET});
    test_paths();
    test_bound();
    free(table);
    return check_status();
}
