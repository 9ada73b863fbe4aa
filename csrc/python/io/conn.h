/* conn.h - what a connection consists of: one struct for each concept, each of which has its own file.
 *
 * Locking: the GIL, or the connection's critical section (locks.h), guards every member; a function
 * that takes an ipv4b_conn_object is called with it. Both are let go of during a system call that
 * moves datagrams or waits. A call that moves datagrams counts itself in `calls` from begin to end;
 * close() ends the waits and leaves the descriptor open until the last such call is out, so that a
 * system call of ours never meets a descriptor number that already belongs to another file.
 */
#ifndef IPV4B_CONN_H
#define IPV4B_CONN_H

#include "python/base/state.h"

#include "core/ancillary.h"
#include "core/error_queue.h"
#include "core/forward.h"
#include "core/gro.h"
#include "core/gso.h"
#include "core/mmsg.h"
#include "core/readable.h"
#include "core/signal_pipe.h"
#include "core/tx_request.h"
#include "core/tx_timestamps.h"
#include "core/unread.h"
#include "core/wait.h"

typedef enum { IPV4B_READ, IPV4B_WRITE } ipv4b_direction;

/* Makes waiting calls look again. All calls that wait share it. It is signalled once. */
typedef struct {
    ipv4b_wake wake;
    ipv4b_signal_pipe signals; /* opened by the main thread's first wait (signals.h) */
    int refs;
} ipv4b_waker;

/* The descriptor: where it comes from and what it is. Set once, by conn.c. */
typedef struct {
    PyObject *sock; /* asked for its fileno at every call; NULL for a borrowed descriptor */
    PyObject
        *fileno; /* its bound method if that is written in C, which cannot be replaced; or NULL */
    int fd;      /* the borrowed descriptor, or -1 */
    int type;    /* SOCK_DGRAM, ... */
    int protocol;
} ipv4b_conn_descriptor;

/* The connection's life and the calls inside it. */
typedef struct {
    bool open;
    bool release_due; /* closed while a call was inside: the last call to leave closes the socket */
    int calls;        /* inside the I/O loop */
    int plain_reads;  /* attempts to read that bypass the queue now */
    unsigned int forks; /* ipv4b_forks() for which the counts and the waker are valid */
} ipv4b_conn_life;

/* How long calls wait, and what wakes them. */
typedef struct {
    int64_t timeout;     /* ns, 0 for non-blocking, or IPV4B_FOREVER */
    int64_t busy_poll;   /* ns for which a read looks again before it sleeps */
    int64_t deadline[2]; /* of reads and writes, on the clock of ipv4b_now(), or IPV4B_FOREVER */
    ipv4b_waker *waker;  /* of the calls that wait now, or NULL */
} ipv4b_conn_waiting;

/* Settings that the kernel cannot report, or that are needed too often to ask for them. */
typedef struct {
    unsigned int control_flags; /* what set_control_message asked for */
    unsigned int kernel_flags;  /* what the kernel was asked for: with gro also IPV4B_CM_SEGMENT */
    unsigned int multicast_ifindex; /* as it was set here, or 0 */
    bool recv_errors;
    bool header_included; /* what is written starts with an IPv4 header: IP_HDRINCL */
} ipv4b_conn_options;

/* Linked by `next`, oldest first. */
typedef struct {
    ipv4b_queued_error *first, *last;
    size_t count;
} ipv4b_error_list;

/* Coalesced datagrams on their way to the caller. */
typedef struct {
    bool gro;
    bool coalescing;          /* the kernel coalesces: UDP_GRO was set once and stays on */
    ipv4b_gro *queue;         /* where gro keeps datagrams that did not fit; or NULL */
    ipv4b_unread_list unread; /* datagrams whose results could not be made for want of memory */
    ipv4b_error_list unread_errors; /* errors of the network that were read and not given yet */
    int waiting_for_errors;         /* calls inside read_errors */
    ipv4b_readable *readable;       /* behind read_fileno; NULL before its first call */
} ipv4b_conn_receiving;

/* Offload of writes. */
typedef struct {
    bool gso;
    int gso_error;            /* the errno with which offload was refused last, or 0 */
    ipv4b_refusals *refusals; /* the paths that have refused it, or NULL for none */
    ipv4b_gso_plan *plan;     /* the memory of the last call's runs, for the next one */
} ipv4b_conn_sending;

/* Departure times of what is written. */
typedef struct {
    unsigned int kinds;        /* IPV4B_STAMP_*: those that are wanted */
    bool asked;                /* some were wanted at some time */
    uint64_t last_id;          /* the last that was given to a message; the first is 1 */
    ipv4b_tx_request *request; /* the memory of the last write, for the next one */
    ipv4b_tx_queue queue;      /* stamps that nobody has asked for yet */
    int waiting;               /* calls inside read_tx_timestamps */
} ipv4b_conn_stamping;

/* What one batch leaves for the next one of its direction. */
typedef struct {
    ipv4b_scratch scratch[2];       /* the arrays of the last read and write */
    ipv4b_forward_scratch *forward; /* the memory of the last forward, or NULL */
    size_t last_count[2];           /* how many messages the last read and write moved */
    int pending_error[2];           /* an errno that came after a batch, for the next one; or 0 */
} ipv4b_conn_batches;

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    ipv4b_state *state;
    ipv4b_conn_descriptor descriptor;
    ipv4b_conn_life life;
    ipv4b_conn_waiting waiting;
    ipv4b_conn_options options;
    ipv4b_conn_receiving receiving;
    ipv4b_conn_sending sending;
    ipv4b_conn_stamping stamping;
    ipv4b_conn_batches batches;
} ipv4b_conn_object;

/* Whether coalesced datagrams are split into their segments. With gro off again, only a caller that has
 * asked for IPV4B_CM_SEGMENT gets them whole. */
static inline bool
ipv4b_conn_splits(const ipv4b_conn_object *self)
{
    return self->receiving.gro ||
           (self->receiving.coalescing && !(self->options.control_flags & IPV4B_CM_SEGMENT));
}

#endif
