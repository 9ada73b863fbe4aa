/* found.c - see found.h. */
#include "python/options/found.h"

#include "python/base/locks.h"
#include "python/io/descriptor.h"
#include "python/options/offload.h"

/* An option with which no call would do what it promises. */
typedef struct {
    const char *name;
    int level;
    int option; /* negative where the platform lacks it */
    const char *why;
} refused_option;

static const refused_option refused_options[] = {
    {"UDP_SEGMENT", IPPROTO_UDP, IPV4B_UDP_SEGMENT,
     "the kernel would cut up every datagram; set it to 0, and use gso or "
     "ControlMessage(segment_size=...)"},
    {"UDP_CORK", IPPROTO_UDP, IPV4B_UDP_CORK,
     "the kernel would join the messages to one datagram; set it to 0"},
};

/* Reads an option. Returns it, 0 where the socket has no such option, or -errno. */
static int
read_option(int fd, int level, int option)
{
    int value = 0;
    socklen_t len = sizeof value;

    if (option < 0) {
        return 0;
    }
    if (getsockopt(fd, level, option, &value, &len) < 0) {
        return errno == ENOPROTOOPT || errno == EOPNOTSUPP || errno == EINVAL ? 0 : -errno;
    }
    return value;
}

/* Returns 0, or -1 with ValueError or OSError. */
static int
refuse(ipv4b_conn_object *self, int fd, const refused_option *o)
{
    int value = read_option(fd, o->level, o->option);

    if (value == 0) {
        return 0;
    }
    if (value < 0) {
        return ipv4b_conn_raise(self, "getsockopt", -value);
    }
    PyErr_Format(PyExc_ValueError, "%s: %s of the socket is %d, and %s",
                 ipv4b_type_name(Py_TYPE((PyObject *)self)), o->name, value, o->why);
    return -1;
}

/* IP_HDRINCL is what makes a RawConn. Sockets of IPPROTO_RAW have it from the start (raw(7)). */
static int
take_header(ipv4b_conn_object *self, int fd, bool own_header)
{
    static const refused_option header = {
        "IP_HDRINCL", IPPROTO_IP, IP_HDRINCL,
        "the kernel takes an IPv4 header for the start of what is sent; set it to 0, or use "
        "RawConn"};
    int on = 1;

    if (self->descriptor.type != SOCK_RAW) {
        return 0;
    }
    if (!own_header) {
        return refuse(self, fd, &header);
    }
    if (setsockopt(fd, IPPROTO_IP, IP_HDRINCL, &on, sizeof on) < 0) {
        return ipv4b_conn_raise(self, "setsockopt IP_HDRINCL", errno);
    }
    self->options.header_included = true;
    return 0;
}

static int
take_over_locked(ipv4b_conn_object *self, bool own_header)
{
    int fd = ipv4b_conn_fileno(self, "getsockopt");
    unsigned int flags = 0;
    int r;

    if (fd < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof refused_options / sizeof refused_options[0]; i++) {
        if (refuse(self, fd, &refused_options[i]) < 0) {
            return -1;
        }
    }
    if (take_header(self, fd, own_header) < 0) {
        return -1;
    }
    r = read_option(fd, IPPROTO_IP, IPV4B_IP_RECVERR);
    if (r >= 0) {
        self->options.recv_errors = r > 0;
        r = ipv4b_ancillary_found(fd, &flags);
    }
    if (r < 0) {
        return ipv4b_conn_raise(self, "getsockopt", -r);
    }
    self->options.kernel_flags = flags;
    self->options.control_flags = flags & ~(unsigned int)IPV4B_CM_SEGMENT;
    return flags & IPV4B_CM_SEGMENT ? ipv4b_gro_take_over(self) : 0;
}

int
ipv4b_found_take_over(PyObject *op, bool own_header)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    int r;

    Py_BEGIN_CRITICAL_SECTION(op);
    r = take_over_locked(self, own_header);
    if (r < 0) {
        self->life.open = false;
    }
    Py_END_CRITICAL_SECTION();
    return r;
}
