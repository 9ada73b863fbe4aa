/* buffers.h - a row of Python buffers that is held as one, with the iovecs for the kernel.
 *
 * Locking: the GIL. The memory that the iovecs name stays where it is until ipv4b_buffers_free.
 */
#ifndef IPV4B_BUFFERS_H
#define IPV4B_BUFFERS_H

#include "python/base/state.h"

#include "core/sysdep.h"

/* A Py_buffer must not move once it is filled in, so the array is in the block for good; the iovecs
 * follow it. */
typedef struct ipv4b_buffers {
    PyObject *objects; /* a tuple, as given */
    Py_ssize_t count;  /* views that are held */
    struct iovec *iov;
    bool readonly;
    Py_buffer views[];
} ipv4b_buffers;

/* Holds the buffers of a tuple's objects. New, or NULL with TypeError, ValueError or what an
 * exporter raised; `field` names the row in the text, "field[1]" a buffer of it if they are
 * numbered. */
ipv4b_buffers *ipv4b_buffers_new(PyObject *tuple, const char *field, bool numbered);

/* Releases the buffers; NULL is allowed. Runs the exporters' code. */
void ipv4b_buffers_free(ipv4b_buffers *b);

/* Bytes over all buffers. */
size_t ipv4b_buffers_size(const ipv4b_buffers *b);

/* The first n bytes over all buffers, n at most the size, as new bytes, or NULL with
 * MemoryError. */
PyObject *ipv4b_buffers_join(const ipv4b_buffers *b, size_t n);

/* A memoryview of bytes (format "B") over an exporter's memory from `start` to `stop`, or NULL with
 * an exception. */
PyObject *ipv4b_byte_view(PyObject *exporter, Py_ssize_t start, Py_ssize_t stop);

/* memoryview[start:stop] of one that only the caller has: asks no exporter. */
PyObject *ipv4b_view_part(PyObject *memoryview, Py_ssize_t start, Py_ssize_t stop);

/* memoryview[start:stop] of one of bytes. */
PyObject *ipv4b_slice(PyObject *memoryview, Py_ssize_t start, Py_ssize_t stop);

int ipv4b_buffers_traverse(const ipv4b_buffers *b, visitproc visit, void *arg);

#endif
