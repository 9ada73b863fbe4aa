/* write_paced.c - see write_paced.h. */
#include "python/io/write_paced.h"

#include "core/pace.h"
#include "python/base/args.h"
#include "python/io/batch.h"
#include "python/io/write_all.h"

/* A thousand hours: longer is a mistake, and the sum with a clock cannot overflow. */
#define INTERVAL_MAX INT64_C(3600000000000000)

/* Reads n offsets, of which none is below the one before. Returns 0, or -1 with an exception. */
static int
read_offsets(PyObject *tuple, int64_t *offsets, size_t n)
{
    long long offset = 0;

    for (size_t i = 0; i < n; i++) {
        char field[48];

        PyOS_snprintf(field, sizeof field, "interval_ns[%zu]", i);
        if (ipv4b_parse_int(PyTuple_GET_ITEM(tuple, (Py_ssize_t)i), field, offset, INTERVAL_MAX,
                            &offset) < 0) {
            return -1;
        }
        offsets[i] = offset;
    }
    return 0;
}

/* The argument interval_ns as offsets, one for each of n messages. New memory, or NULL with an exception. */
static int64_t *
parse_offsets(PyObject *value, size_t n)
{
    PyObject *tuple = PySequence_Tuple(value);
    int64_t *offsets;

    if (tuple == NULL) {
        return NULL;
    }
    if ((size_t)PyTuple_GET_SIZE(tuple) != n) {
        PyErr_Format(PyExc_ValueError, "interval_ns: %zd offsets for %zu messages",
                     PyTuple_GET_SIZE(tuple), n);
        Py_DECREF(tuple);
        return NULL;
    }
    offsets = PyMem_New(int64_t, n + 1);
    if (offsets == NULL) {
        PyErr_NoMemory();
    }
    else if (read_offsets(tuple, offsets, n) < 0) {
        PyMem_Free(offsets);
        offsets = NULL;
    }
    Py_DECREF(tuple);
    return offsets;
}

/* The schedule that the arguments name. Returns 0 with *offsets to free, or -1 with an exception. */
static int
parse_schedule(ipv4b_pace *pace, int64_t **offsets, PyObject *msgs, PyObject *interval,
               PyObject *burst, PyObject *catch_up)
{
    long long number = 1;
    int truth = 1;

    *offsets = NULL;
    if ((burst != NULL && ipv4b_parse_int(burst, "burst", 1, IPV4B_SEND_MAX, &number) < 0) ||
        (catch_up != NULL && (truth = PyObject_IsTrue(catch_up)) < 0)) {
        return -1;
    }
    pace->burst = (size_t)number;
    pace->catch_up = truth != 0;
    pace->offsets = NULL;
    pace->interval = 0;
    pace->count = 0;
    if (PySequence_Check(interval) && !PyIndex_Check(interval)) {
        Py_ssize_t n = PySequence_Size(msgs);

        if (n < 0) {
            return -1;
        }
        if (pace->burst != 1) {
            PyErr_SetString(PyExc_ValueError, "burst: offsets in interval_ns are of each message");
            return -1;
        }
        *offsets = parse_offsets(interval, (size_t)n);
        pace->offsets = *offsets;
        pace->count = (size_t)n;
        return *offsets == NULL ? -1 : 0;
    }
    if (ipv4b_parse_int(interval, "interval_ns", 0, INTERVAL_MAX, &number) < 0) {
        return -1;
    }
    pace->interval = number;
    return 0;
}

const char ipv4b_write_paced_doc[] =
    "write_paced($self, /, msgs, interval_ns, flags=0, errors='raise', burst=1, catch_up=True)\n"
    "--\n\n"
    "Send every Message of `msgs` on a schedule, and return how many went.\n\n"
    "The first goes at once, and each `burst` messages `interval_ns` nanoseconds after the "
    "`burst`\n"
    "before, by CLOCK_MONOTONIC, without the GIL. interval_ns may be a sequence of offsets from\n"
    "the start instead, one for each message and in order. With gso the messages of a burst form\n"
    "runs. Each message's late_ns says how much later than its time it went. With catch_up those\n"
    "that are late go as fast as they can until the schedule is met again; without it the rest\n"
    "of the schedule moves, and no two bursts are closer than interval_ns.\n\n"
    "Outcomes and errors are as in write_all. The timeout is for room in the socket; the\n"
    "deadline, close() and signals end the call as they end every wait. Raises TypeError or\n"
    "ValueError that names the argument, with nothing sent.";

PyObject *
ipv4b_write_paced(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msgs",  "interval_ns", "flags", "errors",
                                        "burst", "catch_up",    NULL};
    static const ipv4b_signature signature = {"write_paced", names, 2};
    PyObject *values[6] = {NULL};
    const ipv4b_batch_kind *kind;
    PyObject *result = NULL;
    int64_t *offsets = NULL;
    ipv4b_pace *pace;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        (kind = ipv4b_write_kind(values[3])) == NULL) {
        return NULL;
    }
    pace = PyMem_Malloc(sizeof *pace);
    if (pace == NULL) {
        return PyErr_NoMemory();
    }
    if (parse_schedule(pace, &offsets, values[0], values[1], values[4], values[5]) == 0) {
        result = ipv4b_batch_call(self, kind, NULL, pace, values[0], values[2]);
    }
    PyMem_Free(offsets);
    PyMem_Free(pace);
    return result;
}
