/* message.h - the type Message: buffers, control data and address of one datagram, in the form that
 * the kernel takes.
 *
 * A Message holds the buffers (Py_buffer) of its Python objects and keeps iovec and sockaddr ready,
 * so that a call builds nothing. Locking: the GIL or the message's critical section (locks.h), and
 * pins. A call that moves datagrams pins its messages first: it owns a reference to each, and while
 * one is pinned its buffers, oob and addr cannot be set, so that every pointer that the call took
 * from here stays good. Any number of calls may write a message at once; a read wants it alone, for
 * the kernel writes into it.
 */
#ifndef IPV4B_MESSAGE_H
#define IPV4B_MESSAGE_H

#include "python/base/state.h"

#include "core/sysdep.h"
#include "python/base/buffers.h"

typedef struct {
    PyObject_HEAD
    /* What the kernel gets, ready to be copied into a slot. msg_iov points to `iov` or into `data`, msg_control
     * into `oob`, msg_name always to `name`; msg_namelen is 0 for no address. */
    struct msghdr header;
    struct sockaddr_in name;
    uint64_t use; /* pins, and what the message can be used for: IPV4B_USE_* */
    /* Results of the last call. */
    unsigned int n;
    unsigned int nn;
    int flags;
    int error;
    int64_t late;   /* ns after its time, of the last write_paced */
    uint64_t tx_id; /* the id of its departure time, of the last write that asked for one; or 0 */
    /* Python's side. */
    ipv4b_held data;
    ipv4b_held oob; /* one object at most */
    /* Of new_messages, until the program asks for `buffers` or `oob`: the slab that the header
     * points into, in place of the two above; or NULL. */
    PyObject *slab;
    struct iovec iov; /* of a bytes object, or of the slab */
    PyObject *addr;   /* the tuple for addr_key, made when asked for; or NULL */
    struct sockaddr_in addr_key;
} ipv4b_message_object;

/* What `use` is made of. */
enum {
    IPV4B_USE_UNCHECKED = 1, /* oob can change, or does not parse: each write looks at it */
    IPV4B_USE_READONLY = 2,  /* one of the buffers is, or the control buffer */
    IPV4B_USE_READ = 4,      /* a call reads into the message */
    IPV4B_USE_WRITE = 8,     /* this times the number of calls that write it */
};

/* A bit of `flags` that is not one of the kernel's MSG_*: the first n bytes of the buffers are
 * from a read. It is in `flags` because a write sets all flags to 0 anyway. */
enum { IPV4B_FLAG_RECEIVED = 1 << 24 };

static inline bool
ipv4b_message_pinned(const ipv4b_message_object *m)
{
    return m->use >= IPV4B_USE_READ;
}

#endif
