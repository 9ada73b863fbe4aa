/* fields.h - what a message is made of: its buffers, its control buffer and its peer, as attributes.
 *
 * Locking: see message.h.
 */
#ifndef IPV4B_FIELDS_H
#define IPV4B_FIELDS_H

#include "python/message/message.h"

/* A message of `type` without buffers and peer. New, or NULL with MemoryError. */
PyObject *ipv4b_message_create(PyTypeObject *type);

/* Sets buffers, oob and addr, as far as they have a value. Returns 0, or -1 with an exception. */
int ipv4b_message_set(PyObject *self, PyObject *const values[3]);

/* A message with these buffers and this control buffer (NULL for none) to an endpoint. New, or NULL with an
 * exception. */
PyObject *ipv4b_message_new(ipv4b_state *state, PyObject *buffers, PyObject *oob,
                            const struct sockaddr_in *name);

/* Getters and setters. */
PyObject *ipv4b_message_buffers(PyObject *self, void *closure);
int ipv4b_message_set_buffers(PyObject *self, PyObject *value, void *closure);
PyObject *ipv4b_message_oob(PyObject *self, void *closure);
int ipv4b_message_set_oob(PyObject *self, PyObject *value, void *closure);
PyObject *ipv4b_message_addr(PyObject *self, void *closure);
int ipv4b_message_set_addr(PyObject *self, PyObject *value, void *closure);

/* The tuple for the peer of m, which is locked, or None. New, or NULL with an exception. */
PyObject *ipv4b_message_peer(ipv4b_message_object *m);

/* Which of the buffers is read-only, for an error: "buffers[2]", "oob". With the message locked. */
PyObject *ipv4b_message_readonly_field(const ipv4b_message_object *m);

#endif
