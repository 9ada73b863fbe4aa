/* check.h - which messages a call refuses, and why.
 *
 * Locking: the caller has the GIL, and locks a message that it pins.
 */
#ifndef IPV4B_CHECK_H
#define IPV4B_CHECK_H

#include "core/cmsg.h"
#include "python/base/locks.h"
#include "python/io/turn.h"

/* Pins a message, locked, if the call can have it. */
static inline bool
ipv4b_check_pin(ipv4b_message_object *m, ipv4b_direction direction)
{
    size_t where;

    if (direction == IPV4B_READ) {
        if ((m->use & ~(uint64_t)IPV4B_USE_UNCHECKED) != 0) {
            return false;
        }
        m->use |= IPV4B_USE_READ;
        return true;
    }
    if ((m->use & (IPV4B_USE_READ | IPV4B_USE_UNCHECKED)) != 0 &&
        ((m->use & IPV4B_USE_READ) ||
         ipv4b_cmsg_check(m->header.msg_control, (size_t)m->header.msg_controllen, &where) < 0)) {
        return false;
    }
    m->use += IPV4B_USE_WRITE;
    return true;
}

/* Raises for the item at `index` of the list, which cannot be pinned. Returns -1. Not inlined: the
 * loops that pin need all registers. */
__attribute__((cold)) int ipv4b_check_refuse(const ipv4b_batch *b, size_t index);

/* Whether the list still has the messages of the call. Returns 0, or -1 with RuntimeError. */
int ipv4b_check_length(const ipv4b_batch *b);

/* Looks at all messages before the first of several turns. With `cancel` the messages get the errno
 * ECANCELED. Returns 0, or -1 with an exception that names the message or is a signal handler's. */
__attribute__((cold)) int ipv4b_check_all(const ipv4b_batch *b, bool cancel);

#endif
