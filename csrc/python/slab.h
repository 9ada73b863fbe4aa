/* slab.h - many messages on one slab of memory: the module function new_messages.
 *
 * Locking: none; all that it makes is its own until it returns.
 */
#ifndef IPV4B_SLAB_H
#define IPV4B_SLAB_H

#include "state.h"

PyObject *ipv4b_new_messages(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
extern const char ipv4b_new_messages_doc[];

#endif
