/* icmp.h - the type ICMPFilter: which ICMP types a raw socket is spared (raw(7)).
 *
 * Locking: none; a filter is one word, which is read and changed in one step.
 */
#ifndef IPV4B_ICMP_H
#define IPV4B_ICMP_H

#include "python/base/state.h"

extern PyType_Spec ipv4b_icmpfilter_spec;

/* A getter and a setter for a connection's attribute icmp_filter. */
PyObject *ipv4b_icmp_filter_get(PyObject *self, void *closure);
int ipv4b_icmp_filter_set(PyObject *self, PyObject *value, void *closure);

#endif
