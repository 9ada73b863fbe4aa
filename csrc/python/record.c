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

/* Whether a repr has to tell a value: a number, str, bytes or None, whose truth cannot fail. */
static int
is_telling(PyObject *value, PyObject *initial)
{
    return PyObject_IsTrue(value) ||
           (value != initial && PyObject_RichCompareBool(value, initial, Py_NE));
}

PyObject *
ipv4b_record_repr(const ipv4b_record *record, PyTypeObject *type, PyObject *self)
{
    PyObject *fresh = PyObject_CallNoArgs((PyObject *)type);
    PyObject *initial = fresh == NULL ? NULL : ipv4b_record_values(record, fresh);
    PyObject *values = initial == NULL ? NULL : ipv4b_record_values(record, self);
    PyObject *repr =
        values == NULL ? NULL : PyUnicode_FromFormat("%s(", ipv4b_type_name(Py_TYPE(self)));
    const char *separator = "";

    for (int i = 0; repr != NULL && i < record->count; i++) {
        PyObject *value = PyTuple_GET_ITEM(values, i);

        if (is_telling(value, PyTuple_GET_ITEM(initial, i))) {
            Py_SETREF(repr, PyUnicode_FromFormat("%U%s%s=%R", repr, separator,
                                                 record->fields[i].name, value));
            separator = ", ";
        }
    }
    if (repr != NULL) {
        Py_SETREF(repr, PyUnicode_FromFormat("%U)", repr));
    }
    Py_XDECREF(fresh);
    Py_XDECREF(initial);
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
