/* multicast.c - interfaces and groups: see multicast.h for the locking rule. */
#include "python/options/multicast.h"

#include <ifaddrs.h>
#include <net/if.h>

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/options/sockopt.h"
#include "python/values/addr.h"

/* A name -> its index; 0 if no interface has it. Returns 0, or -1 with ValueError. */
static int
interface_by_name(PyObject *name, unsigned int *index)
{
    PyObject *bytes = PyUnicode_EncodeFSDefault(name);

    if (bytes == NULL) {
        return -1;
    }
    if (strlen(PyBytes_AS_STRING(bytes)) != (size_t)PyBytes_GET_SIZE(bytes)) {
        PyErr_Format(PyExc_ValueError, "interface: %R is no name", name);
        Py_DECREF(bytes);
        return -1;
    }
    *index = if_nametoindex(PyBytes_AS_STRING(bytes));
    Py_DECREF(bytes);
    return 0;
}

/* An interface as an index from 1, a name, or None for the system's choice (0). Returns 0, or -1
 * with TypeError, ValueError, or OSError ENODEV for a name that no interface has. */
static int
interface_parse(ipv4b_conn_object *self, const char *operation, PyObject *value,
                unsigned int *index)
{
    long long number;

    if (value == Py_None) {
        *index = 0;
        return 0;
    }
    if (PyUnicode_Check(value)) {
        if (interface_by_name(value, index) < 0) {
            return -1;
        }
        if (*index == 0) {
            Py_BEGIN_CRITICAL_SECTION(self);
            (void)ipv4b_conn_raise(self, operation, ENODEV);
            Py_END_CRITICAL_SECTION();
            return -1;
        }
        return 0;
    }
    if (!PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError, "interface: an index, a name or None is required, not %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    if (ipv4b_parse_int(value, "interface", 1, INT_MAX, &number) < 0) {
        return -1;
    }
    *index = (unsigned int)number;
    return 0;
}

/* The index of the interface that has this address, 0 if none has. */
static unsigned int
interface_of_addr(struct in_addr addr)
{
    struct ifaddrs *all, *one;
    unsigned int index = 0;

    if (getifaddrs(&all) < 0) {
        return 0;
    }
    for (one = all; one != NULL && index == 0; one = one->ifa_next) {
        if (one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET) {
            struct sockaddr_in name;

            memcpy(&name, one->ifa_addr, sizeof name);
            if (name.sin_addr.s_addr == addr.s_addr) {
                index = if_nametoindex(one->ifa_name);
            }
        }
    }
    freeifaddrs(all);
    return index;
}

PyObject *
ipv4b_multicast_interface_get(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    unsigned int index = IPV4B_LOAD_RELAXED(self->options.multicast_ifindex);
    struct in_addr addr = {0};
    socklen_t len = sizeof addr;

    /* The kernel gives an address only, and none for an interface that was set by its index
     * (do_ip_getsockopt, net/ipv4/ip_sockglue.c): what was set here is remembered here. */
    if (ipv4b_getsockopt(self, "multicast_interface", IPPROTO_IP, IP_MULTICAST_IF, &addr, &len) <
        0) {
        return NULL;
    }
    if (addr.s_addr != 0) {
        index = interface_of_addr(addr);
    }
    if (index == 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(index);
}

int
ipv4b_multicast_interface_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    struct ip_mreqn request = {.imr_ifindex = 0};
    unsigned int index;
    int r;

    if (ipv4b_check_set(value, "multicast_interface") < 0 ||
        interface_parse(self, "multicast_interface", value, &index) < 0) {
        return -1;
    }
    request.imr_ifindex = (int)index;
    Py_BEGIN_CRITICAL_SECTION(self);
    r = ipv4b_setsockopt_locked(self, "multicast_interface", IPPROTO_IP, IP_MULTICAST_IF, &request,
                                sizeof request);
    if (r == 0) {
        IPV4B_STORE_RELAXED(self->options.multicast_ifindex, index);
    }
    Py_END_CRITICAL_SECTION();
    return r;
}

/* An address argument of a membership call in the form that the kernel wants. Returns 0, or -1 with
 * an exception. */
static int
member_parse(const ipv4b_conn_object *self, PyObject *value, const char *field, bool group,
             struct sockaddr_storage *out)
{
    struct sockaddr_in name = {.sin_family = AF_INET};

    if (ipv4b_addr_parse(self->state, value, field, &name.sin_addr) < 0) {
        return -1;
    }
    if (IN_MULTICAST(ntohl(name.sin_addr.s_addr)) != group) {
        PyErr_Format(PyExc_ValueError, "%s: %R is %s multicast group", field, value,
                     group ? "no" : "a");
        return -1;
    }
    memset(out, 0, sizeof *out);
    memcpy(out, &name, sizeof name);
    return 0;
}

/* What all six calls do: (interface, group) or (interface, group, source). */
static PyObject *
membership(PyObject *op, const char *operation, int option, bool with_source, PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"interface", "group", NULL};
    static const char *const names_with_source[] = {"interface", "group", "source", NULL};
    const ipv4b_signature signature = {operation, with_source ? names_with_source : names,
                                       with_source ? 3 : 2};
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    PyObject *values[3] = {NULL};
    struct group_source_req request;
    struct group_req plain;
    unsigned int index;
    int r;

    memset(&request, 0, sizeof request);
    memset(&plain, 0, sizeof plain);
    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        ipv4b_check_open(self, operation) < 0 ||
        interface_parse(self, operation, values[0], &index) < 0 ||
        member_parse(self, values[1], "group", true, &request.gsr_group) < 0 ||
        (with_source && member_parse(self, values[2], "source", false, &request.gsr_source) < 0)) {
        return NULL;
    }
    request.gsr_interface = index;
    if (with_source) {
        r = ipv4b_setsockopt(self, operation, IPPROTO_IP, option, &request, sizeof request);
    }
    else {
        plain.gr_interface = index;
        plain.gr_group = request.gsr_group;
        r = ipv4b_setsockopt(self, operation, IPPROTO_IP, option, &plain, sizeof plain);
    }
    if (r < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

#define MEMBERSHIP(method, option, with_source)                                                    \
    PyObject *ipv4b_##method(PyObject *self, PyObject *const *args, Py_ssize_t nargs,              \
                             PyObject *kwnames)                                                    \
    {                                                                                              \
        return membership(self, #method, option, with_source, args, nargs, kwnames);               \
    }

MEMBERSHIP(join_group, MCAST_JOIN_GROUP, false)
MEMBERSHIP(leave_group, MCAST_LEAVE_GROUP, false)
MEMBERSHIP(join_source_specific_group, MCAST_JOIN_SOURCE_GROUP, true)
MEMBERSHIP(leave_source_specific_group, MCAST_LEAVE_SOURCE_GROUP, true)
MEMBERSHIP(exclude_source_specific_group, MCAST_BLOCK_SOURCE, true)
MEMBERSHIP(include_source_specific_group, MCAST_UNBLOCK_SOURCE, true)
