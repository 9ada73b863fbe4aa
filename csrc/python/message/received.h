/* received.h - what a received message's control data is good for: the methods control_message,
 * reply and segments.
 *
 * Locking: the message's lock while its control data is read; see message.h.
 */
#ifndef IPV4B_RECEIVED_H
#define IPV4B_RECEIVED_H

#include "python/base/state.h"

PyObject *ipv4b_message_control(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames);
PyObject *ipv4b_message_reply(PyObject *self, PyObject *data);
PyObject *ipv4b_message_segments(PyObject *self, PyObject *unused);
extern const char ipv4b_message_control_doc[];
extern const char ipv4b_message_reply_doc[];
extern const char ipv4b_message_segments_doc[];

#endif
