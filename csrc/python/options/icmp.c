/* icmp.c - the type ICMPFilter: see icmp.h. */
#include "python/options/icmp.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/options/sockopt.h"

typedef struct {
    PyObject_HEAD
    uint32_t blocked; /* a bit for each of the types 0 to 31, as the kernel has it */
} icmpfilter_object;

static uint32_t
blocked_types(PyObject *self)
{
    return IPV4B_LOAD_RELAXED(((icmpfilter_object *)self)->blocked);
}

/* The kernel looks at types up to 31 only, and lets all others pass (icmp_filter,
 * net/ipv4/raw.c). */
static int
type_parse(PyObject *value, uint32_t *bit)
{
    long long type;

    if (ipv4b_parse_int(value, "type", 0, 31, &type) < 0) {
        return -1;
    }
    *bit = (uint32_t)1 << type;
    return 0;
}

static PyObject *
icmpfilter_create(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"blocked", NULL};
    PyObject *value = NULL;
    long long blocked = 0;
    PyObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:ICMPFilter", names, &value) ||
        (value != NULL && ipv4b_parse_int(value, "blocked", 0, UINT32_MAX, &blocked) < 0)) {
        return NULL;
    }
    self = type->tp_alloc(type, 0);
    if (self != NULL) {
        ((icmpfilter_object *)self)->blocked = (uint32_t)blocked;
    }
    return self;
}

static void
icmpfilter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(accept_doc, "accept($self, type, /)\n--\n\n"
                         "Let messages of this ICMPType, 0 to 31, pass.");

static PyObject *
icmpfilter_accept(PyObject *self, PyObject *type)
{
    uint32_t bit;

    if (type_parse(type, &bit) < 0) {
        return NULL;
    }
    (void)__atomic_and_fetch(&((icmpfilter_object *)self)->blocked, ~bit, __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(block_doc, "block($self, type, /)\n--\n\n"
                        "Drop messages of this ICMPType, 0 to 31.");

static PyObject *
icmpfilter_block(PyObject *self, PyObject *type)
{
    uint32_t bit;

    if (type_parse(type, &bit) < 0) {
        return NULL;
    }
    (void)__atomic_or_fetch(&((icmpfilter_object *)self)->blocked, bit, __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(set_all_doc, "set_all($self, block, /)\n--\n\n"
                          "Drop messages of all types from 0 to 31 if block is true, else let all pass.");

static PyObject *
icmpfilter_set_all(PyObject *self, PyObject *block)
{
    int all = PyObject_IsTrue(block);

    if (all < 0) {
        return NULL;
    }
    IPV4B_STORE_RELAXED(((icmpfilter_object *)self)->blocked, all ? UINT32_MAX : 0);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(will_block_doc, "will_block($self, type, /)\n--\n\n"
                             "Whether messages of this ICMPType, 0 to 31, are dropped.");

static PyObject *
icmpfilter_will_block(PyObject *self, PyObject *type)
{
    uint32_t bit;

    if (type_parse(type, &bit) < 0) {
        return NULL;
    }
    return PyBool_FromLong((blocked_types(self) & bit) != 0);
}

static PyObject *
icmpfilter_get_blocked(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(blocked_types(self));
}

static PyObject *
icmpfilter_newargs(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return Py_BuildValue("(k)", (unsigned long)blocked_types(self));
}

static PyObject *
icmpfilter_repr(PyObject *self)
{
    return PyUnicode_FromFormat("%s(0x%x)", ipv4b_type_name(Py_TYPE(self)),
                                (unsigned int)blocked_types(self));
}

static PyObject *
icmpfilter_richcompare(PyObject *self, PyObject *other, int op)
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

    if (state == NULL) {
        return NULL;
    }
    if ((op != Py_EQ && op != Py_NE) || !PyObject_TypeCheck(other, state->icmpfilter_type)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return PyBool_FromLong((blocked_types(self) == blocked_types(other)) == (op == Py_EQ));
}

static PyMethodDef icmpfilter_methods[] = {
    {"accept", icmpfilter_accept, METH_O, accept_doc},
    {"block", icmpfilter_block, METH_O, block_doc},
    {"set_all", icmpfilter_set_all, METH_O, set_all_doc},
    {"will_block", icmpfilter_will_block, METH_O, will_block_doc},
    {"__getnewargs__", icmpfilter_newargs, METH_NOARGS, NULL},
    {0},
};

static PyGetSetDef icmpfilter_getset[] = {
    {"blocked", icmpfilter_get_blocked, NULL,
     "The filter as an int: bit t is set if messages of type t are dropped.", NULL},
    {0},
};

PyDoc_STRVAR(icmpfilter_doc,
             "ICMPFilter(blocked=0)\n--\n\n"
             "Which ICMP messages a raw ICMP socket is spared, by type (ICMP_FILTER, raw(7)).\n\n"
             "A new one lets everything pass. The kernel filters the types 0 to 31 and no others,\n"
             "so every method raises ValueError for a type over 31. Set it as icmp_filter.");

static PyType_Slot icmpfilter_slots[] = {
    {Py_tp_doc, (void *)icmpfilter_doc},
    IPV4B_SLOT(Py_tp_new, icmpfilter_create),
    IPV4B_SLOT(Py_tp_dealloc, icmpfilter_dealloc),
    {Py_tp_getset, icmpfilter_getset},
    {Py_tp_methods, icmpfilter_methods},
    IPV4B_SLOT(Py_tp_repr, icmpfilter_repr),
    IPV4B_SLOT(Py_tp_richcompare, icmpfilter_richcompare),
    IPV4B_SLOT(Py_tp_hash, PyObject_HashNotImplemented),
    {0, NULL},
};

PyType_Spec ipv4b_icmpfilter_spec = {
    .name = "ipv4batch.ICMPFilter",
    .basicsize = sizeof(icmpfilter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = icmpfilter_slots,
};

PyObject *
ipv4b_icmp_filter_get(PyObject *op, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    uint32_t blocked = 0;
    socklen_t len = sizeof blocked;
    PyObject *filter;

    if (ipv4b_getsockopt(self, "icmp_filter", IPV4B_SOL_RAW, IPV4B_ICMP_FILTER, &blocked, &len) <
        0) {
        return NULL;
    }
    filter = self->state->icmpfilter_type->tp_alloc(self->state->icmpfilter_type, 0);
    if (filter != NULL) {
        ((icmpfilter_object *)filter)->blocked = blocked;
    }
    return filter;
}

int
ipv4b_icmp_filter_set(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    uint32_t blocked;

    if (ipv4b_check_set(value, "icmp_filter") < 0 || ipv4b_check_open(self, "icmp_filter") < 0) {
        return -1;
    }
    if (!PyObject_TypeCheck(value, self->state->icmpfilter_type)) {
        PyErr_Format(PyExc_TypeError, "icmp_filter: an ICMPFilter is required, not %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    blocked = blocked_types(value);
    return ipv4b_setsockopt(self, "icmp_filter", IPV4B_SOL_RAW, IPV4B_ICMP_FILTER, &blocked,
                            sizeof blocked);
}
