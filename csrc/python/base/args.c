/* args.c - see args.h. */
#include "python/base/args.h"

static int
parse_keyword(const ipv4b_signature *sig, PyObject *key, PyObject *value, Py_ssize_t nargs,
              PyObject **out)
{
    if (!PyUnicode_Check(key)) {
        PyErr_Format(PyExc_TypeError, "%s() keywords must be strings", sig->function);
        return -1;
    }
    for (Py_ssize_t i = 0; sig->names[i] != NULL; i++) {
        /* The first character tells most of them apart, in less time. */
        if (PyUnicode_READ_CHAR(key, 0) == (Py_UCS4)sig->names[i][0] &&
            PyUnicode_CompareWithASCIIString(key, sig->names[i]) == 0) {
            if (i < nargs) {
                PyErr_Format(PyExc_TypeError, "%s() got two values for argument '%U'",
                             sig->function, key);
                return -1;
            }
            out[i] = value;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", sig->function,
                 key);
    return -1;
}

static int
check_count(const ipv4b_signature *sig, Py_ssize_t nargs)
{
    Py_ssize_t most = 0;

    while (sig->names[most] != NULL) {
        most++;
    }
    if (nargs > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments, %zd given", sig->function,
                     most, nargs);
        return -1;
    }
    return 0;
}

static int
check_required(const ipv4b_signature *sig, PyObject *const *values)
{
    for (int i = 0; i < sig->required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing argument '%s'", sig->function,
                         sig->names[i]);
            return -1;
        }
    }
    return 0;
}

int
ipv4b_parse_args_any(const ipv4b_signature *sig, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames, PyObject **out)
{
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);

    if (check_count(sig, nargs) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        out[i] = args[i];
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        if (parse_keyword(sig, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], nargs, out) < 0) {
            return -1;
        }
    }
    return check_required(sig, out);
}

int
ipv4b_parse_tuple(const ipv4b_signature *sig, PyObject *args, PyObject *kwargs, PyObject **out)
{
    Py_ssize_t nargs = PyTuple_GET_SIZE(args), at = 0;
    PyObject *key, *value;

    if (check_count(sig, nargs) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        out[i] = PyTuple_GET_ITEM(args, i);
    }
    while (kwargs != NULL && PyDict_Next(kwargs, &at, &key, &value)) {
        if (parse_keyword(sig, key, value, nargs, out) < 0) {
            return -1;
        }
    }
    return check_required(sig, out);
}

int
ipv4b_raise_no_buffer(PyObject *value, const char *field)
{
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "%s: a bytes-like object is required, not %.100s", field,
                     Py_TYPE(value)->tp_name);
    }
    else if (PyErr_ExceptionMatches(PyExc_BufferError)) {
        PyObject *type, *error, *traceback;

        PyErr_Fetch(&type, &error, &traceback);
        PyErr_Format(type, "%s: %S", field, error == NULL ? Py_None : error);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    return -1;
}

int
ipv4b_get_buffer(PyObject *value, const char *field, Py_buffer *view)
{
    return ipv4b_try_buffer(value, view) ? 0 : ipv4b_raise_no_buffer(value, field);
}

int
ipv4b_parse_int(PyObject *value, const char *field, long long low, long long high, long long *out)
{
    PyObject *index;
    long long number;
    int overflow;

    if (!PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s: an int is required, not %.100s", field,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    index = PyNumber_Index(value);
    if (index == NULL) {
        return -1;
    }
    number = PyLong_AsLongLongAndOverflow(index, &overflow);
    if (number == -1 && !overflow && PyErr_Occurred()) {
        Py_DECREF(index);
        return -1;
    }
    if (overflow || number < low || number > high) {
        PyErr_Format(PyExc_ValueError, "%s: %S is out of range, %lld to %lld", field, index, low,
                     high);
        Py_DECREF(index);
        return -1;
    }
    Py_DECREF(index);
    *out = number;
    return 0;
}

int
ipv4b_check_set(PyObject *value, const char *field)
{
    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "%s: cannot be deleted", field);
        return -1;
    }
    return 0;
}

int
ipv4b_set_int(PyObject *value, const char *field, long long low, long long high, long long *out)
{
    return ipv4b_check_set(value, field) < 0 ? -1 : ipv4b_parse_int(value, field, low, high, out);
}
