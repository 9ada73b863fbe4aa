/* header.h - the type Header, a Python view of core's ipv4b_iphdr, and the functions parse_header
 * and checksum.
 *
 * Locking: the object's lock, whenever `value` is copied or changed: it is read from a copy.
 */
#ifndef IPV4B_HEADER_H
#define IPV4B_HEADER_H

#include "python/base/state.h"

#include "core/iphdr.h"

typedef struct {
    PyObject_HEAD
    ipv4b_iphdr value;
} ipv4b_header_object;

extern PyType_Spec ipv4b_header_spec;

/* What a Header holds at this moment. */
ipv4b_iphdr ipv4b_header_value(PyObject *self);

/* A new Header from the start of a packet, or NULL with an exception. */
PyObject *ipv4b_header_from(ipv4b_state *state, const void *bytes, size_t len);

/* Raises the ValueError for what ipv4b_iphdr_marshal refused; `prefix` stands before the
 * attribute's name. */
void ipv4b_header_raise_marshal(int err, const char *prefix);

PyObject *ipv4b_parse_header(PyObject *module, PyObject *b);
extern const char ipv4b_parse_header_doc[];

PyObject *ipv4b_checksum_function(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames);
extern const char ipv4b_checksum_doc[];

#endif
