/* record.c - see record.h. */
#include "record.h"

PyObject *
ipv4b_record_fill(const ipv4b_record *record, PyObject *self, PyObject *const *values)
{
    for (int i = record->count - 1; self != NULL && i >= 0; i--) {
        const PyGetSetDef *field = &record->fields[i];

        if (values[i] != NULL && field->set(self, values[i], field->closure) < 0) {
            Py_CLEAR(self);
        }
    }
    return self;
}

PyObject *
ipv4b_record_values(const ipv4b_record *record, PyObject *self)
{
    PyObject *values = PyTuple_New(record->count);

    for (int i = 0; values != NULL && i < record->count; i++) {
        PyObject *value = record->fields[i].get(self, record->fields[i].closure);

        if (value == NULL) {
            Py_CLEAR(values);
        }
        else {
            PyTuple_SET_ITEM(values, i, value);
        }
    }
    return values;
}

PyObject *
ipv4b_record_repr(const ipv4b_record *record, PyObject *self)
{
    PyObject *values = ipv4b_record_values(record, self);
    PyObject *repr = PyUnicode_FromFormat("%s(", ipv4b_type_name(Py_TYPE(self)));
    const char *separator = "";

    for (int i = 0; values != NULL && repr != NULL && i < record->count; i++) {
        PyObject *value = PyTuple_GET_ITEM(values, i);

        /* Numbers, strings, bytes and None: their truth cannot fail. */
        if (PyObject_IsTrue(value)) {
            Py_SETREF(repr, PyUnicode_FromFormat("%U%s%s=%R", repr, separator,
                                                 record->fields[i].name, value));
            separator = ", ";
        }
    }
    if (values == NULL) {
        Py_CLEAR(repr);
    }
    else if (repr != NULL) {
        Py_SETREF(repr, PyUnicode_FromFormat("%U)", repr));
    }
    Py_XDECREF(values);
    return repr;
}

PyObject *
ipv4b_record_compare(const ipv4b_record *record, PyTypeObject *type, PyObject *self,
                     PyObject *other, int op)
{
    PyObject *a, *b, *result = NULL;

    if ((op != Py_EQ && op != Py_NE) || !PyObject_TypeCheck(other, type)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    a = ipv4b_record_values(record, self);
    b = ipv4b_record_values(record, other);
    if (a != NULL && b != NULL) {
        result = PyObject_RichCompare(a, b, op);
    }
    Py_XDECREF(a);
    Py_XDECREF(b);
    return result;
}
