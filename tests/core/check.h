/* check.h - what the tests of the core share: checks, exact memory, random bytes.
 *
 * A check that fails prints its place, its expression and both values (the first few do), is
 * counted, and lets the test go on. It gives whether it held, so that a caller may stop where the
 * rest has no sense.
 */
#ifndef IPV4B_TESTS_CHECK_H
#define IPV4B_TESTS_CHECK_H

#include "sysdep.h"

#include <inttypes.h>
#include <stdio.h>

#define CHECK(condition) check_true((condition), #condition, __FILE__, __LINE__)
#define CHECK_INT(got, expected)                                                                   \
    check_int((intmax_t)(got), (intmax_t)(expected), #got, #expected, __FILE__, __LINE__)
#define CHECK_STR(got, expected) check_str((got), (expected), #got, __FILE__, __LINE__)
#define CHECK_BYTES(got, expected, len)                                                            \
    check_bytes((got), (expected), (len), #got, __FILE__, __LINE__)

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { CHECK_SHOWN = 20 };

static int check_failures;

/* Counts a failure; whether it is among the first, which are shown. */
static inline bool
check_failed(void)
{
    return ++check_failures <= CHECK_SHOWN;
}

static inline bool
check_true(bool ok, const char *text, const char *file, int line)
{
    if (!ok && check_failed()) {
        fprintf(stderr, "%s:%d: not so: %s\n", file, line, text);
    }
    return ok;
}

static inline bool
check_int(intmax_t got, intmax_t expected, const char *text, const char *expected_text,
          const char *file, int line)
{
    if (got != expected && check_failed()) {
        fprintf(stderr, "%s:%d: %s is %" PRIdMAX ", expected %s, which is %" PRIdMAX "\n", file,
                line, text, got, expected_text, expected);
    }
    return got == expected;
}

static inline bool
check_str(const char *got, const char *expected, const char *text, const char *file, int line)
{
    bool ok = strcmp(got, expected) == 0;

    if (!ok && check_failed()) {
        fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", file, line, text, got, expected);
    }
    return ok;
}

static inline bool
check_bytes(const void *got, const void *expected, size_t len, const char *text, const char *file,
            int line)
{
    const unsigned char *a = got, *b = expected;

    for (size_t i = 0; i < len; i++) {
        if (a[i] != b[i]) {
            if (check_failed()) {
                fprintf(stderr, "%s:%d: %s: byte %zu of %zu is %02x, expected %02x\n", file, line,
                        text, i, len, a[i], b[i]);
            }
            return false;
        }
    }
    return true;
}

/* A request that is too large is answered with NULL, as it is without the sanitizers. */
const char *__asan_default_options(void);
const char *__msan_default_options(void);

const char *
__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *
__msan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* The exit status of a test. */
static inline int
check_status(void)
{
    if (check_failures != 0) {
        fprintf(stderr, "%d checks failed\n", check_failures);
    }
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* For what a test needs and does not test: without it nothing can be said. */
static inline void
require(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(EXIT_FAILURE);
    }
}

/* Whether a part of a test is to be left out, which is said, since an emulator of user programs runs
 * it (make test-cross) that does not pass on to the kernel what the part needs. */
static inline bool
emulator_lacks(const char *what)
{
    bool emulated = getenv("IPV4BATCH_TEST_EMULATED") != NULL;

    if (emulated) {
        fprintf(stderr, "left out under emulation: %s\n", what);
    }
    return emulated;
}

/* Memory that ends where its block ends, so that the sanitizer sees a step past it even where `len`
 * is 0, and that starts at an odd address. */
enum { EDGE_PAD = 33 };

static inline unsigned char *
edge_new(const void *from, size_t len)
{
    unsigned char *block = malloc(EDGE_PAD + len);

    require(block != NULL, "malloc");
    if (from != NULL && len != 0) {
        memcpy(block + EDGE_PAD, from, len);
    }
    return block + EDGE_PAD;
}

static inline void
edge_free(unsigned char *p)
{
    free(p - EDGE_PAD);
}

/* xorshift64 (Marsaglia 2003): the same numbers in every run. `state` starts as any but 0. */
static inline uint64_t
random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* One of the numbers from 0 to below - 1. */
static inline size_t
random_below(uint64_t *state, size_t below)
{
    return (size_t)(random_next(state) % below);
}

static inline void
random_fill(uint64_t *state, unsigned char *to, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = (unsigned char)random_next(state);
    }
}

#endif
