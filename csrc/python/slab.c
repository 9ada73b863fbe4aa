/* slab.c - see slab.h. */
#include "slab.h"

#include "ancillary.h"
#include "args.h"
#include "buffers.h"
#include "control.h"

/* The kernel copies to the start of a page faster than to an odd address, by a twentieth and
 * more. */
enum { SLAB_ALIGNMENT = 4096 };

/* A message over slab[at:at+size] with its control buffer at slab[oob_at:oob_at+oob_size]. */
static PyObject *
message_on_slab(ipv4b_state *state, PyObject *slab, Py_ssize_t at, Py_ssize_t size,
                Py_ssize_t oob_at, Py_ssize_t oob_size)
{
    PyObject *buffer = ipv4b_slice(slab, at, at + size);
    PyObject *oob = NULL;
    PyObject *m = NULL;

    if (buffer != NULL) {
        oob = oob_size == 0 ? Py_NewRef(Py_None) : ipv4b_slice(slab, oob_at, oob_at + oob_size);
    }
    if (oob != NULL) {
        m = PyObject_CallFunctionObjArgs((PyObject *)state->message_type, buffer, oob, NULL);
    }
    Py_XDECREF(buffer);
    Py_XDECREF(oob);
    return m;
}

const char ipv4b_new_messages_doc[] =
    "new_messages($module, count, size=2048, control=0)\n--\n\n"
    "A list of `count` messages on one slab of memory, ready for read_batch.\n\n"
    "Each has one buffer of `size` bytes and, where `control` (ControlFlags) asks for any, a\n"
    "control buffer that is long enough for it. Raises ValueError for numbers out of range\n"
    "and MemoryError.";

PyObject *
ipv4b_new_messages(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"count", "size", "control", NULL};
    static const ipv4b_signature signature = {"new_messages", names, 1};
    ipv4b_state *state = PyModule_GetState(module);
    PyObject *values[3] = {NULL};
    PyObject *list = NULL, *bytes = NULL, *slab = NULL;
    long long count, size = 2048;
    unsigned int flags = 0;
    long long oob_size, slab_size;
    Py_ssize_t start;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        ipv4b_parse_int(values[0], "count", 0, INT_MAX, &count) < 0 ||
        (values[1] != NULL && ipv4b_parse_int(values[1], "size", 0, INT_MAX, &size) < 0) ||
        (values[2] != NULL && ipv4b_control_flags_parse(values[2], "control", &flags) < 0)) {
        return NULL;
    }
    oob_size = (long long)ipv4b_ancillary_space(flags);
    /* Two ints and a few bytes: the product fits into 64 bits, but not into every address space. */
    slab_size = count * (size + oob_size) + SLAB_ALIGNMENT;
    if (slab_size > PY_SSIZE_T_MAX) {
        return PyErr_NoMemory();
    }
    bytes = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)slab_size);
    if (bytes == NULL) {
        return NULL;
    }
    memset(PyByteArray_AS_STRING(bytes), 0, (size_t)slab_size);
    start = (Py_ssize_t)(-(uintptr_t)PyByteArray_AS_STRING(bytes) % SLAB_ALIGNMENT);
    slab = PyMemoryView_FromObject(bytes);
    list = slab == NULL ? NULL : PyList_New((Py_ssize_t)count);
    for (Py_ssize_t i = 0; list != NULL && i < (Py_ssize_t)count; i++) {
        PyObject *m = message_on_slab(state, slab, start + (Py_ssize_t)(i * size), (Py_ssize_t)size,
                                      start + (Py_ssize_t)(count * size + i * oob_size),
                                      (Py_ssize_t)oob_size);

        if (m == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, i, m);
        }
    }
    Py_DECREF(bytes);
    Py_XDECREF(slab);
    return list;
}
