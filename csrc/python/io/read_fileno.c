/* read_fileno.c - see read_fileno.h. */
#include "python/io/read_fileno.h"

#include "python/base/locks.h"
#include "python/io/descriptor.h"

const char ipv4b_read_fileno_doc[] =
    "read_fileno($self, /)\n--\n\n"
    "A descriptor that is readable while a read would not wait, for select(), selectors, asyncio "
    "and\n"
    "trio.\n\n"
    "With gro on, the connection receives datagrams into a queue of its own, and a poll of "
    "fileno()\n"
    "does not see those. This descriptor is readable while the queue or the socket has something. "
    "It\n"
    "is also readable while an error waits, as fileno() is: with recv_errors on, until "
    "read_errors\n"
    "has taken it. It is an epoll descriptor (epoll(7)): never writable, no socket, made at the "
    "first\n"
    "call, the same at each call, closed by close(). The child of a fork calls this method "
    "again.\n\n"
    "Raises OSError EBADF on a closed connection and NotImplementedError elsewhere than on Linux.";

/* The descriptor, or -1 with an exception. */
static int
read_fileno_locked(ipv4b_conn_object *self)
{
    static const char operation[] = "read_fileno";
    int fd = ipv4b_conn_fileno(self, operation); /* may run Python code: before anything is made */
    int r = 0;

    if (fd < 0) {
        return -1;
    }
    if (self->receiving.readable == NULL) {
        r = ipv4b_readable_new(&self->receiving.readable);
    }
    if (r == 0) {
        ipv4b_conn_announce(self);
        r = ipv4b_readable_fd(self->receiving.readable, fd);
    }
    if (r == -ENOSYS) {
        PyErr_SetString(PyExc_NotImplementedError, "read_fileno: this platform has no epoll");
        return -1;
    }
    return r < 0 ? ipv4b_conn_raise(self, operation, -r) : r;
}

PyObject *
ipv4b_read_fileno(PyObject *self, PyObject *Py_UNUSED(unused))
{
    int fd;

    Py_BEGIN_CRITICAL_SECTION(self);
    fd = read_fileno_locked((ipv4b_conn_object *)self);
    Py_END_CRITICAL_SECTION();
    return fd < 0 ? NULL : PyLong_FromLong(fd);
}
