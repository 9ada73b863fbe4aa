/* fuzz_ancillary.c - control messages: parsed against a plain reading of the same items, then
 * written and parsed again.
 *
 * Input: mode; then the buffer itself, or (mode bit 0) a row of items: place in `kinds`, length,
 * bytes. With mode bit 1 every field has a value before; the other bits are the bytes that a marshal
 * lacks.
 */
#include "ancillary.h"
#include "cmsg.h"

#include "fuzz.h"

enum { LONGEST = 4096 };

static const struct {
    int level, type;
} kinds[] = {
    {IPPROTO_IP, IP_TTL},          {IPPROTO_IP, IP_PKTINFO},         {IPPROTO_IP, IP_TOS},
    {SOL_SOCKET, SCM_TIMESTAMPNS}, {SOL_SOCKET, SO_RXQ_OVFL},        {IPPROTO_UDP, IPV4B_UDP_GRO},
    {IPPROTO_IP, IP_RECVOPTS},     {IPPROTO_UDP, IPV4B_UDP_SEGMENT},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static const ipv4b_ancillary full = {
    .present = IPV4B_CM_ALL,
    .ttl = 1,
    .ifindex = 2,
    .src = {3},
    .dst = {4},
    .local = {5},
    .tos = 6,
    .timestamp_ns = 7,
    .drops = 8,
    .segment_size = 9,
};

/* A number in the machine's order, of as many bytes as the item has. */
static bool
read_number(const ipv4b_cmsg_item *item, size_t len, int64_t *out)
{
    uint8_t u8;
    uint16_t u16;
    int32_t i32;

    if (item->len != len) {
        return false;
    }
    switch (len) {
    case sizeof u8:
        memcpy(&u8, item->data, sizeof u8);
        *out = u8;
        return true;
    case sizeof u16:
        memcpy(&u16, item->data, sizeof u16);
        *out = u16;
        return true;
    default:
        memcpy(&i32, item->data, sizeof i32);
        *out = i32;
        return true;
    }
}

/* A time of two numbers; narrow ones only where the system's own are. The last second that 63 bits
 * of nanoseconds could tell in part is out of range. */
static bool
read_time(const ipv4b_cmsg_item *item, int64_t *out)
{
    int64_t part[2];

    if (item->len == 8 && sizeof(long) == 4) {
        ipv4b_cmsg_item half = {.data = item->data, .len = 4};

        (void)read_number(&half, 4, &part[0]);
        half.data += 4;
        (void)read_number(&half, 4, &part[1]);
    }
    else if (item->len == sizeof part) {
        memcpy(part, item->data, sizeof part);
    }
    else {
        return false;
    }
    *out = part[0] < 0 || part[0] >= 9223372036 ? -1 : part[0] * 1000000000 + part[1] % 1000000000;
    return *out >= 0 && part[1] >= 0 && part[1] < 1000000000;
}

static void
set_present(ipv4b_ancillary *a, unsigned int bit, bool there)
{
    a->present &= ~bit;
    a->present |= there ? bit : 0;
}

/* Takes one item over; false if it is none that a kernel makes. */
static bool
take_item(ipv4b_ancillary *a, const ipv4b_cmsg_item *item)
{
    const bool ip = item->level == IPPROTO_IP, sock = item->level == SOL_SOCKET;
    int64_t value = 0;

    if (ip && (item->type == IP_TTL || item->type == IP_TOS)) {
        if ((!read_number(item, 4, &value) && !read_number(item, 1, &value)) || value < 0 ||
            value > 255) {
            return false;
        }
        *(item->type == IP_TTL ? &a->ttl : &a->tos) = (int)value;
        set_present(a, item->type == IP_TTL ? IPV4B_CM_TTL : IPV4B_CM_TOS,
                    item->type == IP_TOS || value != 0);
    }
    else if (ip && item->type == IP_PKTINFO) {
        struct in_pktinfo info;

        if (item->len < sizeof info) {
            return false;
        }
        memcpy(&info, item->data, sizeof info);
        a->ifindex = info.ipi_ifindex;
        a->local = info.ipi_spec_dst;
        a->dst = info.ipi_addr;
        set_present(a, IPV4B_CM_DST, true);
        set_present(a, IPV4B_CM_INTERFACE, a->ifindex != 0);
        return a->ifindex >= 0;
    }
    else if (sock && item->type == SCM_TIMESTAMPNS) {
        set_present(a, IPV4B_CM_TIMESTAMP, true);
        return read_time(item, &a->timestamp_ns);
    }
    else if (sock && item->type == SO_RXQ_OVFL) {
        set_present(a, IPV4B_CM_DROPS, true);
        a->drops = read_number(item, 4, &value) ? (uint32_t)value : 0;
        return item->len == 4;
    }
    else if (item->level == IPPROTO_UDP &&
             (item->type == IPV4B_UDP_GRO || item->type == IPV4B_UDP_SEGMENT)) {
        if ((!read_number(item, 4, &value) && !read_number(item, 2, &value)) || value < 0 ||
            value > UINT16_MAX) {
            return false;
        }
        a->segment_size = (int)value;
        set_present(a, IPV4B_CM_SEGMENT, value != 0);
    }
    return true;
}

/* The same fields are present and, where they hold a value, the same. */
static void
same(const ipv4b_ancillary *a, const ipv4b_ancillary *b)
{
    const unsigned int present = a->present;

    HOLDS(present == b->present);
    HOLDS(!(present & IPV4B_CM_TTL) || a->ttl == b->ttl);
    HOLDS(!(present & IPV4B_CM_SRC) || a->src.s_addr == b->src.s_addr);
    HOLDS(!(present & IPV4B_CM_DST) ||
          (a->dst.s_addr == b->dst.s_addr && a->local.s_addr == b->local.s_addr));
    HOLDS(!(present & IPV4B_CM_INTERFACE) || a->ifindex == b->ifindex);
    HOLDS(!(present & IPV4B_CM_TOS) || a->tos == b->tos);
    HOLDS(!(present & IPV4B_CM_TIMESTAMP) || a->timestamp_ns == b->timestamp_ns);
    HOLDS(!(present & IPV4B_CM_DROPS) || a->drops == b->drops);
    HOLDS(!(present & IPV4B_CM_SEGMENT) || a->segment_size == b->segment_size);
}

static void
test_parse(ipv4b_ancillary *out, const unsigned char *buf, size_t len)
{
    ipv4b_cmsg_iter it = {.buf = buf, .len = len};
    ipv4b_ancillary before = *out, expected = *out;
    ipv4b_cmsg_item item;
    size_t start = 0, where = SIZE_MAX;
    int error, r = ipv4b_ancillary_parse(out, buf, len, &where);

    while ((error = ipv4b_cmsg_next(&it, &item)) > 0) {
        if (!take_item(&expected, &item)) {
            error = -EPROTO;
            break;
        }
        start = it.pos;
    }
    HOLDS(r == error);
    HOLDS(r == 0 || where == start);
    if (r < 0) {
        HOLDS(memcmp(out, &before, sizeof before) == 0);
        HOLDS(ipv4b_ancillary_parse(out, buf, len, NULL) == r);
    }
    same(out, r < 0 ? &before : &expected);
}

/* What can be sent comes back; `lack` bytes too few for it are told. */
static void
test_marshal(const ipv4b_ancillary *in, size_t lack)
{
    unsigned char whole[IPV4B_ANCILLARY_MAX];
    const unsigned int sent =
        IPV4B_CM_TTL | IPV4B_CM_SRC | IPV4B_CM_INTERFACE | IPV4B_CM_TOS | IPV4B_CM_SEGMENT;
    ipv4b_ancillary expected = *in, got = {.present = 0};
    int len;

    memset(whole, 0xee, sizeof whole);
    len = ipv4b_ancillary_marshal(in, whole, sizeof whole);
    HOLDS(len >= 0 && (size_t)len <= sizeof whole && (len == 0) == ((in->present & sent) == 0));
    HOLDS(fuzz_all(whole + len, sizeof whole - (size_t)len, 0xee));
    for (size_t cap = (size_t)len, i = 0; i < 2; cap -= lack < cap ? lack : cap, i++) {
        unsigned char *exact = fuzz_exact(NULL, cap);
        int r = ipv4b_ancillary_marshal(in, exact, cap);

        HOLDS(r == (cap == (size_t)len ? len : -ENOBUFS));
        HOLDS(r < 0 || memcmp(exact, whole, cap) == 0);
    }
    /* A source goes out as our own address, and so it is parsed. */
    expected.present &= sent;
    expected.dst.s_addr = expected.local.s_addr = 0;
    if (expected.present & IPV4B_CM_SRC) {
        expected.local = in->src;
    }
    if (expected.present & (IPV4B_CM_SRC | IPV4B_CM_INTERFACE)) {
        expected.present |= IPV4B_CM_DST;
    }
    expected.present &= ~(unsigned int)IPV4B_CM_SRC;
    HOLDS(ipv4b_ancillary_parse(&got, whole, (size_t)len, NULL) == 0);
    same(&got, &expected);
}

/* Puts the items in a row that the input names; returns the length. */
static size_t
encode(fuzz_input *in, unsigned char *buf)
{
    ipv4b_cmsg_encoder enc = {.buf = buf, .cap = LONGEST};

    while (in->left != 0) {
        unsigned int kind = fuzz_u8(in) % KINDS;
        unsigned char data[UINT8_MAX] = {0};
        size_t len = fuzz_u8(in);

        fuzz_bytes(in, data, len);
        if (ipv4b_cmsg_put(&enc, kinds[kind].level, kinds[kind].type, data, len) < 0) {
            break;
        }
    }
    return enc.len;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ipv4b_ancillary empty = {.present = 0};
    fuzz_input in = {data, size};
    unsigned int mode = fuzz_u8(&in);
    ipv4b_ancillary a = mode & 2 ? full : empty;
    static unsigned char items[LONGEST];
    unsigned char *buf;
    size_t len = mode & 1 ? encode(&in, items) : fuzz_bytes(&in, items, sizeof items);

    buf = fuzz_exact(items, len);
    test_parse(&a, buf, len);
    test_marshal(&a, mode >> 2);
    /* As an answer from the address that was reached. */
    if (a.present & IPV4B_CM_DST) {
        a.src = a.local;
        a.present |= IPV4B_CM_SRC;
        test_marshal(&a, mode >> 2);
    }
    fuzz_forget();
    return 0;
}
