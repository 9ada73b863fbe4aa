/* fuzz_cmsg.c - control buffers: the encoder, the iterator, the check and the delivery, against plain
 * walks over the same bytes.
 *
 * Input: mode, capacity to deliver to, item to skip; then the buffer itself, or (mode bit 0) a row
 * of items to encode: place in `kinds`, length, bytes.
 */
#include "cmsg.h"

#include "fuzz.h"

enum { LONGEST = 4096, MOST = LONGEST / CMSG_LEN(0) + 1 };

typedef struct {
    int level, type;
    size_t start, len; /* of its data */
} found;

/* What a walk finds, and how it ends: at `end` with 0 or an error. */
typedef struct {
    found items[MOST];
    size_t count;
    size_t end;
    int error;
} walk;

static const struct {
    int level, type;
} kinds[] = {
    {IPPROTO_IP, IP_TTL},          {IPPROTO_IP, IP_TOS}, {IPPROTO_UDP, IPV4B_UDP_GRO},
    {SOL_SOCKET, SCM_TIMESTAMPNS}, {-1, INT_MAX},        {0, 0},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static size_t
align_up(size_t len)
{
    return (len + sizeof(size_t) - 1) / sizeof(size_t) * sizeof(size_t);
}

static void
walk_plainly(walk *w, const unsigned char *buf, size_t len)
{
    const size_t header = align_up(sizeof(struct cmsghdr));

    w->count = w->end = 0;
    w->error = 0;
    while (len - w->end >= header) {
        const size_t left = len - w->end;
        struct cmsghdr h;

        memcpy(&h, buf + w->end, sizeof h);
        if (h.cmsg_len < header || h.cmsg_len > left) {
            w->error = h.cmsg_len == 0 ? -EINVAL : h.cmsg_len < header ? -EBADMSG : -ENOBUFS;
            return;
        }
        w->items[w->count++] = (found){
            .level = h.cmsg_level,
            .type = h.cmsg_type,
            .start = w->end + header,
            .len = h.cmsg_len - header,
        };
        if (align_up(h.cmsg_len) >= left) {
            w->end = len;
            return;
        }
        w->end += align_up(h.cmsg_len);
    }
}

static void
test_next(const walk *w, const unsigned char *buf, size_t len)
{
    ipv4b_cmsg_iter it = {.buf = buf, .len = len};
    ipv4b_cmsg_item item;

    for (size_t i = 0; i < w->count; i++) {
        HOLDS(ipv4b_cmsg_next(&it, &item) == 1);
        HOLDS(item.level == w->items[i].level && item.type == w->items[i].type);
        HOLDS(item.data == buf + w->items[i].start && item.len == w->items[i].len);
    }
    /* The end stays the end, and an error the same error. */
    for (int again = 0; again < 2; again++) {
        HOLDS(ipv4b_cmsg_next(&it, &item) == w->error);
        HOLDS(it.pos == w->end);
    }
}

static void
test_check(const walk *w, const unsigned char *buf, size_t len)
{
    size_t where = SIZE_MAX;

    HOLDS(ipv4b_cmsg_check(buf, len, &where) == w->error);
    HOLDS(w->error == 0 || where == w->end);
    HOLDS(strcmp(ipv4b_cmsg_strerror(w->error), "invalid control message") != 0 || w->error == 0);
}

/* All items but the skipped come in order, each whole or, the last, cut where the room ends. */
static void
test_deliver(const walk *w, const unsigned char *buf, size_t len, size_t cap, int level, int type)
{
    unsigned char *to = fuzz_exact(NULL, cap);
    bool truncated = cap % 2 != 0; /* either value has to be overwritten */
    /* A message without a control buffer has NULL. */
    size_t written =
        ipv4b_cmsg_deliver(cap == 0 ? NULL : to, cap, buf, len, level, type, &truncated);
    size_t at = 0;
    bool cut = false;
    static walk got;

    for (size_t i = 0; i < w->count; i++) {
        const found *item = &w->items[i];
        size_t whole = CMSG_LEN(item->len), part;
        struct cmsghdr h;

        if (item->level == level && item->type == type) {
            continue;
        }
        cut = cut || whole > cap - at;
        if (cap - at < sizeof h) {
            continue;
        }
        part = whole < cap - at ? whole : cap - at;
        memcpy(&h, to + at, sizeof h);
        HOLDS(h.cmsg_len == part && h.cmsg_level == item->level && h.cmsg_type == item->type);
        HOLDS(memcmp(to + at + CMSG_LEN(0), buf + item->start, part - CMSG_LEN(0)) == 0);
        at += align_up(whole) < cap - at ? align_up(whole) : cap - at;
    }
    HOLDS(written == at && truncated == cut);
    HOLDS(fuzz_all(to + at, cap - at, 0xee));
    walk_plainly(&got, to, written);
    HOLDS(got.error == 0);
}

/* Encodes what the input names, as far as there is room; returns the length. */
static size_t
encode(fuzz_input *in, unsigned char *buf, size_t cap)
{
    ipv4b_cmsg_encoder enc = {.buf = buf, .cap = cap};
    unsigned char data[UINT8_MAX] = {0};

    while (in->left != 0) {
        unsigned int kind = fuzz_u8(in) % KINDS;
        size_t len = fuzz_u8(in), before = enc.len;
        int r;

        fuzz_bytes(in, data, len);
        r = ipv4b_cmsg_put(&enc, kinds[kind].level, kinds[kind].type, data, len);
        HOLDS(r == (CMSG_SPACE(len) <= cap - before ? 0 : -ENOBUFS));
        HOLDS(enc.len == before + (r == 0 ? CMSG_SPACE(len) : 0));
        if (r == 0) {
            const unsigned char *at = buf + before + CMSG_LEN(0);

            HOLDS(memcmp(at, data, len) == 0);
            HOLDS(fuzz_all(at + len, CMSG_SPACE(len) - CMSG_LEN(len), 0));
        }
    }
    HOLDS(fuzz_all(buf + enc.len, cap - enc.len, 0xee));
    return enc.len;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    unsigned int mode = fuzz_u8(&in);
    size_t cap = fuzz_u16(&in) % 1024;
    unsigned int skip = fuzz_u8(&in) % KINDS;
    size_t len = in.left < LONGEST ? in.left : LONGEST;
    unsigned char *buf;
    static walk w;

    if (mode & 1) {
        unsigned char *room = fuzz_exact(NULL, cap);

        /* The last item may come without its padding, or be cut. */
        len = encode(&in, room, cap);
        len -= mode >> 4 < len ? mode >> 4 : len;
        buf = fuzz_exact(room, len);
        cap = cap * (mode >> 1 & 7) / 4;
    }
    else {
        buf = fuzz_exact(in.at, len);
    }
    walk_plainly(&w, buf, len);
    test_next(&w, buf, len);
    test_check(&w, buf, len);
    test_deliver(&w, buf, len, cap, kinds[skip].level, kinds[skip].type);
    fuzz_forget();
    return 0;
}
