/* core.h - what a TransportCore is: the hot half of an asyncio datagram transport.
 *
 * The other half is ipv4batch/aio/transport.py, which knows the event loop and asyncio's contract;
 * it makes the core, and the core calls its methods where something out of the ordinary happens.
 *
 * Locking: a core belongs to its event loop's thread, which alone delivers and flushes (`delivering`
 * and `flushing` keep a second one out). sendto may be called by any thread: the GIL, or the core's
 * critical section, guards the outbox and the numbers beside it. A flush takes the outbox away, so
 * that nobody moves the memory that the kernel reads.
 */
#ifndef IPV4B_AIO_CORE_H
#define IPV4B_AIO_CORE_H

#include "python/base/state.h"

#include "core/inbox.h"
#include "core/outbox.h"
#include "python/io/conn.h"

/* What a transport waits for, to send more. */
typedef enum { IPV4B_FREE, IPV4B_UNTIL_WRITABLE, IPV4B_UNTIL_BUFFERS } ipv4b_blocked;

typedef struct {
    PyObject_HEAD
    ipv4b_state *state;
    ipv4b_conn_object *conn;
    PyObject *transport; /* NULL once the connection is lost */
    PyObject *protocol;
    PyObject *context;   /* that callbacks run in */
    PyObject *call_soon; /* the loop's */
    PyObject *end_turn;  /* our methods, bound, for call_soon */
    PyObject *read_again;
    PyObject *address;                          /* the one that sendto takes, or None */
    PyObject *last_addr;                        /* the tuple that sendto got last, or NULL */
    struct sockaddr_in address_name, last_name; /* of these two */
    unsigned long thread;                       /* the loop's */
    bool reading;                               /* datagrams may be delivered */
    bool connected;                             /* the socket has a peer */
    bool lost;                                  /* closed for sending */
    bool closing;                               /* the transport ends when all is sent */
    bool delivering, flushing;
    bool again_due; /* read_again is scheduled */
    bool turn;      /* end_turn is scheduled: datagrams until then go together */
    bool discard;   /* a flush must stop */
    ipv4b_blocked blocked;
    ipv4b_inbox *inbox;              /* datagrams that were read and not delivered, or NULL */
    size_t received_slots, received; /* of the last receive: slots, and datagrams in them */
    ipv4b_outbox outbox;
    Py_ssize_t header_size; /* counted for each datagram that waits */
    size_t waiting_bytes, waiting_count;
} ipv4b_core_object;

/* Keeps the memory of an inbox for the next reader. */
void ipv4b_core_release_inbox(ipv4b_core_object *self);

/* Takes the exception that is set, with its traceback. New, never NULL. */
PyObject *ipv4b_core_take_exception(void);

/* Calls a method of the transport with one argument. Does nothing if the transport is gone.
 * Returns 0 or -1. */
int ipv4b_core_tell(ipv4b_core_object *self, const char *method, PyObject *argument);

#endif
