/* write_all.h - the methods that send every message and tell what became of each.
 *
 * Locking: see message.h (pins) and conn.h.
 */
#ifndef IPV4B_WRITE_ALL_H
#define IPV4B_WRITE_ALL_H

#include "python/io/batch.h"

/* What the argument `errors` asks for, NULL for none given; or NULL with ValueError. */
const ipv4b_batch_kind *ipv4b_write_kind(PyObject *errors);

PyObject *ipv4b_write_all(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);
PyObject *ipv4b_forward(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
extern const char ipv4b_write_all_doc[];
extern const char ipv4b_forward_doc[];

#endif
