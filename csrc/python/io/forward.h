/* forward.h - messages of a turn that send what they received.
 *
 * Locking: see message.h (pins) and conn.h.
 */
#ifndef IPV4B_IO_FORWARD_H
#define IPV4B_IO_FORWARD_H

#include "core/forward.h"
#include "core/mmsg.h"
#include "python/base/state.h"
#include "python/message/message.h"

/* What a call of forward asks for, and its memory. */
typedef struct {
    bool has_addr;
    struct sockaddr_in addr; /* the destination of all; NULL for each message's own */
    bool skip;               /* truncated messages are left out */
    ipv4b_forward_scratch *scratch;
} ipv4b_forwarding;

/* Whether a message, locked, can be forwarded. */
bool ipv4b_forward_fits(const ipv4b_forwarding *f, const ipv4b_message_object *m);

/* Raises for message `index`, locked, which cannot. */
void ipv4b_forward_refuse(size_t index, const ipv4b_message_object *m);

/* Pins n messages, each with a reference, and fills their slots; returns how many it could. The slots
 * are complete after ipv4b_forward_trim (core/forward.h). */
size_t ipv4b_forward_fill(ipv4b_forwarding *f, ipv4b_scratch *scratch, PyObject **items, size_t n,
                          PyTypeObject *type);

#endif
