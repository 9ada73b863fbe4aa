/* filter.h - the method set_bpf: classic BPF programs on a socket (Linux, networking/filter.rst).
 *
 * Locking: none; the program belongs to the call.
 */
#ifndef IPV4B_FILTER_H
#define IPV4B_FILTER_H

#include "python/base/state.h"

PyObject *ipv4b_set_bpf(PyObject *self, PyObject *program);
extern const char ipv4b_set_bpf_doc[];

#endif
