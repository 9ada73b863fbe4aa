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

/* Nothing, or one bytes object, or a row of buffers. A bytes object needs no Py_buffer: its memory stays where
 * it is for as long as it lives. */
typedef struct {
    PyObject *bytes;
    ipv4b_buffers *row;
} ipv4b_held;

/* Lets go what is held. Runs the exporters' code. */
void ipv4b_held_release(ipv4b_held *held);

/* The objects as a tuple. New, or NULL with MemoryError. */
PyObject *ipv4b_held_objects(const ipv4b_held *held);

/* BORROWED. The first object, or NULL where nothing is held. */
static inline PyObject *
ipv4b_held_first(const ipv4b_held *held)
{
    return held->row == NULL ? held->bytes : PyTuple_GET_ITEM(held->row->objects, 0);
}

int ipv4b_held_traverse(const ipv4b_held *held, visitproc visit, void *arg);

/* The first n bytes over all iovecs, n at most what they hold, as new bytes, or NULL with
 * MemoryError. */
PyObject *ipv4b_iov_join(const struct iovec *iov, size_t n);

/* A memoryview of bytes (format "B") over an exporter's memory from `start` to `stop`, or NULL with
 * an exception. */
PyObject *ipv4b_byte_view(PyObject *exporter, Py_ssize_t start, Py_ssize_t stop);

/* memoryview[start:stop] of one that only the caller has. */
PyObject *ipv4b_view_part(PyObject *memoryview, Py_ssize_t start, Py_ssize_t stop);

/* memoryview[start:stop] of one of bytes. */
PyObject *ipv4b_slice(PyObject *memoryview, Py_ssize_t start, Py_ssize_t stop);

#endif
