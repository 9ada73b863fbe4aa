/* fuzz.h - what the fuzz targets share: reading the input, exact memory, and what has to hold.
 *
 * A target's input is a row of small numbers that say what to do; an input that is too short reads
 * as zeros from there on, so that every input means something.
 */
#ifndef IPV4B_TESTS_FUZZ_H
#define IPV4B_TESTS_FUZZ_H

#include "sysdep.h"

#include <stdio.h>

#include <sanitizer/asan_interface.h>

/* What every target defines, for libFuzzer to call. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run, for libFuzzer to keep the input. */
#define HOLDS(condition)                                                                           \
    ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__, __func__))

static inline _Noreturn void
fuzz_fail(const char *text, const char *file, int line, const char *function)
{
    fprintf(stderr, "%s:%d: %s: not so: %s\n", file, line, function, text);
    abort();
}

typedef struct {
    const uint8_t *at;
    size_t left;
} fuzz_input;

static inline unsigned int
fuzz_u8(fuzz_input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

static inline unsigned int
fuzz_u16(fuzz_input *in)
{
    unsigned int low = fuzz_u8(in);

    return low | fuzz_u8(in) << 8;
}

/* Copies up to `len` bytes; returns how many were left to copy. */
static inline size_t
fuzz_bytes(fuzz_input *in, void *to, size_t len)
{
    size_t n = len < in->left ? len : in->left;

    if (n != 0) {
        memcpy(to, in->at, n);
    }
    in->at += n;
    in->left -= n;
    return n;
}

enum { FUZZ_ARENA = 1 << 16 };

static unsigned char fuzz_arena[FUZZ_ARENA] __attribute__((aligned(8)));
static size_t fuzz_used;

/* Memory that ends where the sanitizer sees a step past it even where `len` is 0, and that starts at
 * an odd address. It holds `from`, or 0xee where that is NULL, until fuzz_forget. All of it lies in
 * one arena, which takes a fraction of the time of malloc. */
static inline unsigned char *
fuzz_exact(const void *from, size_t len)
{
    unsigned char *p = fuzz_arena + fuzz_used + 1;
    const size_t space = (len + 8) / 8 * 8 + 8;

    HOLDS(space <= FUZZ_ARENA - fuzz_used);
    if (from == NULL) {
        memset(p, 0xee, len);
    }
    else {
        memcpy(p, from, len);
    }
    fuzz_used += space;
    ASAN_POISON_MEMORY_REGION(p + len, space - len - 1);
    return p;
}

static inline void
fuzz_forget(void)
{
    ASAN_UNPOISON_MEMORY_REGION(fuzz_arena, fuzz_used);
    fuzz_used = 0;
}

/* The next two look at every byte, so that the compiler can take many at a time; the sanitizer's
 * memcmp takes longer. */
#define FUZZ_PLAIN __attribute__((no_sanitize("address", "undefined"))) static inline

FUZZ_PLAIN bool
fuzz_all(const unsigned char *p, size_t len, unsigned char value)
{
    unsigned char other = 0;

    for (size_t i = 0; i < len; i++) {
        other |= p[i] ^ value;
    }
    return other == 0;
}

FUZZ_PLAIN bool
fuzz_same(const unsigned char *a, const unsigned char *b, size_t len)
{
    unsigned char other = 0;

    for (size_t i = 0; i < len; i++) {
        other |= a[i] ^ b[i];
    }
    return other == 0;
}

#endif
