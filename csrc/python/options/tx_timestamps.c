/* tx_timestamps.c - see tx_timestamps.h. */
#include "python/options/tx_timestamps.h"

#include "core/device.h"
#include "core/tx_request.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/io/descriptor.h"

PyObject *
ipv4b_tx_timestamps_get(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(IPV4B_LOAD_RELAXED(((ipv4b_conn_object *)self)->stamping.kinds));
}

/* Has the socket report stamps, once. Each message asks for its own, so the option itself asks for none, and
 * stays when no more are wanted: a call of another thread may be under way that asks. What the socket was set
 * to for what it receives stays too. Returns 0, or -1 with OSError. */
static int
report(ipv4b_conn_object *self, int fd)
{
    const int sent = IPV4B_TX_HARDWARE | IPV4B_TX_SOFTWARE | IPV4B_TX_SCHED | IPV4B_TX_ACK;
    int flags = 0;
    socklen_t len = sizeof flags;

    if (getsockopt(fd, SOL_SOCKET, IPV4B_SO_TIMESTAMPING, &flags, &len) == 0) {
        /* Without the filter what is received comes with one more control item, for which there may be no
         * room. */
        flags =
            flags == 0 ? IPV4B_TX_REPORT | IPV4B_TX_RX_FILTER : (flags & ~sent) | IPV4B_TX_REPORT;
        if (setsockopt(fd, SOL_SOCKET, IPV4B_SO_TIMESTAMPING, &flags, sizeof flags) == 0) {
            return 0;
        }
    }
    return ipv4b_conn_raise(self, "tx_timestamps", errno);
}

/* Returns 0, or -1 with NotImplementedError or OSError. */
static int
check_ids(void)
{
    int r = ipv4b_tx_request_probe();

    if (r == 0) {
        PyErr_SetString(PyExc_NotImplementedError,
                        "tx_timestamps: this kernel has no ids for them (Linux 6.13 has)");
    }
    else if (r < 0) {
        errno = -r;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return r > 0 ? 0 : -1;
}

/* Asks the devices. Returns 0, or -1 with NotImplementedError or OSError. */
static int
check_hardware(ipv4b_conn_object *self, int fd)
{
    char name[IF_NAMESIZE];
    int r = ipv4b_device_stamps(fd, name);

    if (r == 0) {
        PyErr_Format(PyExc_NotImplementedError,
                     "tx_timestamps: HARDWARE: %s does not stamp what it sends",
                     name[0] == 0 ? "no device" : name);
    }
    else if (r < 0) {
        (void)ipv4b_conn_raise(self, "tx_timestamps", -r);
    }
    return r > 0 ? 0 : -1;
}

static int
set_locked(ipv4b_conn_object *self, unsigned int kinds)
{
    int fd = ipv4b_conn_fileno(self, "tx_timestamps");

    if (fd < 0 || ((kinds & IPV4B_STAMP_HARDWARE) && check_hardware(self, fd) < 0) ||
        (kinds != 0 && report(self, fd) < 0)) {
        return -1;
    }
    IPV4B_STORE_RELAXED(self->stamping.kinds, kinds);
    self->stamping.asked = self->stamping.asked || kinds != 0;
    return 0;
}

int
ipv4b_tx_timestamps_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    long long kinds;
    int r;

    if (ipv4b_check_set(value, "tx_timestamps") < 0 ||
        ipv4b_parse_int(value, "tx_timestamps", 0, IPV4B_STAMP_ALL, &kinds) < 0) {
        return -1;
    }
    if (IPV4B_SCM_TS_OPT_ID < 0) {
        PyErr_SetString(PyExc_NotImplementedError, "tx_timestamps: this platform has none");
        return -1;
    }
    if (kinds != 0 && check_ids() < 0) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(op);
    r = set_locked((ipv4b_conn_object *)op, (unsigned int)kinds);
    Py_END_CRITICAL_SECTION();
    return r;
}
