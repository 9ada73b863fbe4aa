/* message_type.h - the type Message.
 *
 * Locking: see message.h.
 */
#ifndef IPV4B_MESSAGE_TYPE_H
#define IPV4B_MESSAGE_TYPE_H

#include "python/message/message.h"

extern PyType_Spec ipv4b_message_spec;

/* Which of the buffers is read-only, for an error: "buffers[2]", "oob". With the message locked. */
PyObject *ipv4b_message_readonly_field(const ipv4b_message_object *m);

#endif
