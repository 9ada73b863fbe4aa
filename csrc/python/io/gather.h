/* gather.h - from a list of Message to what the kernel takes, and back.
 *
 * Locking: see message.h (pins) and conn.h. The scratch arrays belong to the call while it runs.
 */
#ifndef IPV4B_GATHER_H
#define IPV4B_GATHER_H

#include "core/send.h"
#include "python/io/conn.h"
#include "python/message/message.h"

typedef struct {
    ipv4b_conn_object *conn;
    ipv4b_direction direction;
    ipv4b_scratch
        scratch;   /* owners are ipv4b_message_object, each a reference that the call owns */
    size_t pinned; /* how many messages were gathered */
    size_t start;  /* the first that is still to be moved; those before it are let go */
    ipv4b_sender sender;
} ipv4b_batch;

/* The argument msgs as a list or tuple that stays as it is during ipv4b_gather. New, or NULL with
 * TypeError or what a sequence raised. */
PyObject *ipv4b_gather_list(PyObject *msgs);

/* Pins the messages of such a list and fills the scratch arrays. Returns 0, or -1 with an exception
 * that names the message; ipv4b_gather_end is due in both cases. No Python code runs in here. */
int ipv4b_gather(ipv4b_batch *b, PyObject *list);

/* Writes the results into the next `done` messages, and lets them go. */
void ipv4b_gather_settle(ipv4b_batch *b, size_t done);

/* Lets the next `count` messages go as they are. */
void ipv4b_gather_skip(ipv4b_batch *b, size_t count);

/* Lets go what is left, and leaves the memory for the connection's next call. */
void ipv4b_gather_end(ipv4b_batch *b);

#endif
