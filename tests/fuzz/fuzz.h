/* fuzz.h - what the fuzz targets share: reading the input, exact memory, and what has to hold.
 *
 * A target's input is a row of small numbers that say what to do; an input that is too short reads
 * as zeros from there on, so that every input means something.
 */
#ifndef IPV4B_TESTS_FUZZ_H
#define IPV4B_TESTS_FUZZ_H

#include "sysdep.h"

#include <stdio.h>

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

/* Memory that ends where its block ends, so that the sanitizer sees a step past it even where `len`
 * is 0, and that starts at an odd address. It holds `from`, or 0xee where that is NULL. */
static inline unsigned char *
fuzz_exact(const void *from, size_t len)
{
    unsigned char *block = malloc(len + 1);

    HOLDS(block != NULL);
    if (from == NULL) {
        memset(block, 0xee, len + 1);
    }
    else {
        memcpy(block + 1, from, len);
    }
    return block + 1;
}

static inline void
fuzz_exact_free(unsigned char *p)
{
    free(p - 1);
}

static inline bool
fuzz_all(const unsigned char *p, size_t len, unsigned char value)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != value) {
            return false;
        }
    }
    return true;
}

#endif
