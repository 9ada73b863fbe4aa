/* errors.c - see errors.h. */
#include "python/base/errors.h"

PyObject *
ipv4b_os_error(int err, const char *text, PyObject *what)
{
    /* strerror speaks the locale's language, in its encoding. glibc's is thread-safe since 2.32, and
     * before for every errno that it knows. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *words = text == NULL ? strerror(err) : text;
    PyObject *reason = PyUnicode_DecodeLocale(words, "surrogateescape");
    PyObject *exception = NULL;

    if (reason != NULL) {
        /* OSError itself picks the subclass: ConnectionRefusedError, TimeoutError, ... */
        exception = PyObject_CallFunction(PyExc_OSError, "iOO", err, reason, what);
        Py_DECREF(reason);
    }
    return exception;
}

int
ipv4b_raise_os(int err, const char *text, PyObject *what)
{
    PyObject *exception = what == NULL ? NULL : ipv4b_os_error(err, text, what);

    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return -1;
}
