/* fields.c - see fields.h; message.h has the locking rule. */
#include "python/message/fields.h"

#include "core/cmsg.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/message/slab.h"
#include "python/values/addr.h"

/* Refuses a change while a call uses the message. Returns 0, or -1 with RuntimeError. */
static int
check_free(const ipv4b_message_object *m, const char *field)
{
    if (ipv4b_message_pinned(m)) {
        PyErr_Format(PyExc_RuntimeError, "%s: the message is in use by another call", field);
        return -1;
    }
    return 0;
}

/* Whether the control data is valid and cannot change, so that a write need not check it again. */
static bool
oob_cannot_change(const ipv4b_message_object *m)
{
    size_t where;

    return m->oob.bytes != NULL &&
           ipv4b_cmsg_check(m->header.msg_control, (size_t)m->header.msg_controllen, &where) == 0;
}

/* Has the header point to the buffers of m. */
static void
show_data(ipv4b_message_object *m)
{
    if (m->data.bytes != NULL) {
        m->iov.iov_base = PyBytes_AS_STRING(m->data.bytes);
        m->iov.iov_len = (size_t)PyBytes_GET_SIZE(m->data.bytes);
        m->header.msg_iov = &m->iov;
        m->header.msg_iovlen = 1;
    }
    else {
        m->header.msg_iov = m->data.row == NULL ? NULL : m->data.row->iov;
        m->header.msg_iovlen = m->data.row == NULL ? 0 : (size_t)m->data.row->count;
    }
    IPV4B_STORE_RELAXED(m->flags, m->flags & ~IPV4B_FLAG_RECEIVED);
}

/* Has the header point to the control buffer of m. */
static void
show_oob(ipv4b_message_object *m)
{
    if (m->oob.bytes != NULL) {
        m->header.msg_control = PyBytes_AS_STRING(m->oob.bytes);
        m->header.msg_controllen = (size_t)PyBytes_GET_SIZE(m->oob.bytes);
    }
    else {
        m->header.msg_control = m->oob.row == NULL ? NULL : m->oob.row->iov[0].iov_base;
        m->header.msg_controllen = m->oob.row == NULL ? 0 : m->oob.row->iov[0].iov_len;
    }
}

static bool
is_readonly(const ipv4b_held *held)
{
    return held->bytes != NULL || (held->row != NULL && held->row->readonly);
}

/* Puts *fresh in the place of *held, which belongs to m and is locked, and what was there into
 * *fresh. Returns 0, or -1 with RuntimeError and nothing changed. */
static int
exchange_buffers(ipv4b_message_object *m, ipv4b_held *held, ipv4b_held *fresh, const char *field)
{
    ipv4b_held old = *held;

    if (check_free(m, field) < 0) {
        return -1;
    }
    *held = *fresh;
    *fresh = old;
    if (held == &m->data) {
        show_data(m);
    }
    else {
        show_oob(m);
    }
    m->use = m->header.msg_control == NULL || oob_cannot_change(m) ? 0 : IPV4B_USE_UNCHECKED;
    if (is_readonly(&m->data) || is_readonly(&m->oob)) {
        m->use |= IPV4B_USE_READONLY;
    }
    return 0;
}

/* Gives m other buffers. STEALS fresh, also on failure. */
static int
replace_buffers(ipv4b_message_object *m, ipv4b_held *held, ipv4b_held fresh, const char *field)
{
    int r = ipv4b_slab_show((PyObject *)m);

    /* Only now, because taking the new buffers may have run Python code. */
    if (r == 0) {
        Py_BEGIN_CRITICAL_SECTION(m);
        r = exchange_buffers(m, held, &fresh, field);
        Py_END_CRITICAL_SECTION();
    }
    ipv4b_held_release(&fresh);
    return r;
}

PyObject *
ipv4b_message_buffers(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *objects;

    if (ipv4b_slab_show(self) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    objects = ipv4b_held_objects(&((ipv4b_message_object *)self)->data);
    Py_END_CRITICAL_SECTION();
    return objects;
}

/* Holds the buffers of a value for the attribute `buffers`. Returns 0, or -1 with an exception. */
static int
hold_buffers(PyObject *value, ipv4b_held *held)
{
    PyObject *tuple;

    *held = (ipv4b_held){NULL, NULL};
    if (PyBytes_CheckExact(value)) {
        held->bytes = Py_NewRef(value);
        return 0;
    }
    if (PyObject_CheckBuffer(value)) {
        tuple = PyTuple_Pack(1, value);
    }
    else if (PyUnicode_Check(value) || (!PySequence_Check(value) && !PyIter_Check(value) &&
                                        Py_TYPE(value)->tp_iter == NULL)) {
        PyErr_Format(PyExc_TypeError,
                     "buffers: a bytes-like object or an iterable of them is required, not %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    else {
        tuple = PySequence_Tuple(value);
    }
    if (tuple == NULL) {
        return -1;
    }
    if (PyTuple_GET_SIZE(tuple) > 0) {
        held->row = ipv4b_buffers_new(tuple, "buffers", true);
        if (held->row == NULL) {
            Py_DECREF(tuple);
            return -1;
        }
    }
    Py_DECREF(tuple);
    return 0;
}

int
ipv4b_message_set_buffers(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_held fresh;

    if (ipv4b_check_set(value, "buffers") < 0 || hold_buffers(value, &fresh) < 0) {
        return -1;
    }
    return replace_buffers(m, &m->data, fresh, "buffers");
}

PyObject *
ipv4b_message_oob(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *oob;

    if (ipv4b_slab_show(self) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    oob = ipv4b_held_first(&((ipv4b_message_object *)self)->oob);
    oob = Py_NewRef(oob == NULL ? Py_None : oob);
    Py_END_CRITICAL_SECTION();
    return oob;
}

int
ipv4b_message_set_oob(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_held fresh = {NULL, NULL};

    if (ipv4b_check_set(value, "oob") < 0) {
        return -1;
    }
    if (PyBytes_CheckExact(value)) {
        fresh.bytes = Py_NewRef(value);
    }
    else if (value != Py_None) {
        PyObject *tuple = PyTuple_Pack(1, value);

        fresh.row = tuple == NULL ? NULL : ipv4b_buffers_new(tuple, "oob", false);
        Py_XDECREF(tuple);
        if (fresh.row == NULL) {
            return -1;
        }
    }
    return replace_buffers(m, &m->oob, fresh, "oob");
}

static bool
same_endpoint(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_addr.s_addr == b->sin_addr.s_addr && a->sin_port == b->sin_port;
}

PyObject *
ipv4b_message_peer(ipv4b_message_object *m)
{
    if (m->header.msg_namelen < sizeof m->name || m->name.sin_family != AF_INET) {
        Py_RETURN_NONE;
    }
    if (m->addr == NULL || !same_endpoint(&m->name, &m->addr_key)) {
        struct sockaddr_in key = m->name;
        ipv4b_state *state = ipv4b_state_of(Py_TYPE((PyObject *)m));
        PyObject *tuple = state == NULL ? NULL : ipv4b_endpoint_cached(state, &key);

        if (tuple == NULL) {
            return NULL;
        }
        m->addr_key = key;
        Py_XSETREF(m->addr, tuple);
    }
    return Py_NewRef(m->addr);
}

PyObject *
ipv4b_message_addr(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *addr;

    Py_BEGIN_CRITICAL_SECTION(self);
    addr = ipv4b_message_peer((ipv4b_message_object *)self);
    Py_END_CRITICAL_SECTION();
    return addr;
}

int
ipv4b_message_set_addr(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_state *state;
    struct sockaddr_in name = {0};
    int r;

    if (ipv4b_check_set(value, "addr") < 0) {
        return -1;
    }
    if (value != Py_None && !ipv4b_endpoint_parse_usual(value, &name)) {
        state = ipv4b_state_of(Py_TYPE(self));
        if (state == NULL || ipv4b_endpoint_parse(state, value, "addr", &name) < 0) {
            return -1;
        }
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    r = check_free(m, "addr");
    if (r == 0 && value == Py_None) {
        m->header.msg_namelen = 0;
    }
    else if (r == 0) {
        m->name = name;
        m->header.msg_namelen = sizeof name;
    }
    Py_END_CRITICAL_SECTION();
    return r;
}

PyObject *
ipv4b_message_create(PyTypeObject *type)
{
    ipv4b_message_object *m = (ipv4b_message_object *)type->tp_alloc(type, 0);

    if (m != NULL) {
        m->header.msg_name = &m->name;
    }
    return (PyObject *)m;
}

PyObject *
ipv4b_message_new(ipv4b_state *state, PyObject *buffers, PyObject *oob,
                  const struct sockaddr_in *name)
{
    PyObject *self = ipv4b_message_create(state->message_type);
    ipv4b_message_object *m = (ipv4b_message_object *)self;

    if (self != NULL && (ipv4b_message_set_buffers(self, buffers, NULL) < 0 ||
                         (oob != NULL && ipv4b_message_set_oob(self, oob, NULL) < 0))) {
        Py_CLEAR(self);
    }
    if (self != NULL) {
        m->name = *name;
        m->header.msg_namelen = sizeof *name;
    }
    return self;
}

int
ipv4b_message_set(PyObject *self, PyObject *const values[3])
{
    if ((values[0] != NULL && ipv4b_message_set_buffers(self, values[0], NULL) < 0) ||
        (values[1] != NULL && ipv4b_message_set_oob(self, values[1], NULL) < 0) ||
        (values[2] != NULL && ipv4b_message_set_addr(self, values[2], NULL) < 0)) {
        return -1;
    }
    return 0;
}

PyObject *
ipv4b_message_readonly_field(const ipv4b_message_object *m)
{
    if (m->data.bytes != NULL) {
        return PyUnicode_FromString("buffers[0]");
    }
    for (Py_ssize_t i = 0; m->data.row != NULL && i < m->data.row->count; i++) {
        if (m->data.row->views[i].readonly) {
            return PyUnicode_FromFormat("buffers[%zd]", i);
        }
    }
    return PyUnicode_FromString("oob");
}
