/* multicast.c - interfaces and groups: see multicast.h for the locking rule. */
#include "python/options/multicast.h"

#include <ifaddrs.h>
#include <net/if.h>

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/options/sockopt.h"
#include "python/values/addr.h"

/* Finds the index of a name, or 0 if no interface has it. Returns 0, or -1 with ValueError. */
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

/* How many interfaces have this address; *index is that of the last one. */
static int
interfaces_of_addr(struct in_addr addr, unsigned int *index)
{
    struct ifaddrs *all, *one;
    int count = 0;

    *index = 0;
    if (getifaddrs(&all) < 0) {
        return 0;
    }
    for (one = all; one != NULL; one = one->ifa_next) {
        if (one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET) {
            struct sockaddr_in name;
            unsigned int found;

            memcpy(&name, one->ifa_addr, sizeof name);
            found = name.sin_addr.s_addr == addr.s_addr ? if_nametoindex(one->ifa_name) : 0;
            if (found != 0) {
                count += found != *index;
                *index = found;
            }
        }
    }
    freeifaddrs(all);
    return count;
}

/* Raises OSError ENODEV that names the interface. Returns -1. */
static int
raise_unknown(ipv4b_conn_object *self, const char *operation, PyObject *value)
{
    PyObject *text = PyUnicode_FromFormat("%s interface %S", operation, value);
    const char *named = text == NULL ? NULL : PyUnicode_AsUTF8(text);

    if (named != NULL) {
        Py_BEGIN_CRITICAL_SECTION(self);
        (void)ipv4b_conn_raise(self, named, ENODEV);
        Py_END_CRITICAL_SECTION();
    }
    Py_XDECREF(text);
    return -1;
}

/* An interface by one of its addresses. Returns 0, or -1 with ValueError or OSError ENODEV. */
static int
interface_by_addr(ipv4b_conn_object *self, const char *operation, PyObject *value,
                  unsigned int *index)
{
    struct in_addr addr;
    PyObject *text;
    int count;

    if (ipv4b_addr_parse(self->state, value, "interface", &addr) < 0) {
        return -1;
    }
    count = interfaces_of_addr(addr, index);
    if (count == 1) {
        return 0;
    }
    text = ipv4b_addr_str(addr);
    if (text != NULL && count == 0) {
        (void)raise_unknown(self, operation, text);
    }
    else if (text != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "interface: %U is an address of %d interfaces; give an index or a name", text,
                     count);
    }
    Py_XDECREF(text);
    return -1;
}

/* Whether a text or an object is an IPv4 address, and no name or index. */
static bool
is_address(const ipv4b_state *state, PyObject *value)
{
    struct in_addr addr;
    const char *text;

    if (PyBytes_Check(value) || PyByteArray_Check(value)) {
        return true; /* 4 packed bytes, or an error that says so */
    }
    if (!PyUnicode_Check(value)) {
        return PyObject_IsInstance(value, state->ipv4address) > 0;
    }
    text = PyUnicode_AsUTF8(value);
    PyErr_Clear();
    return text != NULL && inet_pton(AF_INET, text, &addr) == 1;
}

/* An interface as an index from 1, a name, one of its addresses, or None for the system's choice (0).
 * Returns 0, or -1 with TypeError, ValueError, or OSError ENODEV for a name or an address that no
 * interface has. */
static int
interface_parse(ipv4b_conn_object *self, const char *operation, PyObject *value,
                unsigned int *index)
{
    long long number;

    *index = 0;
    if (value == Py_None) {
        return 0;
    }
    if (PyUnicode_Check(value) && interface_by_name(value, index) < 0) {
        return -1;
    }
    if (*index != 0) {
        return 0;
    }
    if (is_address(self->state, value)) {
        return interface_by_addr(self, operation, value, index);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (PyUnicode_Check(value)) {
        return raise_unknown(self, operation, value);
    }
    if (!PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError,
                     "interface: an index, a name, an address or None is required, not %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    if (ipv4b_parse_int(value, "interface", 1, INT_MAX, &number) < 0) {
        return -1;
    }
    *index = (unsigned int)number;
    return 0;
}

/* Adds to the OSError that setsockopt has raised. Returns -1. */
static int
explain(ipv4b_conn_object *self, const char *operation, PyObject *interface, unsigned int index)
{
    PyObject *type, *error, *traceback, *result;
    int number = 0;
    char name[IF_NAMESIZE];

    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    result = PyObject_GetAttrString(error, "errno");
    if (result != NULL) {
        number = (int)PyLong_AsLong(result);
        Py_DECREF(result);
    }
    if ((number == ENODEV || number == EADDRNOTAVAIL) && index != 0 &&
        if_indextoname(index, name) == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return raise_unknown(self, operation, interface);
    }
    PyErr_Clear();
    if (number == ENOBUFS) {
        result = PyObject_CallMethod(error, "add_note", "s",
                                     "A socket can join net.ipv4.igmp_max_memberships groups, "
                                     "usually 20 (ip(7)).");
        Py_XDECREF(result);
        PyErr_Clear(); /* the error has no note then */
    }
    PyErr_Restore(type, error, traceback);
    return -1;
}

PyObject *
ipv4b_multicast_interface_get(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    unsigned int index = IPV4B_LOAD_RELAXED(self->options.multicast_ifindex);
    struct in_addr addr = {0};
    socklen_t len = sizeof addr;

    /* The kernel reports an address only, and none for an interface that was set by its index
     * (do_ip_getsockopt, net/ipv4/ip_sockglue.c). So the connection remembers what it has set. */
    if (ipv4b_getsockopt(self, "multicast_interface", IPPROTO_IP, IP_MULTICAST_IF, &addr, &len) <
        0) {
        return NULL;
    }
    if (addr.s_addr != 0) {
        (void)interfaces_of_addr(addr, &index);
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
    return r < 0 ? explain(self, "multicast_interface", value, index) : 0;
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

/* All six calls: (interface, group) or (interface, group, source). */
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
        (void)explain(self, operation, values[0], index);
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
