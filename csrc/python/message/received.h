/* received.h - what was received into a message: its payload (data, view), its control data, the reply to
 * it, and its segments.
 *
 * Locking: the message's lock while it is read; see message.h.
 */
#ifndef IPV4B_RECEIVED_H
#define IPV4B_RECEIVED_H

#include "python/message/message.h"

/* How many bytes of the buffers the last call moved, with the message locked: n can be more, with
 * MSG_TRUNC or after a change of buffers. */
size_t ipv4b_message_filled(const ipv4b_message_object *m);

/* The getters of `data`, a copy of the bytes that were moved, and of `view`, a memoryview of them in a
 * message of one buffer. */
PyObject *ipv4b_message_data(PyObject *self, void *closure);
PyObject *ipv4b_message_view(PyObject *self, void *closure);

PyObject *ipv4b_message_control(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames);
PyObject *ipv4b_message_reply(PyObject *self, PyObject *data);
PyObject *ipv4b_message_segments(PyObject *self, PyObject *unused);
extern const char ipv4b_message_control_doc[];
extern const char ipv4b_message_reply_doc[];
extern const char ipv4b_message_segments_doc[];

#endif
