/* slots.h - the slots of a read, whose buffers end where the sanitizer sees a step past them.
 *
 * All of them lie in one arena, which is quicker than to allocate each; it is filled with 0xee.
 */
#ifndef IPV4B_TESTS_SLOTS_H
#define IPV4B_TESTS_SLOTS_H

#include "fuzz.h"

#include <sanitizer/asan_interface.h>

enum {
    SLOTS = 128,
    PARTS = 3,
    LONGEST = 65535,
    ARENA = 1 << 18,
};

static unsigned char arena[ARENA] __attribute__((aligned(8)));
static size_t arena_used;
static ipv4b_slot slots[SLOTS];
static struct {
    struct iovec iov[PARTS];
    struct sockaddr_in name;
    size_t room, control_cap;
} of[SLOTS];

/* A piece of the arena that ends at its last byte. */
static inline unsigned char *
piece(size_t len)
{
    unsigned char *p = arena + arena_used;
    size_t space = (len + 7) / 8 * 8 + 8;

    memset(p, 0xee, len);
    ASAN_POISON_MEMORY_REGION(p + len, space - len);
    arena_used += space;
    return p;
}

/* Sets up to n slots up, as far as the arena goes; returns how many. */
static inline size_t
prepare(size_t n, unsigned int parts, size_t size, bool vary, bool named, size_t control_cap)
{
    size_t i;

    ASAN_UNPOISON_MEMORY_REGION(arena, arena_used);
    arena_used = 0;
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
        memset(&of[i].name, 0xee, sizeof of[i].name);
    }
    return i;
}

/* The slot's buffers hold `len` bytes, and nothing more. */
static inline void
check_data(size_t i, const unsigned char *bytes, size_t len)
{
    for (size_t part = 0; part < slots[i].msg_hdr.msg_iovlen; part++) {
        const unsigned char *base = of[i].iov[part].iov_base;
        size_t room = of[i].iov[part].iov_len, n = room < len ? room : len;

        HOLDS(memcmp(base, bytes, n) == 0);
        HOLDS(n == room || base[n] == 0xee);
        HOLDS(n == room || memcmp(base + n, base + n + 1, room - n - 1) == 0);
        bytes += n;
        len -= n;
    }
    HOLDS(len == 0);
}

#endif
