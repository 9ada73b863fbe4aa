/* gather.h - from a list of Message to what the kernel takes, and back.
 *
 * Locking: see message.h (pins) and conn.h. The scratch arrays belong to the call while it runs.
 */
#ifndef IPV4B_GATHER_H
#define IPV4B_GATHER_H

#include "conn.h"
#include "message.h"
#include "send.h"

typedef struct {
    ipv4b_conn_object *conn;
    ipv4b_direction direction;
    ipv4b_scratch
        scratch;   /* owners are ipv4b_message_object, each a reference that the call owns */
    size_t pinned; /* how many owners there are */
    size_t start;  /* the first that is still to be moved */
    ipv4b_sender sender;
} ipv4b_batch;

/* Pins the messages of a list or tuple and fills the scratch arrays. Returns 0, or -1 with an
 * exception that names the message; ipv4b_gather_end is due in both cases. No Python code runs in
 * here, so the list stays as it is. */
int ipv4b_gather(ipv4b_batch *b, PyObject *list);

/* Takes the pins off, and leaves the memory for the connection's next call. */
void ipv4b_gather_end(ipv4b_batch *b);

#endif
