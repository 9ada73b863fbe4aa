/* single.h - one datagram a call: what read_from and write_to of PacketConn and RawConn share.
 *
 * Locking: see conn.h; all but ipv4b_call_locked is called with the connection locked. A call holds the
 * caller's buffers (Py_buffer) while it is without the GIL.
 */
#ifndef IPV4B_SINGLE_H
#define IPV4B_SINGLE_H

#include "python/base/state.h"

#include "core/ancillary.h"
#include "core/iphdr.h"
#include "core/send.h"
#include "python/base/args.h"
#include "python/io/conn.h"

enum { IPV4B_HEADER_MAX = IPV4B_HEADER_LEN + IPV4B_OPTIONS_MAX };

/* Everything that the kernel needs for one datagram, on the stack of the call. */
typedef struct {
    int flags;
    ipv4b_slot slot;
    struct iovec iov[3];
    struct sockaddr_in name;
    ipv4b_ancillary path; /* of a write: what its control message holds */
    unsigned char control[IPV4B_ANCILLARY_MAX];
    unsigned char header[IPV4B_HEADER_MAX]; /* an IPv4 header, or the start of one */
    /* Receives the header's bytes that do not belong in the caller's buffer. */
    unsigned char spill[IPV4B_HEADER_MAX];
    ipv4b_sender sender;
    ipv4b_unread *room;             /* for a datagram whose result cannot be made */
    ipv4b_queued_error *error_room; /* the same for an entry of the error queue */
} ipv4b_datagram;

/* The arguments of read_from: buffer, flags. */
extern const ipv4b_signature ipv4b_read_signature;

/* Calls a method with its sorted arguments and the connection locked. */
PyObject *ipv4b_call_locked(PyObject *(*method)(PyObject *self, PyObject **values), PyObject *self,
                            PyObject **values);

/* Empties d. Whether the connection can be used, and the flags argument: 0, or -1 with an exception. */
int ipv4b_datagram_prepare(PyObject *self, const char *operation, PyObject *flags,
                           ipv4b_datagram *d);

/* Takes the buffer of the argument `field`, which the caller releases. Returns 0, or -1 with TypeError or
 * ValueError. */
int ipv4b_datagram_buffer(PyObject *object, Py_buffer *view, const char *field, bool writable);

/* Receives into the first `count` iovecs. Returns the datagram's length, or -1 with an exception. */
Py_ssize_t ipv4b_datagram_receive(PyObject *self, ipv4b_datagram *d, size_t count);

/* Ends a read. With `lost`, the result could not be made: the datagram stays for the next read. */
void ipv4b_datagram_settle(PyObject *self, ipv4b_datagram *d, bool lost);

/* The control message that came with the datagram, or None. New, or NULL with an exception. */
PyObject *ipv4b_datagram_control(PyObject *self, const ipv4b_datagram *d);

/* Marshals the control_message argument. Returns its length, or -1 with an exception. */
int ipv4b_datagram_marshal(PyObject *self, ipv4b_datagram *d, PyObject *control);

/* Sends the first `count` iovecs to d->name, or to the connected peer. Returns `len`, what the caller gave,
 * as an int; a datagram goes out whole, so that it can be made before: for want of memory nothing is
 * sent. */
PyObject *ipv4b_datagram_send(PyObject *self, ipv4b_datagram *d, size_t count, bool has_name,
                              size_t control_len, Py_ssize_t len);

#endif
