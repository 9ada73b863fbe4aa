/* write_paced.h - the method write_paced: messages that leave on a schedule.
 *
 * Locking: see message.h (pins) and conn.h.
 */
#ifndef IPV4B_WRITE_PACED_H
#define IPV4B_WRITE_PACED_H

#include "python/base/state.h"

PyObject *ipv4b_write_paced(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
extern const char ipv4b_write_paced_doc[];

#endif
