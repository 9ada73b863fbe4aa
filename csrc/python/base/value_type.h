/* value_type.h - what value types share: Header and ControlMessage are described by their table of
 * attributes, one for each parameter of the constructor and in the same order.
 *
 * Locking: values, repr and comparison copy the object's value while they hold its lock, and so tell
 * of one moment.
 */
#ifndef IPV4B_VALUE_TYPE_H
#define IPV4B_VALUE_TYPE_H

#include "python/base/state.h"

typedef struct {
    PyGetSetDef *fields;
    int count;
    size_t offset; /* the C struct inside the object that holds all values, and no object */
    size_t size;
} ipv4b_record;

/* Sets each attribute that has a value (BORROWED, NULL for none), from the last to the first.
 * STEALS self and returns it, or NULL with the setter's exception. NULL in gives NULL out. */
PyObject *ipv4b_record_fill(const ipv4b_record *record, PyObject *self, PyObject *const *values);

/* The attributes' values as a new tuple: what copy and pickle hand to __new__. */
PyObject *ipv4b_record_values(const ipv4b_record *record, PyTypeObject *type, PyObject *self);

/* "Name(attribute=value, ...)" with the attributes that are true or not as in a new object of
 * `type`, so that the text makes an equal object. */
PyObject *ipv4b_record_repr(const ipv4b_record *record, PyTypeObject *type, PyObject *self);

/* == and != of two objects of `type` or its subclasses, attribute by attribute. */
PyObject *ipv4b_record_compare(const ipv4b_record *record, PyTypeObject *type, PyObject *self,
                               PyObject *other, int op);

#endif
