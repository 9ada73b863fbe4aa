/* message_type.c - see message_type.h; message.h has the locking rule. */
#include "python/message/message_type.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/message/fields.h"
#include "python/message/received.h"

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
message_get_late_ns(PyObject *self, void *Py_UNUSED(closure))
{
    int64_t late;

    Py_BEGIN_CRITICAL_SECTION(self);
    late = ((ipv4b_message_object *)self)->late;
    Py_END_CRITICAL_SECTION();
    return PyLong_FromLongLong(late);
}

static PyObject *
message_get_tx_id(PyObject *self, void *Py_UNUSED(closure))
{
    uint64_t id;

    Py_BEGIN_CRITICAL_SECTION(self);
    id = ((ipv4b_message_object *)self)->tx_id;
    Py_END_CRITICAL_SECTION();
    return id == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(id);
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
    return ipv4b_message_create(type);
}

static const char *const message_names[] = {"buffers", "oob", "addr", NULL};
static const ipv4b_signature message_signature = {"Message", message_names, 0};

static int
message_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *values[3] = {NULL};

    return ipv4b_parse_tuple(&message_signature, args, kwargs, values) < 0
               ? -1
               : ipv4b_message_set(self, values);
}

PyObject *
ipv4b_message_call(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *values[3] = {NULL};
    PyObject *self;

    if (ipv4b_parse_args(&message_signature, args, PyVectorcall_NARGS(nargsf), kwnames, values) <
        0) {
        return NULL;
    }
    self = ipv4b_message_create((PyTypeObject *)type);
    if (self != NULL && ipv4b_message_set(self, values) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static int
message_traverse(PyObject *self, visitproc visit, void *arg)
{
    const ipv4b_message_object *m = (ipv4b_message_object *)self;
    int r;

    Py_VISIT(Py_TYPE(self));
    if ((r = ipv4b_held_traverse(&m->data, visit, arg)) != 0 ||
        (r = ipv4b_held_traverse(&m->oob, visit, arg)) != 0) {
        return r;
    }
    Py_VISIT(m->slab);
    Py_VISIT(m->addr);
    return 0;
}

/* A call owns a reference to each message that it pins, so a message that is cleared is not in
 * use. */
static int
message_clear(PyObject *self)
{
    ipv4b_message_object *m = (ipv4b_message_object *)self;
    ipv4b_held data = m->data, oob = m->oob;

    m->data = m->oob = (ipv4b_held){NULL, NULL};
    m->header.msg_iov = NULL;
    m->header.msg_iovlen = 0;
    m->header.msg_control = NULL;
    m->header.msg_controllen = 0;
    ipv4b_held_release(&data);
    ipv4b_held_release(&oob);
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
    addr = ipv4b_message_peer(m);
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
    {"late_ns", message_get_late_ns, NULL,
     "How many nanoseconds after its time the last write_paced sent this message, 0 if none did.",
     NULL},
    {"tx_id", message_get_tx_id, NULL,
     "The number by which read_tx_timestamps tells when this message left, from 1 on; None if no\n"
     "write has asked for that (tx_timestamps). With gso the messages of a run have one number.",
     NULL},
    {"buffers", ipv4b_message_buffers, ipv4b_message_set_buffers,
     "The buffers as a tuple; set it from one bytes-like object or an iterable of at most 1024.\n\n"
     "They are held until they are replaced: a bytearray cannot be resized meanwhile. Raises\n"
     "RuntimeError while a call uses the message.",
     NULL},
    {"oob", ipv4b_message_oob, ipv4b_message_set_oob,
     "The control buffer (bytes-like) or None; see new_control_message and ControlMessage.", NULL},
    {"addr", ipv4b_message_addr, ipv4b_message_set_addr,
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
