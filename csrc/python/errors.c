/* errors.c - see errors.h. */
#include "errors.h"

int
ipv4b_raise_os(int err, const char *text, PyObject *what)
{
    PyObject *exception;

    if (what == NULL) {
        return -1;
    }
    /* OSError itself picks the subclass: ConnectionRefusedError, TimeoutError, ... */
    exception =
        PyObject_CallFunction(PyExc_OSError, "isO", err, text == NULL ? strerror(err) : text, what);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return -1;
}
