/* kept.h - options that the meaning of the data depends on: they are looked at again before it is moved, and
 * set again if someone has cleared them on the socket.
 *
 * Locking: none.
 */
#ifndef IPV4B_KEPT_H
#define IPV4B_KEPT_H

#include "sysdep.h"

/* Sets an option to 1 if it is 0. Leaves a socket alone that does not have it. */
static __attribute__((noinline, unused)) void
ipv4b_keep_option(int fd, int level, int option)
{
    int value = 1;
    socklen_t len = sizeof value;

    if (getsockopt(fd, level, option, &value, &len) == 0 && value == 0) {
        value = 1;
        (void)setsockopt(fd, level, option, &value, sizeof value);
    }
}

#endif
