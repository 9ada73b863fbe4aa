/* count.c - see count.h. */
#include "python/io/count.h"

#include "core/sysdep.h"

enum { TURN = IPV4B_SEND_MAX };

/* Makes the ints that a turn can return. After the system call nothing may fail, and a new int
 * needs memory. Returns 0, or -1 with MemoryError. */
static int
make_counts(ipv4b_state *state)
{
    PyObject *counts = PyTuple_New(TURN + 1), *none = NULL;

    for (Py_ssize_t i = 0; counts != NULL && i <= TURN; i++) {
        PyObject *count = PyLong_FromSsize_t(i);

        if (count == NULL) {
            Py_CLEAR(counts);
            break;
        }
        PyTuple_SET_ITEM(counts, i, count);
    }
    if (counts == NULL) {
        return -1;
    }
    /* Another thread may have been faster. */
    if (!__atomic_compare_exchange_n(&state->counts, &none, counts, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        Py_DECREF(counts);
    }
    return 0;
}

int
ipv4b_count_prepare_large(ipv4b_state *state, size_t n, PyObject **all)
{
    if (n > TURN && (*all = PyLong_FromSize_t(n)) == NULL) {
        return -1;
    }
    if (__atomic_load_n(&state->counts, __ATOMIC_ACQUIRE) == NULL && make_counts(state) < 0) {
        Py_CLEAR(*all);
        return -1;
    }
    return 0;
}

PyObject *
ipv4b_count_get_large(const ipv4b_state *state, size_t n)
{
    return n <= TURN ? Py_NewRef(PyTuple_GET_ITEM(state->counts, (Py_ssize_t)n))
                     : PyLong_FromSize_t(n);
}
