/* offload.c - offload as attributes of a connection: see offload.h for the locking
 * rule. */
#include "python/options/offload.h"

#include <sched.h>

#include "core/ancillary.h"
#include "python/base/args.h"
#include "python/base/errors.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/io/life.h"
#include "python/options/sockopt.h"
#include "python/values/addr.h"

/* Makes the kernel deliver `flags` (IPV4B_CM_*), of which those in `changed` are asked for anew,
 * and coalesced datagrams if `gro` is set. Returns 0 with control_flags changed; or -1 with
 * NotImplementedError or OSError, and control_flags saying what is on. */
static int
request_control(ipv4b_conn_object *self, const char *operation, int fd, unsigned int flags,
                unsigned int changed, bool gro)
{
    unsigned int coalesce = gro ? IPV4B_CM_SEGMENT : 0;
    int r;

    r = ipv4b_ancillary_request(fd, flags | coalesce, changed, &self->options.kernel_flags);
    IPV4B_STORE_RELAXED(self->options.control_flags,
                        r < 0 ? self->options.kernel_flags & (flags | ~coalesce) : flags);
    if (r == -ENOPROTOOPT && IPV4B_UDP_GRO < 0) {
        PyErr_Format(PyExc_NotImplementedError, "%s: this platform has not all of flags 0x%x",
                     operation, flags | coalesce);
        return -1;
    }
    return r < 0 ? ipv4b_conn_raise(self, operation, -r) : 0;
}

/* Returns 0, or -1 with MemoryError. */
static int
gro_make_queue(ipv4b_conn_object *self)
{
    if (self->receiving.queue == NULL) {
        self->receiving.queue = ipv4b_gro_new();
    }
    if (self->receiving.queue == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* The kernel coalesces from now on. */
static void
gro_note_coalescing(ipv4b_conn_object *self)
{
    self->receiving.coalescing = true;
    ipv4b_gro_keep_option(self->receiving.queue);
}

int
ipv4b_gro_take_over(ipv4b_conn_object *self)
{
    if (gro_make_queue(self) < 0) {
        return -1;
    }
    self->receiving.gro = true;
    gro_note_coalescing(self);
    return 0;
}

int
ipv4b_change_control(ipv4b_conn_object *self, unsigned int flags, bool on)
{
    static const char operation[] = "set_control_message";
    int fd =
        ipv4b_conn_fileno(self, operation); /* may run Python code, so before anything is read */
    unsigned int had = self->options.control_flags;

    if (fd < 0) {
        return -1;
    }
    /* The kernel may have coalesced datagrams that wait in the socket. Without the option
     * nothing could split them. */
    if (!on && (had & flags & IPV4B_CM_SEGMENT)) {
        if (gro_make_queue(self) < 0) {
            return -1;
        }
        gro_note_coalescing(self);
    }
    return request_control(self, operation, fd, on ? had | flags : had & ~flags, flags,
                           self->receiving.coalescing);
}

PyObject *
ipv4b_gso_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)self)->sending.gso));
}

int
ipv4b_gso_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    int unused = 0;
    socklen_t len = sizeof unused;
    int on;

    if (ipv4b_check_set(value, "gso") < 0 || (on = PyObject_IsTrue(value)) < 0) {
        return -1;
    }
    /* Reads the option to find out whether the socket and the kernel have it. It is never set,
     * because it would segment every datagram. */
    if (on && ipv4b_getsockopt(self, "gso", IPPROTO_UDP, IPV4B_UDP_SEGMENT, &unused, &len) < 0) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    IPV4B_STORE_RELAXED(self->sending.gso, on != 0);
    IPV4B_STORE_RELAXED(self->sending.gso_error, 0);
    free(self->sending.refusals);
    self->sending.refusals = NULL;
    Py_END_CRITICAL_SECTION();
    return 0;
}

PyObject *
ipv4b_gso_error_get(PyObject *op, void *Py_UNUSED(closure))
{
    int number = IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)op)->sending.gso_error);
    PyObject *what, *error;

    if (number == 0) {
        Py_RETURN_NONE;
    }
    what = PyUnicode_FromString("UDP_SEGMENT");
    error = what == NULL ? NULL : ipv4b_os_error(number, NULL, what);
    Py_XDECREF(what);
    return error;
}

/* (addr, errno) of a path that has refused; addr is None for the peer of a connected socket. New, or
 * NULL with MemoryError. */
static PyObject *
refusal_tuple(const ipv4b_refusal *refusal)
{
    PyObject *addr = refusal->name.sin_family == AF_INET ? ipv4b_endpoint_tuple(&refusal->name)
                                                         : Py_NewRef(Py_None);

    return addr == NULL ? NULL : Py_BuildValue("Ni", addr, refusal->error);
}

PyObject *
ipv4b_gso_refusals_get(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    /* A copy, because Python code can run while objects are made, and can write. */
    ipv4b_refusal *found = PyMem_Calloc(IPV4B_REFUSALS_MAX, sizeof *found);
    PyObject *list;
    size_t n = 0;

    if (found == NULL) {
        return PyErr_NoMemory();
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->sending.refusals != NULL) {
        n = ipv4b_refusals_list(self->sending.refusals, ipv4b_now(), found);
    }
    Py_END_CRITICAL_SECTION();
    list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject *tuple = refusal_tuple(&found[i]);

        if (tuple == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, tuple);
    }
    PyMem_Free(found);
    return list;
}

PyObject *
ipv4b_gro_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)self)->receiving.gro));
}

/* With the connection's lock: from now on reads go through the queue, or no longer do. Returns
 * 0, or -1 with OSError or MemoryError. */
static int
gro_switch(ipv4b_conn_object *self, bool on)
{
    if (ipv4b_conn_fileno(self, "gro") < 0) {
        return -1;
    }
    if (on && gro_make_queue(self) < 0) {
        return -1;
    }
    IPV4B_STORE_RELAXED(self->receiving.gro, on);
    return 0;
}

/* Waits for reads that go past the queue to end, before a coalesced datagram can come that does
 * not fit into a message. Returns 0, or -1 with a signal handler's exception. */
static int
gro_wait_for_plain_reads(ipv4b_conn_object *self)
{
    int plain_reads;

    for (;;) {
        Py_BEGIN_CRITICAL_SECTION(self);
        ipv4b_conn_check_fork(self);
        plain_reads = self->life.plain_reads;
        Py_END_CRITICAL_SECTION();
        if (plain_reads == 0) {
            return 0;
        }
        Py_BEGIN_ALLOW_THREADS(void)
        sched_yield();
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
}

int
ipv4b_gro_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    int on, r, fd;

    if (ipv4b_check_set(value, "gro") < 0 || (on = PyObject_IsTrue(value)) < 0) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    r = gro_switch(self, on != 0);
    Py_END_CRITICAL_SECTION();
    if (r < 0 || !on) {
        return r;
    }
    r = gro_wait_for_plain_reads(self);
    Py_BEGIN_CRITICAL_SECTION(self);
    fd = r < 0 ? -1 : ipv4b_conn_fileno(self, "gro");
    r = fd < 0
            ? -1
            : request_control(self, "gro", fd, self->options.control_flags, IPV4B_CM_SEGMENT, true);
    if (r == 0) {
        gro_note_coalescing(self);
    }
    else {
        IPV4B_STORE_RELAXED(self->receiving.gro, false);
    }
    Py_END_CRITICAL_SECTION();
    return r;
}

PyObject *
ipv4b_pending_get(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    size_t pending;

    Py_BEGIN_CRITICAL_SECTION(self);
    ipv4b_conn_check_fork(self);
    pending = ipv4b_unread_pending(&self->receiving.unread, ipv4b_conn_splits(self)) +
              (self->receiving.queue == NULL ? 0 : ipv4b_gro_pending(self->receiving.queue));
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(pending);
}
