/* value_type.c - see value_type.h. */
#include "python/base/value_type.h"

#include "python/base/locks.h"

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

/* A new object of `type` with the value that self has now. */
static PyObject *
record_copy(const ipv4b_record *record, PyTypeObject *type, PyObject *self)
{
    PyObject *copy = type->tp_alloc(type, 0);

    if (copy != NULL) {
        Py_BEGIN_CRITICAL_SECTION(self);
        memcpy((char *)copy + record->offset, (char *)self + record->offset, record->size);
        Py_END_CRITICAL_SECTION();
    }
    return copy;
}

PyObject *
ipv4b_record_values(const ipv4b_record *record, PyTypeObject *type, PyObject *self)
{
    PyObject *copy = record_copy(record, type, self);
    PyObject *values = copy == NULL ? NULL : PyTuple_New(record->count);

    for (int i = 0; values != NULL && i < record->count; i++) {
        PyObject *value = record->fields[i].get(copy, record->fields[i].closure);

        if (value == NULL) {
            Py_CLEAR(values);
        }
        else {
            PyTuple_SET_ITEM(values, i, value);
        }
    }
    Py_XDECREF(copy);
    return values;
}

/* Whether a repr shows a value: a number, str, bytes or None, whose truth value cannot fail. */
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
    PyObject *initial = fresh == NULL ? NULL : ipv4b_record_values(record, type, fresh);
    PyObject *values = initial == NULL ? NULL : ipv4b_record_values(record, type, self);
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
    a = ipv4b_record_values(record, type, self);
    b = ipv4b_record_values(record, type, other);
    if (a != NULL && b != NULL) {
        result = PyObject_RichCompare(a, b, op);
    }
    Py_XDECREF(a);
    Py_XDECREF(b);
    return result;
}
