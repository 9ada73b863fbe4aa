/* gather.h - from a list of Message to what the kernel takes, and back.
 *
 * Locking: see message.h (pins) and conn.h. The scratch arrays belong to the call while it runs.
 */
#ifndef IPV4B_GATHER_H
#define IPV4B_GATHER_H

#include "core/send.h"
#include "python/io/conn.h"
#include "python/io/forward.h"
#include "python/message/message.h"

/* Messages of a turn. One sendmmsg takes no more, which is enough to share its cost; and a turn is
 * over within some milliseconds, so that signals, close() and deadlines are not kept waiting. */
enum { IPV4B_TURN = IPV4B_SEND_MAX };

/* What becomes of messages that a call lets go. */
typedef enum { IPV4B_MOVED, IPV4B_FORWARDED, IPV4B_LEFT, IPV4B_CANCELED } ipv4b_outcome;

typedef struct {
    ipv4b_conn_object *conn;
    ipv4b_direction direction;
    PyObject *list; /* a list or tuple, borrowed */
    size_t n;       /* how many messages the call is for */
    size_t first;   /* where the turn's messages begin in the list */
    ipv4b_scratch
        scratch;   /* owners are ipv4b_message_object, each a reference that the call owns */
    size_t pinned; /* how many messages were gathered for the turn */
    size_t start;  /* how many of them are dealt with, in the order in which they go */
    size_t moved;  /* how many went or came in the call */
    bool begun;    /* a write's turn has its plan, or goes without */
    bool told;     /* the next message has the errno for which it did not go */
    ipv4b_forwarding *forward; /* of forward, else NULL */
    ipv4b_sender sender;
} ipv4b_batch;

/* The same for what is no list. */
PyObject *ipv4b_gather_copy(PyObject *msgs);

/* The argument msgs as a list or tuple. With the GIL a list may change while it is used: see
 * ipv4b_gather_next. New, or NULL with TypeError or what a sequence raised. */
static inline PyObject *
ipv4b_gather_list(PyObject *msgs)
{
#ifndef Py_GIL_DISABLED /* else another thread may change a list at any moment */
    if (PyList_CheckExact(msgs)) {
        return Py_NewRef(msgs);
    }
#endif
    return ipv4b_gather_copy(msgs);
}

/* Takes memory for the call, looks at all messages of a list that needs more than one turn, and pins
 * those of the first turn. With `cancel` the messages of later turns get the errno ECANCELED. Returns
 * 0, or -1 with an exception that names the message or is a signal handler's, and nothing changed;
 * ipv4b_gather_end is due in both cases. */
int ipv4b_gather_begin(ipv4b_batch *b, PyObject *list, bool cancel);

/* Pins the messages of the next turn, once those of the last one are let go. Returns 0, or -1 with an
 * exception for a message that is no longer what it was when the call began. No Python code runs in
 * here. */
int ipv4b_gather_next(ipv4b_batch *b);

/* Writes the results into the next `done` messages, and lets them go. */
void ipv4b_gather_settle(ipv4b_batch *b, size_t done);

/* Lets the next `count` messages go: those that did not go keep their errno or get ECANCELED. */
void ipv4b_gather_drop(ipv4b_batch *b, size_t count, ipv4b_outcome outcome);

/* Lets go what is left of the turn, and leaves the memory for the connection's next call. */
void ipv4b_gather_end(ipv4b_batch *b, ipv4b_outcome outcome);

/* The next message of the turn: its place in the turn. */
static inline size_t
ipv4b_gather_at(const ipv4b_batch *b)
{
    return b->sender.planned && b->start < b->pinned ? b->sender.plan->order[b->start] : b->start;
}

#endif
