/* buffers.c - see buffers.h. */
#include "python/base/buffers.h"

#include "python/base/args.h"

/* Holds the exporter of a memoryview instead of the memoryview, if that exports the same memory.
 * Before 3.12.7 the garbage collector clears a memoryview whose buffer is still held, and then
 * crashes (python/cpython issue 77894). */
static int
hold_base(PyObject *memoryview, Py_buffer *view)
{
    PyObject *base = PyMemoryView_GET_BASE(memoryview);
    const char *start = view->buf;
    Py_ssize_t len = view->len;
    int readonly = view->readonly;

    if (base == NULL) {
        return 0;
    }
    PyBuffer_Release(view);
    if (PyObject_GetBuffer(base, view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return PyObject_GetBuffer(memoryview, view, PyBUF_SIMPLE);
    }
    if (start < (char *)view->buf || start + len > (char *)view->buf + view->len) {
        PyBuffer_Release(view);
        return PyObject_GetBuffer(memoryview, view, PyBUF_SIMPLE);
    }
    view->readonly = readonly;
    return 0;
}

/* Whether the collector does not clear a memoryview whose buffer is held (python/cpython issue
 * 77894). */
static bool
memoryviews_are_safe(void)
{
    return Py_Version >= 0x030C0700;
}

ipv4b_buffers *
ipv4b_buffers_new(PyObject *tuple, const char *field, bool numbered)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    ipv4b_buffers *b;

    if (count > IPV4B_IOV_MAX) {
        PyErr_Format(PyExc_ValueError, "%s: %zd buffers; a message takes at most %d", field, count,
                     (int)IPV4B_IOV_MAX);
        return NULL;
    }
    b = PyMem_Malloc(sizeof *b + (size_t)count * (sizeof b->views[0] + sizeof b->iov[0]));
    if (b == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    b->objects = Py_NewRef(tuple);
    b->count = 0;
    b->iov = (struct iovec *)(void *)&b->views[count];
    b->readonly = false;
    while (b->count < count) {
        PyObject *object = PyTuple_GET_ITEM(tuple, b->count);
        Py_buffer *view = &b->views[b->count];

        if (!ipv4b_try_buffer(object, view)) {
            char name[48];

            PyOS_snprintf(name, sizeof name, numbered ? "%s[%zd]" : "%s", field, b->count);
            (void)ipv4b_raise_no_buffer(object, name);
            ipv4b_buffers_free(b);
            return NULL;
        }
        b->iov[b->count].iov_base = view->buf;
        b->iov[b->count].iov_len = (size_t)view->len;
        if (PyMemoryView_Check(object) && hold_base(object, view) < 0) {
            ipv4b_buffers_free(b);
            return NULL;
        }
        b->readonly = b->readonly || view->readonly;
        b->count++;
    }
    return b;
}

void
ipv4b_buffers_free(ipv4b_buffers *b)
{
    if (b == NULL) {
        return;
    }
    for (Py_ssize_t i = 0; i < b->count; i++) {
        PyBuffer_Release(&b->views[i]);
    }
    Py_DECREF(b->objects);
    PyMem_Free(b);
}

void
ipv4b_held_release(ipv4b_held *held)
{
    ipv4b_buffers *row = held->row;

    held->row = NULL;
    Py_CLEAR(held->bytes);
    ipv4b_buffers_free(row);
}

PyObject *
ipv4b_held_objects(const ipv4b_held *held)
{
    if (held->row != NULL) {
        return Py_NewRef(held->row->objects);
    }
    return held->bytes == NULL ? PyTuple_New(0) : PyTuple_Pack(1, held->bytes);
}

PyObject *
ipv4b_iov_join(const struct iovec *iov, size_t n)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    char *at;

    if (bytes == NULL) {
        return NULL;
    }
    at = PyBytes_AS_STRING(bytes);
    for (; n > 0; iov++) {
        size_t part = iov->iov_len < n ? iov->iov_len : n;

        memcpy(at, iov->iov_base, part);
        at += part;
        n -= part;
    }
    return bytes;
}

PyObject *
ipv4b_view_part(PyObject *memoryview, Py_ssize_t start, Py_ssize_t stop)
{
    PyObject *from = PyLong_FromSsize_t(start);
    PyObject *to = PyLong_FromSsize_t(stop);
    PyObject *range = from == NULL || to == NULL ? NULL : PySlice_New(from, to, NULL);
    PyObject *part = range == NULL ? NULL : PyObject_GetItem(memoryview, range);

    Py_XDECREF(from);
    Py_XDECREF(to);
    Py_XDECREF(range);
    return part;
}

/* A memoryview of bytes over all of an exporter's memory, or NULL with an exception. */
static PyObject *
whole_view(PyObject *exporter)
{
    PyObject *view = PyMemoryView_FromObject(exporter);
    const Py_buffer *info;

    if (view == NULL) {
        return NULL;
    }
    info = PyMemoryView_GET_BUFFER(view);
    if (info->ndim == 1 && info->itemsize == 1 && strcmp(info->format, "B") == 0) {
        return view;
    }
    if (info->len == 0 && info->ndim != 1) {
        /* memoryview.cast takes no shape with a zero in it. */
        Py_SETREF(view, PyMemoryView_FromMemory((char *)&(char){0}, 0, PyBUF_WRITE));
    }
    else {
        Py_SETREF(view, PyObject_CallMethod(view, "cast", "s", "B"));
    }
    return view;
}

/* Without the GIL: a view of the bytes `start` to `stop` of a memoryview, made from its exporter
 * so that the two share no counts. CPython counts the memoryviews that are made from one another
 * without a lock (python/cpython issue 127716), and threads may use different messages of one
 * slab. NULL with an exception, or NULL without one if this is not possible or not needed. */
static PyObject *
view_apart(PyObject *exporter, Py_ssize_t start, Py_ssize_t stop)
{
    PyObject *view = NULL;

#ifdef Py_GIL_DISABLED
    PyObject *base = PyMemoryView_Check(exporter) ? PyMemoryView_GET_BASE(exporter) : NULL;
    PyObject *whole;

    if (base == NULL) {
        return NULL;
    }
    if (PyObject_Size(exporter) < 0 || (whole = whole_view(base)) == NULL) {
        PyErr_Clear(); /* it was released or has no length: the next function raises */
        return NULL;
    }
    const Py_buffer *info = PyMemoryView_GET_BUFFER(exporter);
    const Py_buffer *all = PyMemoryView_GET_BUFFER(whole);
    Py_ssize_t at = (char *)info->buf - (char *)all->buf;

    if (PyBuffer_IsContiguous(info, 'C') && PyBuffer_IsContiguous(all, 'C') &&
        info->readonly == all->readonly && at >= 0 && at + info->len <= all->len) {
        view = ipv4b_view_part(whole, at + start, at + stop);
    }
    Py_DECREF(whole);
#else
    (void)exporter;
    (void)start;
    (void)stop;
#endif
    return view;
}

PyObject *
ipv4b_slice(PyObject *memoryview, Py_ssize_t start, Py_ssize_t stop)
{
    PyObject *view = view_apart(memoryview, start, stop);

    return view != NULL || PyErr_Occurred() ? view : ipv4b_view_part(memoryview, start, stop);
}

PyObject *
ipv4b_byte_view(PyObject *exporter, Py_ssize_t start, Py_ssize_t stop)
{
    PyObject *view = view_apart(exporter, start, stop);

    if (view != NULL || PyErr_Occurred()) {
        return view;
    }
    view = whole_view(exporter);
    if (view != NULL && (start != 0 || stop != PyMemoryView_GET_BUFFER(view)->len)) {
        Py_SETREF(view, ipv4b_view_part(view, start, stop));
    }
    return view;
}

int
ipv4b_held_traverse(const ipv4b_held *held, visitproc visit, void *arg)
{
    const ipv4b_buffers *b = held->row;

    if (b != NULL) {
        Py_VISIT(b->objects);
        for (Py_ssize_t i = 0; i < b->count; i++) {
            /* See hold_base. The collector sees such a memoryview only where that is safe;
             * elsewhere it counts as used from outside. */
            if (b->views[i].obj == NULL || !PyMemoryView_Check(b->views[i].obj) ||
                memoryviews_are_safe()) {
                Py_VISIT(b->views[i].obj);
            }
        }
    }
    Py_VISIT(held->bytes);
    return 0;
}
