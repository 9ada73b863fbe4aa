/* filter.c - the method set_bpf: see filter.h. */
#include "python/options/filter.h"

#include "python/base/args.h"
#include "python/options/sockopt.h"

enum { FIELDS = 4, INSTRUCTION_SIZE = 8 };

/* Instruction number `index` from its four numbers. Returns 0, or -1 with ValueError. */
static int
instruction_set(ipv4b_bpf_instruction *out, Py_ssize_t index, const long long values[FIELDS])
{
    static const char *const names[FIELDS] = {"code", "jt", "jf", "k"};
    static const long long max[FIELDS] = {UINT16_MAX, UINT8_MAX, UINT8_MAX, UINT32_MAX};

    for (int i = 0; i < FIELDS; i++) {
        if (values[i] < 0 || values[i] > max[i]) {
            PyErr_Format(PyExc_ValueError, "program[%zd].%s: %lld is out of range, 0 to %lld",
                         index, names[i], values[i], max[i]);
            return -1;
        }
    }
    out->code = (uint16_t)values[0];
    out->jt = (uint8_t)values[1];
    out->jf = (uint8_t)values[2];
    out->k = (uint32_t)values[3];
    return 0;
}

/* New memory for a program of `count` instructions, or NULL with ValueError or MemoryError. */
static ipv4b_bpf_instruction *
program_new(Py_ssize_t count)
{
    ipv4b_bpf_instruction *program;

    if (count == 0 || count > IPV4B_BPF_MAX) {
        PyErr_Format(PyExc_ValueError, "program: %zd instructions; a filter has 1 to %d", count,
                     (int)IPV4B_BPF_MAX);
        return NULL;
    }
    program = PyMem_Calloc((size_t)count, sizeof *program);
    if (program == NULL) {
        PyErr_NoMemory();
    }
    return program;
}

static ipv4b_bpf_instruction *
program_from_bytes(PyObject *value, Py_ssize_t *count)
{
    ipv4b_bpf_instruction *program = NULL;
    Py_buffer view;

    if (ipv4b_get_buffer(value, "program", &view) < 0) {
        return NULL;
    }
    if (view.len % INSTRUCTION_SIZE != 0) {
        PyErr_Format(PyExc_ValueError, "program: %zd bytes are no multiple of 8", view.len);
    }
    else {
        *count = view.len / INSTRUCTION_SIZE;
        program = program_new(*count);
    }
    if (program != NULL) {
        memcpy(program, view.buf, (size_t)view.len); /* struct sock_filter in native order */
    }
    PyBuffer_Release(&view);
    return program;
}

/* One instruction from a (code, jt, jf, k) tuple or another sequence. */
static int
instruction_from_sequence(PyObject *item, Py_ssize_t index, ipv4b_bpf_instruction *out)
{
    PyObject *fields;
    long long values[FIELDS];
    char name[40];

    fields = PySequence_Check(item) ? PySequence_Tuple(item) : PyTuple_New(0);
    if (fields == NULL) {
        return -1;
    }
    if (PyTuple_GET_SIZE(fields) != FIELDS) {
        PyErr_Format(PyExc_ValueError, "program[%zd]: (code, jt, jf, k) is required, not %R", index,
                     item);
        Py_DECREF(fields);
        return -1;
    }
    PyOS_snprintf(name, sizeof name, "program[%zd]", index);
    for (int i = 0; i < FIELDS; i++) {
        if (ipv4b_parse_int(PyTuple_GET_ITEM(fields, i), name, 0, UINT32_MAX, &values[i]) < 0) {
            Py_DECREF(fields);
            return -1;
        }
    }
    Py_DECREF(fields);
    return instruction_set(out, index, values);
}

static ipv4b_bpf_instruction *
program_from_sequence(PyObject *value, Py_ssize_t *count)
{
    PyObject *items;
    ipv4b_bpf_instruction *program = NULL;

    if (!PySequence_Check(value)) {
        PyErr_Format(
            PyExc_TypeError,
            "program: a sequence of (code, jt, jf, k), bytes, str or None is required, not "
            "%.100s",
            Py_TYPE(value)->tp_name);
        return NULL;
    }
    items = PySequence_Tuple(value);
    if (items == NULL) {
        return NULL;
    }
    *count = PyTuple_GET_SIZE(items);
    program = program_new(*count);
    for (Py_ssize_t i = 0; program != NULL && i < *count; i++) {
        if (instruction_from_sequence(PyTuple_GET_ITEM(items, i), i, &program[i]) < 0) {
            PyMem_Free(program);
            program = NULL;
        }
    }
    Py_DECREF(items);
    return program;
}

/* Word number i of a text as a number. Returns 0, or -1 with ValueError. */
static int
word_number(PyObject *words, Py_ssize_t i, long long *out)
{
    PyObject *number = PyLong_FromUnicodeObject(PyList_GET_ITEM(words, i), 10);
    int r = number == NULL ? -1 : ipv4b_parse_int(number, "program", 0, UINT32_MAX, out);

    Py_XDECREF(number);
    return r;
}

/* What tcpdump -ddd prints: the number of instructions, then four decimal numbers for each. */
static ipv4b_bpf_instruction *
program_from_text(PyObject *value, Py_ssize_t *count)
{
    PyObject *words = PyUnicode_Split(value, NULL, -1);
    ipv4b_bpf_instruction *program;
    long long stated, values[FIELDS];
    Py_ssize_t total;

    if (words == NULL) {
        return NULL;
    }
    total = PyList_GET_SIZE(words);
    if (total % FIELDS != 1 || word_number(words, 0, &stated) < 0 || stated != total / FIELDS) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError,
                         "program: %zd numbers; a count and four for each instruction are required",
                         total);
        }
        Py_DECREF(words);
        return NULL;
    }
    *count = total / FIELDS;
    program = program_new(*count);
    for (Py_ssize_t i = 0; program != NULL && i < *count; i++) {
        int r = 0;

        for (Py_ssize_t field = 0; r == 0 && field < FIELDS; field++) {
            r = word_number(words, 1 + i * FIELDS + field, &values[field]);
        }
        if (r < 0 || instruction_set(&program[i], i, values) < 0) {
            PyMem_Free(program);
            program = NULL;
        }
    }
    Py_DECREF(words);
    return program;
}

const char ipv4b_set_bpf_doc[] =
    "set_bpf($self, program, /)\n--\n\n"
    "Attach a classic BPF program that drops what it returns 0 for, or detach it with None.\n\n"
    "program is a sequence of (code, jt, jf, k) tuples, bytes with 8 for each instruction\n"
    "(struct sock_filter), or the text that tcpdump -ddd prints. It sees a datagram from its UDP\n"
    "header on, and a raw socket's packet from its IPv4 header on (SO_ATTACH_FILTER, socket(7)).\n"
    "Raises TypeError or ValueError for what is no program of 1 to 4096 instructions, and OSError\n"
    "EINVAL for one that the kernel's checker refuses.";

PyObject *
ipv4b_set_bpf(PyObject *op, PyObject *value)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    ipv4b_bpf_instruction *program;
    ipv4b_bpf_program attach = {0};
    Py_ssize_t count = 0;
    int unused = 0;
    int r;

    if (value == Py_None) {
        r = ipv4b_setsockopt(self, "set_bpf", SOL_SOCKET, IPV4B_SO_DETACH_FILTER, &unused,
                             sizeof unused);
        return r < 0 ? NULL : Py_NewRef(Py_None);
    }
    program = PyUnicode_Check(value)        ? program_from_text(value, &count)
              : PyObject_CheckBuffer(value) ? program_from_bytes(value, &count)
                                            : program_from_sequence(value, &count);
    if (program == NULL) {
        return NULL;
    }
    attach.len = (unsigned short)count;
    attach.filter = program;
    r = ipv4b_setsockopt(self, "set_bpf", SOL_SOCKET, IPV4B_SO_ATTACH_FILTER, &attach,
                         sizeof attach);
    PyMem_Free(program);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}
