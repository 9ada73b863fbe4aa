/* slab.c - see slab.h. */
#include "python/message/slab.h"

#include "core/ancillary.h"
#include "python/base/args.h"
#include "python/base/buffers.h"
#include "python/base/locks.h"
#include "python/message/message.h"
#include "python/values/control.h"

/* The kernel copies to the start of a page faster than to an odd address, by a twentieth and
 * more. */
enum { SLAB_ALIGNMENT = 4096 };

typedef struct {
    PyObject_HEAD
    void *block;
    char *start; /* in the block, at the start of a page */
    Py_ssize_t size;
} slab_object;

static PyObject *
slab_new(ipv4b_state *state, Py_ssize_t size)
{
    slab_object *slab = PyObject_GC_New(slab_object, state->slab_type);

    if (slab == NULL) {
        return NULL;
    }
    /* A large block comes from the system, which provides its pages when they are first written. */
    slab->block = PyMem_Calloc(1, (size_t)size + SLAB_ALIGNMENT);
    if (slab->block == NULL) {
        Py_DECREF(slab);
        return PyErr_NoMemory();
    }
    slab->start = (char *)slab->block + -(uintptr_t)slab->block % SLAB_ALIGNMENT;
    slab->size = size;
    PyObject_GC_Track(slab);
    return (PyObject *)slab;
}

static void
slab_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    PyMem_Free(((slab_object *)self)->block);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static int
slab_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
slab_get_buffer(PyObject *self, Py_buffer *view, int flags)
{
    slab_object *slab = (slab_object *)self;

    return PyBuffer_FillInfo(view, self, slab->start, slab->size, 0, flags);
}

static PyType_Slot slab_slots[] = {
    {Py_tp_doc, (void *)"The memory of many messages: see new_messages."},
    IPV4B_SLOT(Py_tp_dealloc, slab_dealloc),
    IPV4B_SLOT(Py_tp_traverse, slab_traverse),
    IPV4B_SLOT(Py_bf_getbuffer, slab_get_buffer),
    {0, NULL},
};

PyType_Spec ipv4b_slab_spec = {
    .name = "ipv4batch._ipv4batch.Slab",
    .basicsize = sizeof(slab_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slab_slots,
};

/* A message over slab[at:at+size] with its control buffer at slab[oob_at:oob_at+oob_size]. The
 * memoryviews of both are made when the program asks for them, because a reader needs none. */
static PyObject *
message_on_slab(ipv4b_state *state, PyObject *slab, Py_ssize_t at, Py_ssize_t size,
                Py_ssize_t oob_at, Py_ssize_t oob_size)
{
    PyTypeObject *type = state->message_type;
    ipv4b_message_object *m = (ipv4b_message_object *)type->tp_alloc(type, 0);
    char *start = ((slab_object *)slab)->start;

    if (m == NULL) {
        return NULL;
    }
    m->slab = Py_NewRef(slab);
    m->iov = (struct iovec){.iov_base = start + at, .iov_len = (size_t)size};
    m->header.msg_name = &m->name;
    m->header.msg_iov = &m->iov;
    m->header.msg_iovlen = 1;
    if (oob_size != 0) {
        m->header.msg_control = start + oob_at;
        m->header.msg_controllen = (size_t)oob_size;
        m->use = IPV4B_USE_UNCHECKED;
    }
    return (PyObject *)m;
}

/* Holds a part of the slab as if the program had given a memoryview of it. New, or NULL with an
 * exception. */
static ipv4b_buffers *
hold_part(PyObject *slab, const void *from, size_t len, const char *field, bool numbered)
{
    Py_ssize_t at = (const char *)from - ((slab_object *)slab)->start;
    PyObject *whole = PyMemoryView_FromObject(slab);
    PyObject *part = whole == NULL ? NULL : ipv4b_view_part(whole, at, at + (Py_ssize_t)len);
    PyObject *tuple = part == NULL ? NULL : PyTuple_Pack(1, part);
    ipv4b_buffers *held = tuple == NULL ? NULL : ipv4b_buffers_new(tuple, field, numbered);

    Py_XDECREF(whole);
    Py_XDECREF(part);
    Py_XDECREF(tuple);
    return held;
}

int
ipv4b_slab_show(PyObject *self)
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_buffers *data, *oob = NULL;
    PyObject *slab;
    void *control;
    size_t control_len;

    Py_BEGIN_CRITICAL_SECTION(self);
    slab = Py_XNewRef(m->slab);
    control = m->header.msg_control;
    control_len = (size_t)m->header.msg_controllen;
    Py_END_CRITICAL_SECTION();
    if (slab == NULL) {
        return 0;
    }
    data = hold_part(slab, m->iov.iov_base, m->iov.iov_len, "buffers", true);
    if (data != NULL && control_len != 0) {
        oob = hold_part(slab, control, control_len, "oob", false);
    }
    if (data == NULL || (control_len != 0 && oob == NULL)) {
        ipv4b_buffers_free(data);
        Py_DECREF(slab);
        return -1;
    }
    /* The collector may have run Python code, or another thread has been faster. A call that uses the
     * message goes on with iov, which is the same memory. */
    Py_BEGIN_CRITICAL_SECTION(self);
    if (m->slab == slab) {
        m->data.row = data;
        m->oob.row = oob;
        m->slab = NULL;
        data = oob = NULL;
        Py_DECREF(slab); /* not the last reference: ours follows */
    }
    Py_END_CRITICAL_SECTION();
    ipv4b_buffers_free(data);
    ipv4b_buffers_free(oob);
    Py_DECREF(slab);
    return 0;
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
    PyObject *list, *slab;
    long long count, size = 2048;
    unsigned int flags = 0;
    long long oob_size, slab_size;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        ipv4b_parse_int(values[0], "count", 0, INT_MAX, &count) < 0 ||
        (values[1] != NULL && ipv4b_parse_int(values[1], "size", 0, INT_MAX, &size) < 0) ||
        (values[2] != NULL && ipv4b_control_flags_parse(values[2], "control", &flags) < 0)) {
        return NULL;
    }
    oob_size = (long long)ipv4b_ancillary_space(flags);
    /* The product fits into 64 bits, but not into every address space. */
    slab_size = count * (size + oob_size);
    if (slab_size > PY_SSIZE_T_MAX - SLAB_ALIGNMENT) {
        return PyErr_NoMemory();
    }
    slab = slab_new(state, (Py_ssize_t)slab_size);
    list = slab == NULL ? NULL : PyList_New((Py_ssize_t)count);
    for (Py_ssize_t i = 0; list != NULL && i < (Py_ssize_t)count; i++) {
        PyObject *m =
            message_on_slab(state, slab, (Py_ssize_t)(i * size), (Py_ssize_t)size,
                            (Py_ssize_t)(count * size + i * oob_size), (Py_ssize_t)oob_size);

        if (m == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, i, m);
        }
    }
    Py_XDECREF(slab);
    return list;
}
