/* deliver.h - from the socket to the protocol: what a wake-up of the event loop brings.
 *
 * Locking: see core.h.
 */
#ifndef IPV4B_AIO_DELIVER_H
#define IPV4B_AIO_DELIVER_H

#include "python/base/state.h"

PyObject *ipv4b_core_read_ready(PyObject *self, PyObject *unused);
PyObject *ipv4b_core_read_again(PyObject *self, PyObject *unused);
PyObject *ipv4b_core_give_back(PyObject *self, PyObject *unused);
extern const char ipv4b_core_read_ready_doc[];
extern const char ipv4b_core_read_again_doc[];
extern const char ipv4b_core_give_back_doc[];

#endif
