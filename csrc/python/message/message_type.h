/* message_type.h - the type Message.
 *
 * Locking: see message.h.
 */
#ifndef IPV4B_MESSAGE_TYPE_H
#define IPV4B_MESSAGE_TYPE_H

#include "python/message/message.h"

extern PyType_Spec ipv4b_message_spec;

/* tp_vectorcall of the type, which a spec has no slot for before Python 3.14. Subclasses do not inherit it. */
PyObject *ipv4b_message_call(PyObject *type, PyObject *const *args, size_t nargsf,
                             PyObject *kwnames);

#endif
