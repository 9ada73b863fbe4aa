/* args.h - arguments: vectorcall signatures, and numbers in a range.
 *
 * Locking: none; arguments belong to the call. */
#ifndef IPV4B_ARGS_H
#define IPV4B_ARGS_H

#include "python/base/state.h"

#include <stdbool.h>

/* A function's parameters, each positional or by keyword; the first `required` have no default. */
typedef struct {
    const char *function;
    const char *const *names; /* NULL at the end */
    int required;
} ipv4b_signature;

int ipv4b_parse_args_any(const ipv4b_signature *sig, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames, PyObject **out);

/* Sorts a vectorcall's arguments into out[], BORROWED, one for each name; a missing one stays as it
 * was. Returns 0, or -1 with TypeError. */
static inline int
ipv4b_parse_args(const ipv4b_signature *sig, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames, PyObject **out)
{
    if (nargs == 1 && sig->required <= 1 && kwnames == NULL) {
        out[0] = args[0]; /* the usual call */
        return 0;
    }
    return ipv4b_parse_args_any(sig, args, nargs, kwnames, out);
}

/* The same for the tuple and dict (or NULL) of tp_init. */
int ipv4b_parse_tuple(const ipv4b_signature *sig, PyObject *args, PyObject *kwargs, PyObject **out);

/* Takes the buffer of an object, which the caller releases. If it returns false, ipv4b_raise_no_buffer is due,
 * which returns -1. It names the field in the error. */
static inline bool
ipv4b_try_buffer(PyObject *value, Py_buffer *view)
{
    return PyObject_CheckBuffer(value) && PyObject_GetBuffer(value, view, PyBUF_SIMPLE) == 0;
}

int ipv4b_raise_no_buffer(PyObject *value, const char *field);

/* Takes the buffer of a bytes-like object, which the caller releases. `field` names it in the error.
 * Returns 0, or -1 with TypeError or what the exporter raised. */
int ipv4b_get_buffer(PyObject *value, const char *field, Py_buffer *view);

/* The int `value` if it is from low to high. `field` names it in the error. Returns 0, or -1 with
 * TypeError or ValueError. */
int ipv4b_parse_int(PyObject *value, const char *field, long long low, long long high,
                    long long *out);

/* The same for the value given to a setter, which is NULL when the attribute is deleted. */
int ipv4b_set_int(PyObject *value, const char *field, long long low, long long high,
                  long long *out);

/* Refuses to delete an attribute. Returns 0 if there is a value, or -1 with TypeError. */
int ipv4b_check_set(PyObject *value, const char *field);

#endif
