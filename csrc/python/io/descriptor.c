/* descriptor.c - see descriptor.h. */
#include "python/io/descriptor.h"

#include "python/base/errors.h"
#include "python/io/life.h"
#include "python/values/addr.h"

static PyObject *
conn_network(const ipv4b_conn_object *self)
{
    switch (self->descriptor.type) {
    case SOCK_DGRAM:
        return self->descriptor.protocol == IPPROTO_UDP || self->descriptor.protocol == 0
                   ? PyUnicode_FromString("udp4")
                   : PyUnicode_FromFormat("dgram4:%d", self->descriptor.protocol);
    case SOCK_RAW:
        return PyUnicode_FromFormat("ip4:%d", self->descriptor.protocol);
    case SOCK_STREAM:
        return self->descriptor.protocol == IPPROTO_TCP || self->descriptor.protocol == 0
                   ? PyUnicode_FromString("tcp4")
                   : PyUnicode_FromFormat("stream4:%d", self->descriptor.protocol);
    default:
        return PyUnicode_FromFormat("type%d:%d", self->descriptor.type, self->descriptor.protocol);
    }
}

int
ipv4b_conn_endpoint(const ipv4b_conn_object *self, int fd, bool remote, struct sockaddr_in *out)
{
    socklen_t len = sizeof *out;

    memset(out, 0, sizeof *out);
    if ((remote ? getpeername(fd, (struct sockaddr *)out, &len)
                : getsockname(fd, (struct sockaddr *)out, &len)) < 0) {
        return -errno;
    }
    if (self->descriptor.type == SOCK_RAW) {
        out->sin_port = 0; /* Linux gives the protocol number here */
    }
    return 0;
}

PyObject *
ipv4b_conn_describe(const ipv4b_conn_object *self, int fd, bool remote)
{
    PyObject *text = conn_network(self);

    for (int end = 0; text != NULL && fd >= 0 && end <= (remote ? 1 : 0); end++) {
        struct sockaddr_in name;
        char host[INET_ADDRSTRLEN];

        if (ipv4b_conn_endpoint(self, fd, end == 1, &name) < 0) {
            break;
        }
        (void)ipv4b_addr_text(name.sin_addr, host);
        Py_SETREF(text, PyUnicode_FromFormat("%U%s%s", text, end == 0 ? " " : "->", host));
        if (text != NULL && self->descriptor.type != SOCK_RAW) {
            Py_SETREF(text, PyUnicode_FromFormat("%U:%d", text, ntohs(name.sin_port)));
        }
    }
    return text;
}

int
ipv4b_conn_peek_fileno(ipv4b_conn_object *self)
{
    PyObject *number;
    long fd;

    ipv4b_conn_check_fork(self);
    if (!self->life.open) {
        return -1;
    }
    if (self->descriptor.sock == NULL) {
        return self->descriptor.fd;
    }
    /* A direct call of a C method saves a tenth of a call's instructions. */
    number = self->descriptor.fileno != NULL
                 ? PyCFunction_GET_FUNCTION(self->descriptor.fileno)(
                       PyCFunction_GET_SELF(self->descriptor.fileno), NULL)
                 : PyObject_CallMethodNoArgs(self->descriptor.sock, self->state->str_fileno);
    if (number == NULL) {
        return -2;
    }
    fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -2;
    }
    if (fd > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "fileno(): %ld is no descriptor", fd);
        return -2;
    }
    /* That may have run Python code that closed the connection. */
    return fd < 0 || !self->life.open ? -1 : (int)fd;
}

static int
raise_text(ipv4b_conn_object *self, const char *operation, int err, const char *text)
{
    int fd = ipv4b_conn_peek_fileno(self);
    PyObject *where, *what;

    if (fd == -2) {
        PyErr_Clear(); /* the first error matters more: its text has no address then */
    }
    where = ipv4b_conn_describe(self, fd, false);
    what = where == NULL ? NULL : PyUnicode_FromFormat("%s %U", operation, where);
    (void)ipv4b_raise_os(err, text, what);
    Py_XDECREF(where);
    Py_XDECREF(what);
    return -1;
}

int
ipv4b_conn_raise(ipv4b_conn_object *self, const char *operation, int err)
{
    return raise_text(self, operation, err, NULL);
}

int
ipv4b_conn_raise_closed(ipv4b_conn_object *self, const char *operation)
{
    return raise_text(self, operation, EBADF, "The connection is closed");
}

int
ipv4b_conn_raise_timeout(ipv4b_conn_object *self, ipv4b_direction direction)
{
    return raise_text(self, direction == IPV4B_READ ? "read" : "write", ETIMEDOUT, "timed out");
}

int
ipv4b_conn_fileno(ipv4b_conn_object *self, const char *operation)
{
    int fd = ipv4b_conn_peek_fileno(self);

    if (fd == -1) {
        return ipv4b_conn_raise_closed(self, operation);
    }
    return fd < 0 ? -1 : fd;
}
