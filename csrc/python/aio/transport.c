/* transport.c - the type TransportCore: see core.h for the locking rule. */
#include "python/aio/transport.h"

#include "python/aio/deliver.h"
#include "python/aio/flush.h"
#include "python/aio/submit.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/values/addr.h"

static int
core_init_members(ipv4b_core_object *self, PyObject *transport, PyObject *conn, PyObject *call_soon,
                  long long header_size)
{
    self->transport = Py_NewRef(transport);
    self->conn = (ipv4b_conn_object *)Py_NewRef(conn);
    self->call_soon = Py_NewRef(call_soon);
    self->protocol = Py_NewRef(Py_None);
    self->address = Py_NewRef(Py_None);
    self->header_size = (Py_ssize_t)header_size;
    self->thread = PyThread_get_thread_ident();
    self->context = PyContext_CopyCurrent();
    self->end_turn = PyObject_GetAttrString((PyObject *)self, "end_turn");
    self->read_again = PyObject_GetAttrString((PyObject *)self, "read_again");
    return self->context == NULL || self->end_turn == NULL || self->read_again == NULL ? -1 : 0;
}

static PyObject *
core_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    ipv4b_state *state = ipv4b_state_of(type);
    ipv4b_core_object *self;
    PyObject *transport, *conn, *call_soon, *number;
    long long header_size;

    if (state == NULL) {
        return NULL;
    }
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "TransportCore() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OO!OO:TransportCore", &transport, state->dgram_type, &conn,
                          &call_soon, &number) ||
        ipv4b_parse_int(number, "header_size", 0, 1 << 16, &header_size) < 0) {
        return NULL;
    }
    if (((ipv4b_conn_object *)conn)->state == NULL) {
        PyErr_SetString(PyExc_ValueError, "conn: it was never initialized");
        return NULL;
    }
    self = (ipv4b_core_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    if (core_init_members(self, transport, conn, call_soon, header_size) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
core_traverse(PyObject *op, visitproc visit, void *arg)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->conn);
    Py_VISIT(self->transport);
    Py_VISIT(self->protocol);
    Py_VISIT(self->context);
    Py_VISIT(self->call_soon);
    Py_VISIT(self->end_turn);
    Py_VISIT(self->read_again);
    Py_VISIT(self->address);
    Py_VISIT(self->last_addr);
    return 0;
}

/* A core keeps its connection, context and callables until dealloc, because the collector may
 * clear a core while a callback of it still runs. */
static int
core_clear(PyObject *op)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;

    self->reading = false;
    self->lost = true;
    Py_CLEAR(self->transport);
    Py_CLEAR(self->end_turn);
    Py_CLEAR(self->read_again);
    Py_CLEAR(self->last_addr);
    return 0;
}

static void
core_dealloc(PyObject *op)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    (void)core_clear(op);
    ipv4b_core_release_inbox(self);
    ipv4b_outbox_free(&self->outbox);
    Py_XDECREF((PyObject *)self->conn);
    Py_XDECREF(self->protocol);
    Py_XDECREF(self->context);
    Py_XDECREF(self->call_soon);
    Py_XDECREF(self->address);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
core_get_flag(PyObject *self, void *closure)
{
    return PyBool_FromLong(*(bool *)((char *)self + (uintptr_t)closure));
}

static int
core_set_flag(PyObject *self, PyObject *value, void *closure)
{
    int on = value == NULL ? 0 : PyObject_IsTrue(value);

    if (on >= 0) {
        *(bool *)((char *)self + (uintptr_t)closure) = on != 0;
    }
    return on < 0 ? -1 : 0;
}

static PyObject *
core_get_left(PyObject *op, void *Py_UNUSED(closure))
{
    const ipv4b_inbox *box = ((ipv4b_core_object *)op)->inbox;

    return PyLong_FromSize_t(box == NULL ? 0 : box->count - box->next);
}

static PyObject *
core_get_protocol(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((ipv4b_core_object *)self)->protocol);
}

static int
core_set_protocol(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyObject *former;

    Py_BEGIN_CRITICAL_SECTION(self);
    former = self->protocol;
    self->protocol = Py_NewRef(value == NULL ? Py_None : value);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(former);
    return 0;
}

static PyObject *
core_get_buffer_size(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    size_t size;

    Py_BEGIN_CRITICAL_SECTION(self);
    size = self->waiting_bytes + self->waiting_count * (size_t)self->header_size;
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(size);
}

static PyObject *
core_get_waiting(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    size_t count;

    Py_BEGIN_CRITICAL_SECTION(self);
    count = self->waiting_count;
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(count);
}

static PyObject *
core_get_blocked(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong((long)((ipv4b_core_object *)self)->blocked);
}

static PyGetSetDef core_getset[] = {
    {"protocol", core_get_protocol, core_set_protocol, "Whose methods are called.", NULL},
    {"reading", core_get_flag, core_set_flag, "Whether datagrams are delivered.",
     (void *)offsetof(ipv4b_core_object, reading)},
    {"delivering", core_get_flag, core_set_flag,
     "Whether the protocol is being given a batch: what it sends waits until flush.",
     (void *)offsetof(ipv4b_core_object, delivering)},
    {"closing", core_get_flag, core_set_flag,
     "Whether the transport is to be told when nothing waits any more.",
     (void *)offsetof(ipv4b_core_object, closing)},
    {"lost", core_get_flag, core_set_flag, "Whether nothing is sent any more.",
     (void *)offsetof(ipv4b_core_object, lost)},
    {"left", core_get_left, NULL, "How many datagrams were read and not delivered.", NULL},
    {"waiting", core_get_waiting, NULL, "How many datagrams wait to be sent.", NULL},
    {"buffer_size", core_get_buffer_size, NULL,
     "Their bytes, with the header size counted for each.", NULL},
    {"blocked", core_get_blocked, NULL,
     "What they wait for: 0 nothing but their turn, 1 room in the socket, 2 room in a device.",
     NULL},
    {0},
};

PyDoc_STRVAR(start_doc, "start($self, /)\n--\n\n"
                        "Deliver from now on, with callbacks in a copy of the current context.");

static PyObject *
core_start(PyObject *op, PyObject *Py_UNUSED(unused))
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyObject *context = PyContext_CopyCurrent();

    if (context == NULL) {
        return NULL;
    }
    Py_SETREF(self->context, context);
    self->reading = true;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(connect_doc, "connect($self, address, connected, /)\n--\n\n"
                          "The one address that sendto takes, or None, and whether the socket has\n"
                          "a peer and needs no address.");

static PyObject *
core_connect(PyObject *op, PyObject *args)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyObject *address;
    int connected;

    if (!PyArg_ParseTuple(args, "Op:connect", &address, &connected) ||
        (address != Py_None &&
         ipv4b_endpoint_parse(self->state, address, "address", &self->address_name) < 0)) {
        return NULL;
    }
    Py_SETREF(self->address, Py_NewRef(address));
    self->connected = connected != 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(lose_doc, "lose($self, /)\n--\n\n"
                       "The end: deliver nothing, send nothing, and know no transport.");

static PyObject *
core_lose(PyObject *op, PyObject *unused)
{
    ipv4b_core_object *self = (ipv4b_core_object *)op;
    PyObject *transport, *last_addr;

    self->reading = false;
    Py_DECREF(ipv4b_core_discard(op, unused)); /* None */
    if (!self->delivering) {
        ipv4b_core_release_inbox(self);
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    transport = self->transport;
    self->transport = NULL;
    last_addr = self->last_addr;
    self->last_addr = NULL;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(transport);
    Py_XDECREF(last_addr);
    return core_set_protocol(op, NULL, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef core_methods[] = {
    {"append", ipv4b_core_append, METH_O, ipv4b_core_append_doc},
    {"connect", core_connect, METH_VARARGS, connect_doc},
    {"discard", ipv4b_core_discard, METH_NOARGS, ipv4b_core_discard_doc},
    {"end_turn", ipv4b_core_end_turn, METH_NOARGS, ipv4b_core_end_turn_doc},
    {"flush", ipv4b_core_flush_method, METH_NOARGS, ipv4b_core_flush_doc},
    {"give_back", ipv4b_core_give_back, METH_NOARGS, ipv4b_core_give_back_doc},
    {"lose", core_lose, METH_NOARGS, lose_doc},
    {"read_again", ipv4b_core_read_again, METH_NOARGS, ipv4b_core_read_again_doc},
    {"read_ready", ipv4b_core_read_ready, METH_NOARGS, ipv4b_core_read_ready_doc},
    {"sendto", IPV4B_METHOD(ipv4b_core_sendto), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_core_sendto_doc},
    {"start", core_start, METH_NOARGS, start_doc},
    {0},
};

PyDoc_STRVAR(core_doc, "TransportCore(transport, conn, call_soon, header_size, /)\n--\n\n"
                       "The hot half of ipv4batch.aio's datagram transport, which alone makes it.");

static PyType_Slot core_slots[] = {
    {Py_tp_doc, (void *)core_doc},           IPV4B_SLOT(Py_tp_new, core_new),
    IPV4B_SLOT(Py_tp_dealloc, core_dealloc), IPV4B_SLOT(Py_tp_traverse, core_traverse),
    IPV4B_SLOT(Py_tp_clear, core_clear),     {Py_tp_getset, core_getset},
    {Py_tp_methods, core_methods},           {0, NULL},
};

PyType_Spec ipv4b_core_spec = {
    .name = "ipv4batch._ipv4batch.TransportCore",
    .basicsize = sizeof(ipv4b_core_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = core_slots,
};
