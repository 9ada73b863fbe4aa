/* message_type.c - see message_type.h; message.h has the locking rule. */
#include "python/message/message_type.h"

#include "core/ancillary.h"
#include "core/cmsg.h"
#include "python/base/args.h"
#include "python/base/buffers.h"
#include "python/base/locks.h"
#include "python/message/received.h"
#include "python/message/slab.h"
#include "python/values/addr.h"
#include "python/values/control.h"

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

/* Whether the control data is a row of items and will stay one, so that a write need not look at it
 * again. */
static bool
oob_cannot_change(const ipv4b_message_object *m)
{
    size_t where;

    return PyBytes_CheckExact(PyTuple_GET_ITEM(m->oob->objects, 0)) &&
           ipv4b_cmsg_check(m->header.msg_control, (size_t)m->header.msg_controllen, &where) == 0;
}

/* Puts *fresh in the place of *held, which belongs to m and is locked, and what was there into
 * *fresh. Returns 0, or -1 with RuntimeError and nothing changed. */
static int
exchange_buffers(ipv4b_message_object *m, ipv4b_buffers **held, ipv4b_buffers **fresh,
                 const char *field)
{
    ipv4b_buffers *old = *held;

    if (check_free(m, field) < 0) {
        return -1;
    }
    *held = *fresh;
    *fresh = old;
    m->header.msg_iov = m->data == NULL ? NULL : m->data->iov;
    m->header.msg_iovlen = m->data == NULL ? 0 : (size_t)m->data->count;
    m->header.msg_control = m->oob == NULL ? NULL : m->oob->iov[0].iov_base;
    m->header.msg_controllen = m->oob == NULL ? 0 : m->oob->iov[0].iov_len;
    m->use = m->oob == NULL || oob_cannot_change(m) ? 0 : IPV4B_USE_UNCHECKED;
    if (held == &m->data) {
        IPV4B_STORE_RELAXED(m->flags, m->flags & ~IPV4B_FLAG_RECEIVED);
    }
    if ((m->data != NULL && m->data->readonly) || (m->oob != NULL && m->oob->readonly)) {
        m->use |= IPV4B_USE_READONLY;
    }
    return 0;
}

/* Gives m other buffers. STEALS fresh, also on failure. */
static int
replace_buffers(ipv4b_message_object *m, ipv4b_buffers **held, ipv4b_buffers *fresh,
                const char *field)
{
    int r = ipv4b_slab_show((PyObject *)m);

    if (r < 0) {
        ipv4b_buffers_free(fresh);
        return -1;
    }
    /* Only now, since taking the new buffers may have run Python code. */
    Py_BEGIN_CRITICAL_SECTION(m);
    r = exchange_buffers(m, held, &fresh, field);
    Py_END_CRITICAL_SECTION();
    ipv4b_buffers_free(fresh);
    return r;
}

static PyObject *
message_get_buffers(PyObject *self, void *Py_UNUSED(closure))
{
    const ipv4b_message_object *m = (ipv4b_message_object *)self;
    PyObject *objects;

    if (ipv4b_slab_show(self) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    objects = m->data == NULL ? PyTuple_New(0) : Py_NewRef(m->data->objects);
    Py_END_CRITICAL_SECTION();
    return objects;
}

static int
message_set_buffers(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_buffers *fresh = NULL;
    PyObject *tuple;

    if (ipv4b_check_set(value, "buffers") < 0) {
        return -1;
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
        fresh = ipv4b_buffers_new(tuple, "buffers", true);
        if (fresh == NULL) {
            Py_DECREF(tuple);
            return -1;
        }
    }
    Py_DECREF(tuple);
    return replace_buffers(m, &m->data, fresh, "buffers");
}

static PyObject *
message_get_oob(PyObject *self, void *Py_UNUSED(closure))
{
    const ipv4b_message_object *m = (ipv4b_message_object *)self;
    PyObject *oob;

    if (ipv4b_slab_show(self) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    oob = Py_NewRef(m->oob == NULL ? Py_None : PyTuple_GET_ITEM(m->oob->objects, 0));
    Py_END_CRITICAL_SECTION();
    return oob;
}

static int
message_set_oob(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_buffers *fresh = NULL;

    if (ipv4b_check_set(value, "oob") < 0) {
        return -1;
    }
    if (value != Py_None) {
        PyObject *tuple = PyTuple_Pack(1, value);

        fresh = tuple == NULL ? NULL : ipv4b_buffers_new(tuple, "oob", false);
        Py_XDECREF(tuple);
        if (fresh == NULL) {
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

/* The tuple for the peer of m, which is locked, or None. New, or NULL with an exception. */
static PyObject *
peer_tuple(ipv4b_message_object *m)
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

static PyObject *
message_get_addr(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *addr;

    Py_BEGIN_CRITICAL_SECTION(self);
    addr = peer_tuple((ipv4b_message_object *)self);
    Py_END_CRITICAL_SECTION();
    return addr;
}

static int
message_set_addr(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_state *state;
    struct sockaddr_in name = {0};
    int r;

    if (ipv4b_check_set(value, "addr") < 0) {
        return -1;
    }
    if (value != Py_None) {
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

static PyObject *
message_get_n(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(IPV4B_LOAD_RELAXED(((ipv4b_message_object *)self)->n));
}

static PyObject *
message_get_nn(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(IPV4B_LOAD_RELAXED(((ipv4b_message_object *)self)->nn));
}

static PyObject *
message_get_flags(PyObject *self, void *Py_UNUSED(closure))
{
    int flags = IPV4B_LOAD_RELAXED(((ipv4b_message_object *)self)->flags);

    return PyLong_FromLong(flags & ~IPV4B_FLAG_RECEIVED);
}

static PyObject *
message_get_errno(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(IPV4B_LOAD_RELAXED(((ipv4b_message_object *)self)->error));
}

static PyObject *
message_get_truncated(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(IPV4B_LOAD_RELAXED(((ipv4b_message_object *)self)->flags) & MSG_TRUNC);
}

static PyObject *
message_get_control_truncated(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(IPV4B_LOAD_RELAXED(((ipv4b_message_object *)self)->flags) & MSG_CTRUNC);
}

static PyObject *
message_create(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ipv4b_message_object *m = (ipv4b_message_object *)type->tp_alloc(type, 0);

    if (m != NULL) {
        m->header.msg_name = &m->name;
    }
    return (PyObject *)m;
}

static int
message_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"buffers", "oob", "addr", NULL};
    PyObject *buffers = NULL, *oob = NULL, *addr = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:Message", names, &buffers, &oob, &addr)) {
        return -1;
    }
    if ((buffers != NULL && message_set_buffers(self, buffers, NULL) < 0) ||
        (oob != NULL && message_set_oob(self, oob, NULL) < 0) ||
        (addr != NULL && message_set_addr(self, addr, NULL) < 0)) {
        return -1;
    }
    return 0;
}

static int
message_traverse(PyObject *self, visitproc visit, void *arg)
{
    const ipv4b_message_object *m = (ipv4b_message_object *)self;
    int r;

    Py_VISIT(Py_TYPE(self));
    if ((r = ipv4b_buffers_traverse(m->data, visit, arg)) != 0 ||
        (r = ipv4b_buffers_traverse(m->oob, visit, arg)) != 0) {
        return r;
    }
    Py_VISIT(m->slab);
    Py_VISIT(m->addr);
    return 0;
}

/* A pinned message is owned by its call and so never garbage: nobody is using the memory that goes
 * here. */
static int
message_clear(PyObject *self)
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_buffers *data = m->data, *oob = m->oob;

    m->data = m->oob = NULL;
    m->header.msg_iov = NULL;
    m->header.msg_iovlen = 0;
    m->header.msg_control = NULL;
    m->header.msg_controllen = 0;
    ipv4b_buffers_free(data);
    ipv4b_buffers_free(oob);
    Py_CLEAR(m->slab);
    Py_CLEAR(m->addr);
    return 0;
}

static void
message_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void)message_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
message_repr(PyObject *self)
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    PyObject *addr, *repr = NULL;

    Py_BEGIN_CRITICAL_SECTION(self);
    addr = peer_tuple(m);
    if (addr != NULL) {
        repr = PyUnicode_FromFormat("<%s buffers=%zu n=%u nn=%u flags=0x%x addr=%R%s>",
                                    Py_TYPE(self)->tp_name, (size_t)m->header.msg_iovlen, m->n,
                                    m->nn, m->flags & ~IPV4B_FLAG_RECEIVED, addr,
                                    ipv4b_message_pinned(m) ? " in use" : "");
        Py_DECREF(addr);
    }
    Py_END_CRITICAL_SECTION();
    return repr;
}

PyObject *
ipv4b_message_readonly_field(const ipv4b_message_object *m)
{
    for (Py_ssize_t i = 0; m->data != NULL && i < m->data->count; i++) {
        if (m->data->views[i].readonly) {
            return PyUnicode_FromFormat("buffers[%zd]", i);
        }
    }
    return PyUnicode_FromString("oob");
}

static PyGetSetDef message_getset[] = {
    {"n", message_get_n, NULL,
     "Bytes of the datagram that the last call moved; more than the buffers hold with MSG_TRUNC.",
     NULL},
    {"nn", message_get_nn, NULL,
     "Bytes of control data in oob that the last call received or sent.", NULL},
    {"flags", message_get_flags, NULL,
     "MSG_* flags of the last read, as recvmsg(2) gives them; 0 after a write.", NULL},
    {"errno", message_get_errno, NULL,
     "The errno of the last write of this message, 0 if there was none.", NULL},
    {"buffers", message_get_buffers, message_set_buffers,
     "The buffers as a tuple; set it from one bytes-like object or an iterable of at most 1024.\n\n"
     "They are held until they are replaced: a bytearray cannot be resized meanwhile. Raises\n"
     "RuntimeError while a call uses the message.",
     NULL},
    {"oob", message_get_oob, message_set_oob,
     "The control buffer (bytes-like) or None; see new_control_message and ControlMessage.", NULL},
    {"addr", message_get_addr, message_set_addr,
     "The peer as a (host, port) tuple, or None: where a read message came from, where a written\n"
     "one goes. The host is taken as str, ipaddress.IPv4Address or 4 packed bytes; the port is 0\n"
     "on raw sockets. The same tuple is given as long as the endpoint stays the same.",
     NULL},
    {"data", ipv4b_message_data, NULL, "The first n bytes over all buffers, as bytes.", NULL},
    {"view", ipv4b_message_view, NULL,
     "A memoryview of the first n bytes, without a copy; ValueError unless there is one buffer.",
     NULL},
    {"truncated", message_get_truncated, NULL,
     "True if the datagram was longer than the buffers (MSG_TRUNC).", NULL},
    {"control_truncated", message_get_control_truncated, NULL,
     "True if control data did not fit into oob (MSG_CTRUNC).", NULL},
    {0},
};

static PyMethodDef message_methods[] = {
    {"control_message", IPV4B_METHOD(ipv4b_message_control), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_message_control_doc},
    {"reply", ipv4b_message_reply, METH_O, ipv4b_message_reply_doc},
    {"segments", ipv4b_message_segments, METH_NOARGS, ipv4b_message_segments_doc},
    {0},
};

PyDoc_STRVAR(message_doc,
             "Message(buffers=(), oob=None, addr=None)\n--\n\n"
             "One datagram of a batch: where its bytes are, its control data and its peer.\n\n"
             "buffers is one bytes-like object or an iterable of them (vectored I/O, readv(2));\n"
             "oob a control buffer; addr a (host, port) tuple. A read fills the buffers and sets\n"
             "n, nn, flags and addr; a write sends all of the buffers and all of oob, and sets\n"
             "n, nn and errno. The same message may stand many times in a write and once in a read.");

static PyType_Slot message_slots[] = {
    {Py_tp_doc, (void *)message_doc},
    IPV4B_SLOT(Py_tp_new, message_create),
    IPV4B_SLOT(Py_tp_init, message_init),
    IPV4B_SLOT(Py_tp_dealloc, message_dealloc),
    IPV4B_SLOT(Py_tp_traverse, message_traverse),
    IPV4B_SLOT(Py_tp_clear, message_clear),
    IPV4B_SLOT(Py_tp_repr, message_repr),
    {Py_tp_getset, message_getset},
    {Py_tp_methods, message_methods},
    {0, NULL},
};

PyType_Spec ipv4b_message_spec = {
    .name = "ipv4batch.Message",
    .basicsize = sizeof(ipv4b_message_object),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = message_slots,
};
