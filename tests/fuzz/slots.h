/* slots.h - the slots of a read, and what may be in them afterwards: what was delivered, and nothing
 * more.
 *
 * All their buffers lie in one arena, with room between them. It is filled with 0xee whenever no
 * slots are in use, so that a read costs only what it has written, and a byte written to any other
 * place is found.
 */
#ifndef IPV4B_TESTS_SLOTS_H
#define IPV4B_TESTS_SLOTS_H

#include "fuzz.h"

enum {
    SLOTS = 128,
    PARTS = 3,
    LONGEST = 65535,
    ARENA = 1 << 18,
};

static unsigned char arena[ARENA];
static size_t arena_used;
static ipv4b_slot slots[SLOTS];
static struct {
    struct iovec iov[PARTS];
    struct sockaddr_in name;
    size_t room, control_cap;
} of[SLOTS];

static inline unsigned char *
piece(size_t len)
{
    unsigned char *p = arena + arena_used;

    arena_used += len + 8;
    return p;
}

/* Sets up to n slots up, as far as the arena goes; returns how many. */
static inline size_t
prepare(size_t n, unsigned int parts, size_t size, bool vary, bool named, size_t control_cap)
{
    size_t i;

    if (arena_used == 0) {
        memset(arena, 0xee, sizeof arena);
    }
    arena_used = 8;
    for (i = 0; i < n && arena_used + 2 * LONGEST < sizeof arena; i++) {
        size_t left = parts == 0 ? 0 : vary ? (size + i * 7) % 64 : size;
        struct msghdr *h = &slots[i].msg_hdr;

        slots[i] = (ipv4b_slot){.msg_hdr = {.msg_iov = of[i].iov, .msg_iovlen = parts}};
        of[i].room = left;
        of[i].control_cap = control_cap;
        for (unsigned int part = 0; part < parts; part++) {
            size_t len = part == parts - 1 ? left : left / 3;

            of[i].iov[part] = (struct iovec){piece(len), len};
            left -= len;
        }
        h->msg_control = control_cap == 0 ? NULL : piece(control_cap);
        h->msg_controllen = control_cap;
        h->msg_name = named ? &of[i].name : NULL;
        h->msg_namelen = named ? sizeof of[i].name : 0;
    }
    return i;
}

/* The memory holds these bytes, which are wiped away. */
static inline void
check_bytes(void *at, const void *bytes, size_t len)
{
    if (len != 0) {
        HOLDS(fuzz_same(at, bytes, len));
        memset(at, 0xee, len);
    }
}

/* The slot's buffers hold `len` bytes. */
static inline void
check_data(size_t i, const unsigned char *bytes, size_t len)
{
    for (size_t part = 0; part < slots[i].msg_hdr.msg_iovlen; part++) {
        size_t room = of[i].iov[part].iov_len, n = room < len ? room : len;

        check_bytes(of[i].iov[part].iov_base, bytes, n);
        bytes += n;
        len -= n;
    }
    HOLDS(len == 0);
}

/* After all was checked that was delivered: that was all. */
static inline void
check_rest(void)
{
    HOLDS(fuzz_all(arena, arena_used, 0xee));
}

#endif
