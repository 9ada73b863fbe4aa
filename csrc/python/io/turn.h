/* turn.h - a batch call while it runs: its list, and the messages of the turn that is under way.
 *
 * Locking: none; the call owns it.
 */
#ifndef IPV4B_TURN_H
#define IPV4B_TURN_H

#include "core/pace.h"
#include "core/send.h"
#include "python/io/conn.h"
#include "python/io/forward.h"
#include "python/message/message.h"

/* Messages of a turn. One sendmmsg takes no more, which is enough to share its cost; and a turn is
 * over within some milliseconds, so that signals, close() and deadlines are not kept waiting. */
enum { IPV4B_TURN = IPV4B_SEND_MAX };

/* Why a call releases messages. */
typedef enum { IPV4B_MOVED, IPV4B_FORWARDED, IPV4B_LEFT, IPV4B_CANCELED } ipv4b_outcome;

typedef struct {
    ipv4b_conn_object *conn;
    ipv4b_direction direction;
    PyObject *list; /* a list or tuple, borrowed */
    size_t n;       /* how many messages the call is for */
    size_t first;   /* where the turn's messages begin in the list */
    ipv4b_scratch
        scratch;      /* owners are ipv4b_message_object, each a reference that the call owns */
    size_t pinned;    /* how many messages were gathered for the turn */
    size_t start;     /* how many of them are done, in the order in which they go */
    size_t moved;     /* how many the call has moved */
    bool begun;       /* the plan of a write's turn is made, or not needed */
    bool told;        /* the next message has its errno already */
    size_t turn;      /* messages of a turn, at most */
    ipv4b_pace *pace; /* of write_paced, else NULL */
    ipv4b_forwarding *forward; /* of forward, else NULL */
    ipv4b_sender sender;
    ipv4b_tx_request *request; /* memory for the departure times of a write, or NULL */
} ipv4b_batch;

/* The next message of the turn: its place in the turn. */
static inline size_t
ipv4b_turn_at(const ipv4b_batch *b)
{
    return b->sender.planned && b->start < b->pinned ? b->sender.plan->order[b->start] : b->start;
}

#endif
