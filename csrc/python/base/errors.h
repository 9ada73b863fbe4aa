/* errors.h - the one place that turns an errno into an exception.
 *
 * Locking: the GIL.
 */
#ifndef IPV4B_ERRORS_H
#define IPV4B_ERRORS_H

#include "python/base/state.h"

/* The exception itself, new, or NULL with another one set; the arguments are those below, `what` not
 * NULL. */
PyObject *ipv4b_os_error(int err, const char *text, PyObject *what);

/* Raises the OSError subclass of `err` (positive): "[Errno 111] Connection refused: 'write udp4
 * 127.0.0.1:9'". `what` (BORROWED, may be NULL after a failure to make it, which then is the
 * exception) becomes the exception's filename; `text` replaces strerror's unless it is NULL.
 * Returns -1. */
int ipv4b_raise_os(int err, const char *text, PyObject *what);

#endif
