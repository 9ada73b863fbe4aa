/* segmentation.c - offload as attributes of a connection: see segmentation.h for the locking
 * rule. */
#include "segmentation.h"

#include <sched.h>

#include "ancillary.h"
#include "args.h"
#include "errors.h"
#include "sockopt.h"

int
ipv4b_request_control(ipv4b_conn_object *self, const char *operation, unsigned int flags,
                      unsigned int changed, bool gro)
{
    unsigned int coalesce = gro ? IPV4B_CM_SEGMENT : 0;
    int fd = ipv4b_conn_fileno(self, operation);
    int r;

    if (fd < 0) {
        return -1;
    }
    r = ipv4b_ancillary_request(fd, flags | coalesce, changed, &self->kernel_flags);
    self->control_flags = r < 0 ? self->kernel_flags & (flags | ~coalesce) : flags;
    if (r == -ENOPROTOOPT && IPV4B_UDP_GRO < 0) {
        PyErr_Format(PyExc_NotImplementedError, "%s: this platform has not all of flags 0x%x",
                     operation, flags | coalesce);
        return -1;
    }
    return r < 0 ? ipv4b_conn_raise(self, operation, -r) : 0;
}

PyObject *
ipv4b_gso_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((ipv4b_conn_object *)self)->gso);
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
    /* Reading the option tells whether the socket and the kernel know it; it is never set, since
     * that would cut up every datagram. */
    if (on && ipv4b_getsockopt(self, "gso", IPPROTO_UDP, IPV4B_UDP_SEGMENT, &unused, &len) < 0) {
        return -1;
    }
    self->gso = on;
    self->gso_error = 0;
    return 0;
}

PyObject *
ipv4b_gso_error_get(PyObject *op, void *Py_UNUSED(closure))
{
    const ipv4b_conn_object *self = (ipv4b_conn_object *)op;

    PyObject *what, *error;

    if (self->gso_error == 0) {
        Py_RETURN_NONE;
    }
    what = PyUnicode_FromString("UDP_SEGMENT");
    error = what == NULL ? NULL : ipv4b_os_error(self->gso_error, NULL, what);
    Py_XDECREF(what);
    return error;
}

PyObject *
ipv4b_gro_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((ipv4b_conn_object *)self)->gro);
}

int
ipv4b_gro_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    int on;

    if (ipv4b_check_set(value, "gro") < 0 || (on = PyObject_IsTrue(value)) < 0 ||
        ipv4b_conn_fileno(self, "gro") < 0) {
        return -1;
    }
    if (!on) {
        self->gro = false;
        return 0;
    }
    if (self->queue == NULL) {
        self->queue = ipv4b_gro_new();
        if (self->queue == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    /* Reads that begin now go through the queue. Those that are past that point are not waiting,
     * and are let out before the first coalesced datagram can come, which would not fit into a
     * message. */
    self->gro = true;
    while (self->plain_reads > 0) {
        Py_BEGIN_ALLOW_THREADS(void)
        sched_yield();
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            self->gro = false;
            return -1;
        }
    }
    if (ipv4b_request_control(self, "gro", self->control_flags, IPV4B_CM_SEGMENT, true) < 0) {
        self->gro = false;
        return -1;
    }
    self->coalescing = true;
    return 0;
}

PyObject *
ipv4b_pending_get(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;

    ipv4b_conn_check_fork(self);
    return PyLong_FromSize_t(self->queue == NULL ? 0 : ipv4b_gro_pending(self->queue));
}
