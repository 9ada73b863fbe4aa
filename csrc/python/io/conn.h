/* conn.h - the type Conn, base of PacketConn and RawConn: a socket, its life, and the one I/O loop.
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
#include "core/gro.h"
#include "core/gso.h"
#include "core/held.h"
#include "core/mmsg.h"
#include "core/wait.h"

typedef enum { IPV4B_READ, IPV4B_WRITE } ipv4b_direction;

/* Signalled once, by whoever wants the waiters to look again; shared by all who wait meanwhile. */
typedef struct {
    ipv4b_wake wake;
    int refs;
} ipv4b_waker;

/* The descriptor: where it comes from and what it is. Set once, by conn.c. */
typedef struct {
    PyObject *sock;   /* asked for its fileno at every call; NULL for a borrowed descriptor */
    PyObject *fileno; /* its method, bound, if that is one in C, which nobody replaces; or NULL */
    int fd;           /* the borrowed descriptor, or -1 */
    int type;         /* SOCK_DGRAM, ... */
    int protocol;
} ipv4b_conn_descriptor;

/* The connection's life and the calls inside it. */
typedef struct {
    bool open;
    bool release_due;   /* closed while a call was inside: the last one out closes the socket */
    int calls;          /* inside the I/O loop */
    int plain_reads;    /* attempts to read that bypass the queue now */
    unsigned int forks; /* the state's, when the counts and the waker were last ours */
} ipv4b_conn_life;

/* How long calls wait, and what wakes them. */
typedef struct {
    int64_t timeout;     /* ns, 0 for non-blocking, or IPV4B_FOREVER */
    int64_t deadline[2]; /* of reads and writes, on the clock of ipv4b_now(), or IPV4B_FOREVER */
    ipv4b_waker *waker;  /* what those who wait now wait on, or NULL */
} ipv4b_conn_waiting;

/* What was set here and the kernel cannot tell, or is asked too often to ask it. */
typedef struct {
    unsigned int control_flags; /* what set_control_message asked for */
    unsigned int kernel_flags;  /* what the kernel was asked for: with gro also IPV4B_CM_SEGMENT */
    unsigned int multicast_ifindex; /* as it was set here, or 0 */
    bool recv_errors;
} ipv4b_conn_options;

/* Coalesced datagrams on their way to the caller. */
typedef struct {
    bool gro;
    bool coalescing;         /* the kernel coalesces: it was asked to once, and goes on with it */
    ipv4b_gro *queue;        /* where gro keeps what did not fit; or NULL */
    ipv4b_held_list held[2]; /* datagrams and network errors that no call could tell of */
    ipv4b_held *spare;       /* memory for the next of those, or NULL */
} ipv4b_conn_receiving;

/* Offload of writes. */
typedef struct {
    bool gso;
    int gso_error;            /* the errno with which offload was refused last, or 0 */
    ipv4b_refusals *refusals; /* the paths that have refused it, or NULL for none */
    ipv4b_gso_plan plan;      /* the memory of the last call's runs, for the next one */
} ipv4b_conn_sending;

/* What one batch leaves for the next one of its direction. */
typedef struct {
    ipv4b_scratch scratch[2]; /* the arrays of the last read and write */
    size_t last_count[2];     /* how many messages the last read and write moved */
    int late_error[2];        /* an errno that came after a batch, for the next one; or 0 */
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
    ipv4b_conn_batches batches;
} ipv4b_conn_object;

extern PyType_Spec ipv4b_conn_spec;

struct ipv4b_io;

/* What the loop repeats: a system call that never waits. Runs without the GIL. Returns >= 0 or
 * -errno. */
typedef int (*ipv4b_attempt)(int fd, struct ipv4b_io *io);

typedef struct ipv4b_io {
    ipv4b_direction direction;
    int flags; /* MSG_*: with MSG_DONTWAIT nothing is waited for */
    int64_t
        limit; /* when to stop waiting, or -1 for the connection's timeout from the first wait on */
    ipv4b_attempt attempt;
    void *arg;
    ipv4b_slot *slots; /* of a read: what it fills */
    size_t n;
    ipv4b_gro *queue; /* for the attempt: where to read from, or NULL for the socket itself */
    bool drain;       /* likewise: what is in the queue is all that it gives */
    int error;        /* result: the errno of the exception, 0 if that says nothing of a message */
    bool foreign; /* result: the exception is a signal handler's or that of the socket's fileno() */
    int late;     /* result of a read: as in ipv4b_mmsg_recv */
    unsigned int forks; /* the connection's, when it counted the call */
    bool wait_failed;   /* result: the error is the wait's, and no message's */
} ipv4b_io;

/* Whether bundles are taken apart; with gro off again, who has asked for them gets them whole. */
static inline bool
ipv4b_conn_takes_apart(const ipv4b_conn_object *self)
{
    return self->receiving.gro ||
           (self->receiving.coalescing && !(self->options.control_flags & IPV4B_CM_SEGMENT));
}

/* The attempt of reads, from the queue or the socket. */
int ipv4b_io_recv(int fd, ipv4b_io *io);

/* Makes attempts until one succeeds; between them waits for the socket to be readable or writable,
 * until the limit or the connection's deadline. Returns the attempt's result, or -1 with an
 * exception set. */
int ipv4b_conn_run(ipv4b_conn_object *self, ipv4b_io *io);

/* Waits for `ns` or until the connection is closed or its deadline moved, not past io->limit or the
 * deadline of writes. Returns 0, or -1 with an exception, as ipv4b_conn_run does. */
int ipv4b_conn_pause(ipv4b_conn_object *self, ipv4b_io *io, int64_t ns);

/* Raises the TimeoutError of a call whose time is over. Returns -1. */
int ipv4b_conn_raise_timeout(ipv4b_conn_object *self, ipv4b_direction direction);

/* The descriptor, or -1 with OSError EBADF if the connection or its socket is closed. May run
 * Python code. */
int ipv4b_conn_fileno(ipv4b_conn_object *self, const char *operation);

/* The same without a complaint: -1 if it is closed; -2 with the exception of the socket's
 * fileno(). */
int ipv4b_conn_peek_fileno(ipv4b_conn_object *self);

/* Raises OSError `err` with "operation network local-address". Returns -1. */
int ipv4b_conn_raise(ipv4b_conn_object *self, const char *operation, int err);

/* Raises the error of an earlier batch that came after its first message. Returns 0 if there is
 * none, or -1. */
int ipv4b_conn_raise_late(ipv4b_conn_object *self, ipv4b_direction direction);

/* The local or the remote endpoint of the descriptor. Returns 0 or -errno. */
int ipv4b_conn_endpoint(const ipv4b_conn_object *self, int fd, bool remote,
                        struct sockaddr_in *out);

/* "udp4 127.0.0.1:40001", "ip4:1 127.0.0.1", with "->" and the peer if it is asked for; the network
 * alone when fd is negative. New, or NULL with MemoryError. */
PyObject *ipv4b_conn_describe(const ipv4b_conn_object *self, int fd, bool remote);

/* Forgets all calls, and what is not this process's to give: those of a fork's parent do not go on
 * in the child, and wait on the same wake-up descriptor. Every function that looks at what calls
 * share begins with ipv4b_conn_check_fork. */
void ipv4b_conn_forget_calls(ipv4b_conn_object *self);

static inline void
ipv4b_conn_check_fork(ipv4b_conn_object *self)
{
    if (self->state != NULL && self->life.forks != *self->state->forks) {
        self->life.forks = *self->state->forks;
        ipv4b_conn_forget_calls(self);
    }
}

/* Makes every waiting call look again. */
void ipv4b_conn_wake(ipv4b_conn_object *self);

/* The same at the end of the connection's life: the wake-up descriptor goes too. */
void ipv4b_conn_drop_waker(ipv4b_conn_object *self);

/* Closes the socket object; a borrowed descriptor stays open. Returns 0, or -1 with its
 * exception. */
int ipv4b_conn_release(ipv4b_conn_object *self);

/* tp_init for a type that takes sockets of `types`, a set of 1 << SOCK_*; `wanted` names them for
 * the error. */
int ipv4b_conn_init(PyObject *self, PyObject *args, PyObject *kwargs, unsigned int types,
                    const char *wanted);

#endif
