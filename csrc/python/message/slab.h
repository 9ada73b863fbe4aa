/* slab.h - many messages on one slab of memory: the module function new_messages.
 *
 * The slab is an object of its own, since a bytearray counts those who use it, and CPython 3.13 does
 * that without a lock. Locking: none; all that new_messages makes is its own until it returns, and
 * the slab stays as it is.
 */
#ifndef IPV4B_SLAB_H
#define IPV4B_SLAB_H

#include "python/base/state.h"

extern PyType_Spec ipv4b_slab_spec;

PyObject *ipv4b_new_messages(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
extern const char ipv4b_new_messages_doc[];

/* Makes the buffers of a message of new_messages that Python sees, unless they are there. Returns 0, or -1 with
 * MemoryError. */
int ipv4b_slab_show(PyObject *message);

#endif
