/* recv_errors.c - see recv_errors.h. */
#include "python/options/recv_errors.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/options/sockopt.h"

PyObject *
ipv4b_recv_errors_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)self)->options.recv_errors));
}

int
ipv4b_recv_errors_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    int on, r;

    if (ipv4b_check_set(value, "recv_errors") < 0 || (on = PyObject_IsTrue(value)) < 0) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    r = ipv4b_setsockopt_locked(self, "recv_errors", IPPROTO_IP, IPV4B_IP_RECVERR, &on, sizeof on);
    if (r == 0) {
        IPV4B_STORE_RELAXED(self->options.recv_errors, on != 0);
    }
    Py_END_CRITICAL_SECTION();
    return r;
}
