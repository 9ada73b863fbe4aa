/* flush.h - from the outbox to the kernel: what waits goes out, and what becomes of it is told.
 *
 * Locking: see core.h.
 */
#ifndef IPV4B_AIO_FLUSH_H
#define IPV4B_AIO_FLUSH_H

#include "python/aio/core.h"

/* Datagrams of one hand-over: two of the longest runs, and few enough slots for the stack. */
enum { IPV4B_TOGETHER_BYTES = 128 * 1024, IPV4B_TOGETHER = 256 };

/* Hands over what waits. Returns 0, or -1 with an exception of a callback or a signal handler. */
int ipv4b_core_flush(ipv4b_core_object *self);

/* Hands over one datagram, without waiting. Returns 1, or -1 with *error; then an exception is set,
 * but for EAGAIN. *foreign says that it is not the datagram's. */
int ipv4b_core_send_one(ipv4b_core_object *self, const struct msghdr *h, int *error, bool *foreign);

/* Which errno is waited for. */
ipv4b_blocked ipv4b_core_blocked_by(int error);

/* The first tells the transport of the exception that is set, the second of the report of an
 * earlier datagram. Return 0, or -1 with an exception of the transport's method. */
int ipv4b_core_report_failure(ipv4b_core_object *self);
int ipv4b_core_report_late(ipv4b_core_object *self);

/* Has the loop call end_turn. Until then datagrams wait for more of the same iteration. */
void ipv4b_core_begin_turn(ipv4b_core_object *self);

/* Methods of a core. */
PyObject *ipv4b_core_flush_method(PyObject *self, PyObject *unused);
PyObject *ipv4b_core_end_turn(PyObject *self, PyObject *unused);
PyObject *ipv4b_core_discard(PyObject *self, PyObject *unused);
extern const char ipv4b_core_flush_doc[];
extern const char ipv4b_core_end_turn_doc[];
extern const char ipv4b_core_discard_doc[];

#endif
