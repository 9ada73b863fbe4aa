/* timespec.h - a time as the kernel writes it into a control message.
 *
 * Locking: none.
 */
#ifndef IPV4B_TIMESPEC_H
#define IPV4B_TIMESPEC_H

#include "sysdep.h"

/* Reads `len` bytes as nanoseconds since the clock's start. A timespec is two 64-bit numbers, or two
 * 32-bit numbers on an old 32-bit system; elsewhere the short form is a truncated item. Returns whether
 * they are a time that a clock can show: more seconds would overflow the sum. */
static inline bool
ipv4b_timespec_parse(const unsigned char *data, size_t len, int64_t *ns)
{
    int64_t wide[2];
    int32_t narrow[2];

    if (len == sizeof wide) {
        memcpy(wide, data, sizeof wide);
    }
    else if (len == sizeof narrow && sizeof(long) == sizeof narrow[0]) {
        memcpy(narrow, data, sizeof narrow);
        wide[0] = narrow[0];
        wide[1] = narrow[1];
    }
    else {
        return false;
    }
    if (wide[0] < 0 || wide[0] >= INT64_MAX / 1000000000 || wide[1] < 0 || wide[1] >= 1000000000) {
        return false;
    }
    *ns = wide[0] * 1000000000 + wide[1];
    return true;
}

#endif
