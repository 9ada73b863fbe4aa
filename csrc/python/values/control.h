/* control.h - the type ControlMessage, a Python view of core's ipv4b_ancillary.
 *
 * Locking: the object's lock, whenever `value` is copied or changed: it is read from a copy.
 */
#ifndef IPV4B_CONTROL_H
#define IPV4B_CONTROL_H

#include "python/base/state.h"

#include "core/ancillary.h"

typedef struct {
    PyObject_HEAD
    ipv4b_ancillary value;
} ipv4b_control_object;

extern PyType_Spec ipv4b_control_spec;

/* What a ControlMessage holds at this moment. */
ipv4b_ancillary ipv4b_control_value(PyObject *self);

/* A new, empty ControlMessage, or NULL with an exception. */
ipv4b_control_object *ipv4b_control_new(ipv4b_state *state);

/* Raises the ValueError for a control buffer that ipv4b_ancillary_parse or ipv4b_cmsg_next refused
 * with `err` at byte `where`. `field` names the buffer. */
void ipv4b_control_raise(int err, size_t where, const char *field);

/* The ControlFlags argument of set_control_message, new_control_message and new_messages, which
 * `field` names. 0, or -1 with an exception. */
int ipv4b_control_flags_parse(PyObject *value, const char *field, unsigned int *out);

/* The module function new_control_message. */
PyObject *ipv4b_new_control_message(PyObject *module, PyObject *flags);
extern const char ipv4b_new_control_message_doc[];

#endif
