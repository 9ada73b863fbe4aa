/* pacing.c - see pacing.h. */
#include "python/options/pacing.h"

#include "python/base/args.h"
#include "python/options/sockopt.h"

/* The kernel takes an unsigned long since Linux 4.20, and all ones for no limit (sk_setsockopt,
 * net/core/sock.c). */
#define NO_LIMIT (~0UL)

PyObject *
ipv4b_max_pacing_rate_get(PyObject *self, void *Py_UNUSED(closure))
{
    unsigned long rate = NO_LIMIT;
    socklen_t len = sizeof rate;

    if (ipv4b_getsockopt((ipv4b_conn_object *)self, "max_pacing_rate", SOL_SOCKET,
                         IPV4B_SO_MAX_PACING_RATE, &rate, &len) < 0) {
        return NULL;
    }
    return rate == NO_LIMIT ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(rate);
}

int
ipv4b_max_pacing_rate_set(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long rate = NO_LIMIT;
    long long number;

    if (ipv4b_check_set(value, "max_pacing_rate") < 0) {
        return -1;
    }
    if (value != Py_None) {
        if (ipv4b_parse_int(value, "max_pacing_rate", 1, LONG_MAX, &number) < 0) {
            return -1;
        }
        rate = (unsigned long)number;
    }
    return ipv4b_setsockopt((ipv4b_conn_object *)self, "max_pacing_rate", SOL_SOCKET,
                            IPV4B_SO_MAX_PACING_RATE, &rate, sizeof rate);
}
