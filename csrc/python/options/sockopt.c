/* sockopt.c - socket options as attributes: see sockopt.h for the locking rule. */
#include "python/options/sockopt.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"

const ipv4b_sockopt ipv4b_opt_tos = {"tos", IPPROTO_IP, IP_TOS, 0, 255, false};
const ipv4b_sockopt ipv4b_opt_ttl = {"ttl", IPPROTO_IP, IP_TTL, 1, 255, false};
const ipv4b_sockopt ipv4b_opt_mtu_discover = {
    "mtu_discover", IPPROTO_IP, IPV4B_IP_MTU_DISCOVER, 0, 5, false};
const ipv4b_sockopt ipv4b_opt_mtu = {"mtu", IPPROTO_IP, IPV4B_IP_MTU, 0, INT_MAX, false};
const ipv4b_sockopt ipv4b_opt_multicast_ttl = {
    "multicast_ttl", IPPROTO_IP, IP_MULTICAST_TTL, 0, 255, false};
const ipv4b_sockopt ipv4b_opt_multicast_loopback = {
    "multicast_loopback", IPPROTO_IP, IP_MULTICAST_LOOP, 0, 1, true};

const ipv4b_sockopt ipv4b_opt_multicast_all = {
    "multicast_all", IPPROTO_IP, IPV4B_IP_MULTICAST_ALL, 0, 1, true};

/* The descriptor for an option's system call, or -1 with an exception. */
static int
option_fileno(ipv4b_conn_object *self, const char *operation, int option)
{
    int fd = ipv4b_conn_fileno(self, operation);

    if (fd >= 0 && option < 0) {
        PyErr_Format(PyExc_NotImplementedError, "%s: this platform has no such option", operation);
        return -1;
    }
    return fd;
}

int
ipv4b_check_open(ipv4b_conn_object *self, const char *operation)
{
    int fd;

    Py_BEGIN_CRITICAL_SECTION(self);
    fd = ipv4b_conn_fileno(self, operation);
    Py_END_CRITICAL_SECTION();
    return fd < 0 ? -1 : 0;
}

int
ipv4b_getsockopt(ipv4b_conn_object *self, const char *operation, int level, int option, void *value,
                 socklen_t *len)
{
    int fd, r = -1;

    Py_BEGIN_CRITICAL_SECTION(self);
    fd = option_fileno(self, operation, option);
    if (fd >= 0) {
        r = getsockopt(fd, level, option, value, len) < 0 ? ipv4b_conn_raise(self, operation, errno)
                                                          : 0;
    }
    Py_END_CRITICAL_SECTION();
    return r;
}

int
ipv4b_setsockopt(ipv4b_conn_object *self, const char *operation, int level, int option,
                 const void *value, size_t len)
{
    int r;

    Py_BEGIN_CRITICAL_SECTION(self);
    r = ipv4b_setsockopt_locked(self, operation, level, option, value, len);
    Py_END_CRITICAL_SECTION();
    return r;
}

int
ipv4b_setsockopt_locked(ipv4b_conn_object *self, const char *operation, int level, int option,
                        const void *value, size_t len)
{
    int fd = option_fileno(self, operation, option);

    if (fd < 0) {
        return -1;
    }
    return setsockopt(fd, level, option, value, (socklen_t)len) < 0
               ? ipv4b_conn_raise(self, operation, errno)
               : 0;
}

PyObject *
ipv4b_sockopt_get(PyObject *self, void *closure)
{
    const ipv4b_sockopt *opt = closure;
    int value = 0;
    socklen_t len = sizeof value;

    if (ipv4b_getsockopt((ipv4b_conn_object *)self, opt->name, opt->level, opt->option, &value,
                         &len) < 0) {
        return NULL;
    }
    return opt->boolean ? PyBool_FromLong(value) : PyLong_FromLong(value);
}

int
ipv4b_sockopt_set(PyObject *self, PyObject *value, void *closure)
{
    const ipv4b_sockopt *opt = closure;
    long long number;
    int native;

    if (ipv4b_check_set(value, opt->name) < 0) {
        return -1;
    }
    if (opt->boolean) {
        native = PyObject_IsTrue(value);
        if (native < 0) {
            return -1;
        }
    }
    else {
        if (ipv4b_parse_int(value, opt->name, opt->min, opt->max, &number) < 0) {
            return -1;
        }
        native = (int)number;
    }
    return ipv4b_setsockopt((ipv4b_conn_object *)self, opt->name, opt->level, opt->option, &native,
                            sizeof native);
}
