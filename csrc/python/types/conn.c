/* conn.c - the type Conn: see conn.h. */
#include "python/types/conn.h"

#include <structmember.h>
#include <sys/stat.h>

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/io/life.h"
#include "python/io/waiting.h"
#include "python/options/sockopt.h"
#include "python/values/addr.h"

/* What a descriptor is that is no socket. */
static const char *
file_kind(int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0) {
        return "not open";
    }
    return S_ISREG(status.st_mode)    ? "a regular file"
           : S_ISDIR(status.st_mode)  ? "a directory"
           : S_ISFIFO(status.st_mode) ? "a pipe"
           : S_ISCHR(status.st_mode)  ? "a character device"
                                      : "no socket";
}

static const char *
type_name(int type)
{
    return type == SOCK_STREAM  ? "SOCK_STREAM"
           : type == SOCK_DGRAM ? "SOCK_DGRAM"
           : type == SOCK_RAW   ? "SOCK_RAW"
                                : "another type";
}

/* Finds out what the descriptor is and refuses a wrong one. Returns 0, or -1 with ValueError or
 * OSError. */
static int
conn_inspect(ipv4b_conn_object *self, int fd, unsigned int types, const char *wanted)
{
    const char *name = ipv4b_type_name(Py_TYPE(self));
    int domain = ipv4b_socket_domain(fd);
    int protocol = domain < 0 ? 0 : ipv4b_socket_protocol(fd);
    int type = 0;
    socklen_t len = sizeof type;

    if (domain == -ENOTSOCK || domain == -EBADF) {
        PyErr_Format(PyExc_ValueError, "%s: %s is required; descriptor %d is %s", name, wanted, fd,
                     file_kind(fd));
        return -1;
    }
    if (domain < 0 || protocol < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (domain != AF_INET) {
        PyErr_Format(PyExc_ValueError, "%s: %s is required; descriptor %d is a socket of %s (%d)",
                     name, wanted, fd,
                     domain == AF_INET6  ? "AF_INET6"
                     : domain == AF_UNIX ? "AF_UNIX"
                                         : "another family",
                     domain);
        return -1;
    }
    if (type < 0 || type > 31 || !(types & 1U << type)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: %s is required; descriptor %d is an AF_INET socket of "
                     "%s (%d)",
                     name, wanted, fd, type_name(type), type);
        return -1;
    }
    self->descriptor.type = type;
    self->descriptor.protocol = protocol;
    return 0;
}

/* The socket's own timeout; for a descriptor without an object, 0 or None by its O_NONBLOCK. */
static int
conn_inherit_timeout(ipv4b_conn_object *self, int fd)
{
    PyObject *timeout = NULL;
    int flags, r;

    if (self->descriptor.sock != NULL) {
        timeout = PyObject_GetAttr(self->descriptor.sock, self->state->str_gettimeout);
        if (timeout == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    if (timeout != NULL) {
        Py_SETREF(timeout, PyObject_CallNoArgs(timeout));
        r = timeout == NULL ? -1
                            : ipv4b_seconds_parse(timeout, "timeout", 0, &self->waiting.timeout);
        Py_XDECREF(timeout);
        return r;
    }
    flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->waiting.timeout = flags & O_NONBLOCK ? 0 : IPV4B_FOREVER;
    return 0;
}

static int
conn_init_locked(PyObject *op, PyObject *sock, unsigned int types, const char *wanted)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    long long number;
    int fd;

    if (self->state != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a connection is initialised once");
        return -1;
    }
    self->state = ipv4b_state_of(Py_TYPE(op));
    if (self->state == NULL) {
        return -1;
    }
    self->life.forks = ipv4b_forks();
    if (PyIndex_Check(sock)) {
        if (ipv4b_parse_int(sock, "sock", 0, INT_MAX, &number) < 0) {
            return -1;
        }
        self->descriptor.fd = (int)number;
    }
    else {
        self->descriptor.fileno = PyObject_GetAttr(sock, self->state->str_fileno);
        if (self->descriptor.fileno == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        if (self->descriptor.fileno == NULL) {
            PyErr_Format(
                PyExc_TypeError,
                "sock: a socket, an object with fileno() or an int is required, not %.100s",
                Py_TYPE(sock)->tp_name);
            return -1;
        }
        if (!PyCFunction_Check(self->descriptor.fileno) ||
            PyCFunction_GET_FLAGS(self->descriptor.fileno) != METH_NOARGS) {
            Py_CLEAR(self->descriptor.fileno);
        }
        self->descriptor.sock = Py_NewRef(sock);
        self->descriptor.fd = -1;
    }
    self->life.open = true;
    fd = ipv4b_conn_peek_fileno(self);
    if (fd == -1) {
        PyErr_Format(PyExc_ValueError, "%s: %s is required; this one is closed",
                     ipv4b_type_name(Py_TYPE(op)), wanted);
    }
    if (fd < 0 || conn_inspect(self, fd, types, wanted) < 0 || conn_inherit_timeout(self, fd) < 0) {
        self->life.open = false;
        return -1;
    }
    self->waiting.deadline[IPV4B_READ] = self->waiting.deadline[IPV4B_WRITE] = IPV4B_FOREVER;
    return 0;
}

int
ipv4b_conn_init(PyObject *op, PyObject *args, PyObject *kwargs, unsigned int types,
                const char *wanted)
{
    static char *names[] = {"sock", NULL};
    PyObject *sock;
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &sock)) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(op);
    r = conn_init_locked(op, sock, types, wanted);
    Py_END_CRITICAL_SECTION();
    return r;
}

static int
conn_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return ipv4b_conn_init(self, args, kwargs, ~0U, "an AF_INET socket");
}

static int
conn_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((ipv4b_conn_object *)self)->descriptor.sock);
    Py_VISIT(((ipv4b_conn_object *)self)->descriptor.fileno);
    return 0;
}

static int
conn_clear(PyObject *op)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;

    self->life.open = false;
    Py_CLEAR(self->descriptor.sock);
    Py_CLEAR(self->descriptor.fileno);
    return 0;
}

/* The program owns the socket: a connection that is dropped does not close it. */
static void
conn_dealloc(PyObject *op)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)conn_clear(op);
    /* Calls that are left are those of a fork's parent. At the interpreter's end the module's
     * state may be gone. */
    ipv4b_conn_forget_calls(self);
    ipv4b_scratch_free(&self->batches.scratch[IPV4B_READ]);
    ipv4b_scratch_free(&self->batches.scratch[IPV4B_WRITE]);
    ipv4b_gso_plan_free(self->sending.plan);
    ipv4b_forward_scratch_free(self->batches.forward);
    ipv4b_tx_request_free(self->stamping.request);
    free(self->sending.refusals);
    ipv4b_gro_free(self->receiving.queue);
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(conn_close_doc,
             "close($self, /)\n--\n\n"
             "Close the connection and the socket that it was made from; a descriptor given as an\n"
             "int is left open. Calls that wait in other threads end with OSError EBADF, and the last\n"
             "of them to end closes the socket. Closing again does nothing.");

static PyObject *
conn_close(PyObject *op, PyObject *Py_UNUSED(unused))
{
    int r;

    Py_BEGIN_CRITICAL_SECTION(op);
    r = ipv4b_conn_close((ipv4b_conn_object *)op);
    Py_END_CRITICAL_SECTION();
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(conn_fileno_doc, "fileno($self, /)\n--\n\n"
                              "The descriptor as an int, -1 when the connection is closed.");

static PyObject *
conn_fileno_method(PyObject *self, PyObject *Py_UNUSED(unused))
{
    int fd;

    Py_BEGIN_CRITICAL_SECTION(self);
    fd = ipv4b_conn_peek_fileno((ipv4b_conn_object *)self);
    Py_END_CRITICAL_SECTION();
    return fd == -2 ? NULL : PyLong_FromLong(fd);
}

static PyObject *
conn_enter(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return Py_NewRef(self);
}

static PyObject *
conn_exit(PyObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    const ipv4b_state *state = ((ipv4b_conn_object *)self)->state;

    /* A subclass may have a close() of its own. */
    return state == NULL ? conn_close(self, NULL)
                         : PyObject_CallMethodNoArgs(self, state->str_close);
}

/* The endpoint as a tuple, or None. New, or NULL with an exception. */
static PyObject *
endpoint_locked(ipv4b_conn_object *self, bool remote)
{
    const char *operation = remote ? "getpeername" : "getsockname";
    int fd = ipv4b_conn_fileno(self, operation);
    struct sockaddr_in name;
    int r;

    if (fd < 0) {
        return NULL;
    }
    r = ipv4b_conn_endpoint(self, fd, remote, &name);
    if (r == -ENOTCONN) {
        Py_RETURN_NONE;
    }
    if (r < 0) {
        (void)ipv4b_conn_raise(self, operation, -r);
        return NULL;
    }
    return ipv4b_endpoint_tuple(&name);
}

static PyObject *
conn_get_endpoint(PyObject *op, void *closure)
{
    PyObject *tuple;

    Py_BEGIN_CRITICAL_SECTION(op);
    tuple = endpoint_locked((ipv4b_conn_object *)op, closure != NULL);
    Py_END_CRITICAL_SECTION();
    return tuple;
}

static PyObject *
conn_repr(PyObject *op)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    const char *name = Py_TYPE(op)->tp_name;
    PyObject *where = NULL, *repr = NULL;
    int fd;

    Py_BEGIN_CRITICAL_SECTION(op);
    fd = ipv4b_conn_peek_fileno(self);
    if (fd != -2) {
        where = ipv4b_conn_describe(self, fd, true);
    }
    Py_END_CRITICAL_SECTION();
    if (where != NULL) {
        repr = fd < 0 ? PyUnicode_FromFormat("<%s %U closed>", name, where)
                      : PyUnicode_FromFormat("<%s %U fd=%d>", name, where, fd);
        Py_DECREF(where);
    }
    return repr;
}

static PyMemberDef conn_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ipv4b_conn_object, weakrefs), READONLY, NULL},
    {0},
};

static PyGetSetDef conn_getset[] = {
    {"local_addr", conn_get_endpoint, NULL,
     "The local end as a (host, port) tuple (getsockname(2)); the port is 0 on raw sockets.", NULL},
    {"remote_addr", conn_get_endpoint, NULL,
     "The peer of a connected socket as a (host, port) tuple (getpeername(2)), or None.",
     (void *)1},
    {"timeout", ipv4b_conn_get_timeout, ipv4b_conn_set_timeout,
     "How long a call waits: seconds as a float, 0.0 for not at all, None for ever.\n\n"
     "It starts as the socket's own, and counts from the next call on. A wait that is too long\n"
     "raises TimeoutError, and one that is not allowed BlockingIOError.",
     NULL},
    {"tos", ipv4b_sockopt_get, ipv4b_sockopt_set,
     "Type of service of what is sent: DSCP and ECN, 0 to 255 (IP_TOS, ip(7)). On a TCP socket\n"
     "the kernel keeps the two ECN bits to itself.",
     (void *)&ipv4b_opt_tos},
    {"ttl", ipv4b_sockopt_get, ipv4b_sockopt_set,
     "Time to live of unicast that is sent, 1 to 255 hops (IP_TTL, ip(7)).",
     (void *)&ipv4b_opt_ttl},
    {0},
};

static PyMethodDef conn_methods[] = {
    {"close", conn_close, METH_NOARGS, conn_close_doc},
    {"set_deadline", ipv4b_conn_set_deadline, METH_O, ipv4b_set_deadline_doc},
    {"set_read_deadline", ipv4b_conn_set_read_deadline, METH_O, ipv4b_set_read_deadline_doc},
    {"set_write_deadline", ipv4b_conn_set_write_deadline, METH_O, ipv4b_set_write_deadline_doc},
    {"fileno", conn_fileno_method, METH_NOARGS, conn_fileno_doc},
    {"__enter__", conn_enter, METH_NOARGS, NULL},
    {"__exit__", IPV4B_METHOD(conn_exit), METH_FASTCALL, NULL},
    {0},
};

PyDoc_STRVAR(conn_doc,
             "Conn(sock)\n--\n\n"
             "IP-level access to an IPv4 socket of any type, TCP too.\n\n"
             "sock is a socket.socket or another object with fileno(), which is kept and asked at\n"
             "every call; or an int, a descriptor that is borrowed and never closed. Raises\n"
             "TypeError or ValueError that says what the argument is instead. A connection is a\n"
             "context manager that closes itself.");

static PyType_Slot conn_slots[] = {
    {Py_tp_doc, (void *)conn_doc},           IPV4B_SLOT(Py_tp_init, conn_init),
    IPV4B_SLOT(Py_tp_dealloc, conn_dealloc), IPV4B_SLOT(Py_tp_traverse, conn_traverse),
    IPV4B_SLOT(Py_tp_clear, conn_clear),     IPV4B_SLOT(Py_tp_repr, conn_repr),
    {Py_tp_members, conn_members},           {Py_tp_getset, conn_getset},
    {Py_tp_methods, conn_methods},           {0, NULL},
};

PyType_Spec ipv4b_conn_spec = {
    .name = "ipv4batch.Conn",
    .basicsize = sizeof(ipv4b_conn_object),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = conn_slots,
};
