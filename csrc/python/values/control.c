/* control.c - the type ControlMessage: see control.h for the locking rule. */
#include "python/values/control.h"

#include "core/cmsg.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/base/value_type.h"
#include "python/values/addr.h"

ipv4b_control_object *
ipv4b_control_new(ipv4b_state *state)
{
    /* tp_alloc zeroes the memory: nothing is present. */
    return (ipv4b_control_object *)state->control_type->tp_alloc(state->control_type, 0);
}

void
ipv4b_control_raise(int err, size_t where, const char *field)
{
    const char *reason = err == -EPROTO ? "an item of a size or value that its type does not have"
                                        : ipv4b_cmsg_strerror(err);

    PyErr_Format(PyExc_ValueError, "%s: %s at byte %zu", field, reason, where);
}

int
ipv4b_control_flags_parse(PyObject *value, const char *field, unsigned int *out)
{
    long long flags;

    if (ipv4b_parse_int(value, field, 0, IPV4B_CM_ALL, &flags) < 0) {
        return -1;
    }
    *out = (unsigned int)flags;
    return 0;
}

ipv4b_ancillary
ipv4b_control_value(PyObject *self)
{
    ipv4b_ancillary value;

    Py_BEGIN_CRITICAL_SECTION(self);
    value = ((ipv4b_control_object *)self)->value;
    Py_END_CRITICAL_SECTION();
    return value;
}

/* Numbers. A number whose 0 means something is None if it is absent; the others are 0 then, as
 * in Go. */
typedef struct {
    const char *name;
    unsigned int bit;
    long long max;
    bool or_none;
} number_field;

static const number_field ttl_field = {"ttl", IPV4B_CM_TTL, 255, false};
static const number_field ifindex_field = {"ifindex", IPV4B_CM_INTERFACE, INT_MAX, false};
static const number_field tos_field = {"tos", IPV4B_CM_TOS, 255, true};
static const number_field timestamp_field = {"timestamp_ns", IPV4B_CM_TIMESTAMP, INT64_MAX, true};
static const number_field drops_field = {"drops", IPV4B_CM_DROPS, UINT32_MAX, true};
static const number_field segment_field = {"segment_size", IPV4B_CM_SEGMENT, UINT16_MAX, false};

static long long
number_read(const ipv4b_ancillary *a, unsigned int bit)
{
    return bit == IPV4B_CM_TTL         ? a->ttl
           : bit == IPV4B_CM_INTERFACE ? a->ifindex
           : bit == IPV4B_CM_TOS       ? a->tos
           : bit == IPV4B_CM_TIMESTAMP ? a->timestamp_ns
           : bit == IPV4B_CM_DROPS     ? (long long)a->drops
                                       : a->segment_size;
}

static void
number_write(ipv4b_ancillary *a, unsigned int bit, long long number)
{
    switch (bit) {
    case IPV4B_CM_TTL:
        a->ttl = (int)number;
        break;
    case IPV4B_CM_INTERFACE:
        a->ifindex = (int)number;
        break;
    case IPV4B_CM_TOS:
        a->tos = (int)number;
        break;
    case IPV4B_CM_TIMESTAMP:
        a->timestamp_ns = number;
        break;
    case IPV4B_CM_DROPS:
        a->drops = (uint32_t)number;
        break;
    default:
        a->segment_size = (int)number;
        break;
    }
}

static PyObject *
control_get_number(PyObject *self, void *closure)
{
    const number_field *field = closure;
    ipv4b_ancillary a = ipv4b_control_value(self);

    if (a.present & field->bit) {
        return PyLong_FromLongLong(number_read(&a, field->bit));
    }
    return field->or_none ? Py_NewRef(Py_None) : PyLong_FromLong(0);
}

static int
control_set_number(PyObject *self, PyObject *value, void *closure)
{
    const number_field *field = closure;
    ipv4b_ancillary *a = &((ipv4b_control_object *)self)->value;
    bool absent = value == Py_None && field->or_none;
    long long number = 0;

    if (!absent && ipv4b_set_int(value, field->name, 0, field->max, &number) < 0) {
        return -1;
    }
    absent = absent || (number == 0 && !field->or_none);
    Py_BEGIN_CRITICAL_SECTION(self);
    number_write(a, field->bit, number);
    a->present = absent ? a->present & ~field->bit : a->present | field->bit;
    Py_END_CRITICAL_SECTION();
    return 0;
}

/* Parts of tos (RFC 2474, RFC 3168): the lower two bits and the upper six. */
typedef struct {
    const char *name;
    int shift;
    int mask;
} tos_part;

static const tos_part ecn_part = {"ecn", 0, 3};
static const tos_part dscp_part = {"dscp", 2, 63};

static PyObject *
control_get_tos_part(PyObject *self, void *closure)
{
    const tos_part *part = closure;
    ipv4b_ancillary a = ipv4b_control_value(self);

    if (!(a.present & IPV4B_CM_TOS)) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(a.tos >> part->shift & part->mask);
}

static int
control_set_tos_part(PyObject *self, PyObject *value, void *closure)
{
    const tos_part *part = closure;
    ipv4b_ancillary *a = &((ipv4b_control_object *)self)->value;
    long long number;
    int tos;

    if (ipv4b_set_int(value, part->name, 0, part->mask, &number) < 0) {
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    tos = a->present & IPV4B_CM_TOS ? a->tos : 0;
    a->tos = (tos & ~(part->mask << part->shift)) | (int)number << part->shift;
    a->present |= IPV4B_CM_TOS;
    Py_END_CRITICAL_SECTION();
    return 0;
}

/* Addresses: None stands for one that is not there. */
typedef struct {
    const char *name;
    unsigned int bit;
    size_t offset;
} addr_field;

static const addr_field src_field = {"src", IPV4B_CM_SRC, offsetof(ipv4b_ancillary, src)};
static const addr_field dst_field = {"dst", IPV4B_CM_DST, offsetof(ipv4b_ancillary, dst)};

static PyObject *
control_get_addr(PyObject *self, void *closure)
{
    const addr_field *field = closure;
    ipv4b_ancillary a = ipv4b_control_value(self);
    struct in_addr addr;

    if (!(a.present & field->bit)) {
        Py_RETURN_NONE;
    }
    memcpy(&addr, (char *)&a + field->offset, sizeof addr);
    return ipv4b_addr_str(addr);
}

static int
control_set_addr(PyObject *self, PyObject *value, void *closure)
{
    const addr_field *field = closure;
    ipv4b_ancillary *a = &((ipv4b_control_object *)self)->value;
    struct in_addr addr = {0};

    if (ipv4b_check_set(value, field->name) < 0) {
        return -1;
    }
    if (value != Py_None) {
        ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

        if (state == NULL || ipv4b_addr_parse(state, value, field->name, &addr) < 0) {
            return -1;
        }
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    memcpy((char *)a + field->offset, &addr, sizeof addr);
    a->present = value == Py_None ? a->present & ~field->bit : a->present | field->bit;
    Py_END_CRITICAL_SECTION();
    return 0;
}

PyDoc_STRVAR(control_ttl_doc, "Time to live of the datagram, 1 to 255; 0 for none.\n\n"
                              "Received: what the datagram arrived with (IP_RECVTTL). Sent: what\n"
                              "it leaves with, in place of the socket's (IP_TTL, ip(7)).");
PyDoc_STRVAR(control_src_doc, "Source address as str, or None.\n\n"
                              "Received: the peer's address. Sent: the address that the datagram\n"
                              "leaves with (ipi_spec_dst of IP_PKTINFO, ip(7)).");
PyDoc_STRVAR(control_dst_doc, "Destination address of a received datagram as str, or None\n"
                              "(ipi_addr of IP_PKTINFO). It is never sent.");
PyDoc_STRVAR(control_ifindex_doc, "Index of the interface that a datagram came in by or is to go\n"
                                  "out by (IP_PKTINFO, ip(7)); 0 for none.");

PyDoc_STRVAR(control_tos_doc, "Type of service (DSCP and ECN), 0 to 255, or None.\n\n"
                              "Received: of the datagram (IP_RECVTOS). Sent: in place of the\n"
                              "socket's (IP_TOS, ip(7)). dscp and ecn are its two parts.");
PyDoc_STRVAR(control_timestamp_doc, "When the kernel received the datagram, in nanoseconds since\n"
                                    "the epoch (SO_TIMESTAMPNS, socket(7)), or None. Never sent.");
PyDoc_STRVAR(control_drops_doc, "How many datagrams the socket has dropped so far, modulo 2**32\n"
                                "(SO_RXQ_OVFL, socket(7)), or None: the kernel says nothing until\n"
                                "it has dropped one. See drops_between. Never sent.");
PyDoc_STRVAR(control_segment_doc, "Size in bytes of the datagrams in a coalesced one, 0 for none.\n\n"
                                  "Received: UDP_GRO. Sent: UDP_SEGMENT, the size into which the\n"
                                  "kernel cuts the message (udp(7)).");

/* The attributes that are parameters of the constructor too, in its order; then the views of
 * tos. */
static PyGetSetDef control_getset[] = {
    {"ttl", control_get_number, control_set_number, control_ttl_doc, (void *)&ttl_field},
    {"src", control_get_addr, control_set_addr, control_src_doc, (void *)&src_field},
    {"dst", control_get_addr, control_set_addr, control_dst_doc, (void *)&dst_field},
    {"ifindex", control_get_number, control_set_number, control_ifindex_doc,
     (void *)&ifindex_field},
    {"tos", control_get_number, control_set_number, control_tos_doc, (void *)&tos_field},
    {"timestamp_ns", control_get_number, control_set_number, control_timestamp_doc,
     (void *)&timestamp_field},
    {"drops", control_get_number, control_set_number, control_drops_doc, (void *)&drops_field},
    {"segment_size", control_get_number, control_set_number, control_segment_doc,
     (void *)&segment_field},
    {"ecn", control_get_tos_part, control_set_tos_part,
     "The ECN field of tos, an ECN as an int, or None; setting it leaves dscp alone.",
     (void *)&ecn_part},
    {"dscp", control_get_tos_part, control_set_tos_part,
     "The differentiated services codepoint of tos, 0 to 63, or None; setting it leaves ecn alone.",
     (void *)&dscp_part},
    {0},
};

enum { CONTROL_FIELDS = 8 };

static const ipv4b_record control_record = {
    control_getset, CONTROL_FIELDS, offsetof(ipv4b_control_object, value), sizeof(ipv4b_ancillary)};

static PyObject *
control_create(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ttl",          "src",   "dst",          "ifindex", "tos",
                            "timestamp_ns", "drops", "segment_size", NULL};
    PyObject *values[CONTROL_FIELDS] = {NULL};

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOOOOOOO:ControlMessage", names, &values[0],
                                     &values[1], &values[2], &values[3], &values[4], &values[5],
                                     &values[6], &values[7])) {
        return NULL;
    }
    return ipv4b_record_fill(&control_record, type->tp_alloc(type, 0), values);
}

static void
control_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(control_marshal_doc,
             "marshal($self, /)\n--\n\n"
             "The control buffer that asks the kernel for what is set, as bytes.\n\n"
             "ttl becomes an IP_TTL item and tos an IP_TOS, src and ifindex together one\n"
             "IP_PKTINFO (ip(7)), segment_size a UDP_SEGMENT (udp(7)). dst, timestamp_ns and drops\n"
             "are not sent. With nothing set the result is empty.");

static PyObject *
control_marshal(PyObject *self, PyObject *Py_UNUSED(unused))
{
    unsigned char buf[IPV4B_ANCILLARY_MAX];
    ipv4b_ancillary a = ipv4b_control_value(self);
    int len = ipv4b_ancillary_marshal(&a, buf, sizeof buf);

    if (len < 0) {
        PyErr_SetString(PyExc_SystemError, "IPV4B_ANCILLARY_MAX is too small");
        return NULL;
    }
    return PyBytes_FromStringAndSize((const char *)buf, len);
}

PyDoc_STRVAR(control_parse_doc,
             "parse($self, b, /)\n--\n\n"
             "Fill in the items that stand in the control buffer `b` (bytes-like).\n\n"
             "Items of other levels and types are skipped, and attributes whose item is not\n"
             "there keep their value. Raises ValueError, and changes nothing, when a header\n"
             "or an item has an impossible length.");

static PyObject *
control_parse(PyObject *self, PyObject *b)
{
    Py_buffer view;
    size_t where;
    int r;

    if (ipv4b_get_buffer(b, "b", &view) < 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    r = ipv4b_ancillary_parse(&((ipv4b_control_object *)self)->value, view.buf, (size_t)view.len,
                              &where);
    Py_END_CRITICAL_SECTION();
    PyBuffer_Release(&view);
    if (r < 0) {
        ipv4b_control_raise(r, where, "b");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
control_values(PyObject *self, PyObject *Py_UNUSED(unused))
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

    return state == NULL ? NULL : ipv4b_record_values(&control_record, state->control_type, self);
}

static PyObject *
control_str(PyObject *self)
{
    ipv4b_ancillary a = ipv4b_control_value(self);
    char src[INET_ADDRSTRLEN] = "<nil>";
    char dst[INET_ADDRSTRLEN] = "<nil>";
    PyObject *text;

    if (a.present & IPV4B_CM_SRC) {
        (void)ipv4b_addr_text(a.src, src);
    }
    if (a.present & IPV4B_CM_DST) {
        (void)ipv4b_addr_text(a.dst, dst);
    }
    text = PyUnicode_FromFormat("ttl=%d src=%s dst=%s ifindex=%d",
                                a.present & IPV4B_CM_TTL ? a.ttl : 0, src, dst,
                                a.present & IPV4B_CM_INTERFACE ? a.ifindex : 0);
    /* Go's text ends here. Attributes that Go lacks follow if they are set. */
    for (int i = 4; text != NULL && i < CONTROL_FIELDS; i++) {
        const number_field *field = control_getset[i].closure;

        if (a.present & field->bit) {
            Py_SETREF(text, PyUnicode_FromFormat("%U %s=%lld", text, field->name,
                                                 number_read(&a, field->bit)));
        }
    }
    return text;
}

static PyObject *
control_repr(PyObject *self)
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

    return state == NULL ? NULL : ipv4b_record_repr(&control_record, state->control_type, self);
}

/* Two are equal if all attributes are. The memory of absent fields does not count. */
static PyObject *
control_richcompare(PyObject *self, PyObject *other, int op)
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

    return state == NULL
               ? NULL
               : ipv4b_record_compare(&control_record, state->control_type, self, other, op);
}

static PyMethodDef control_methods[] = {
    {"marshal", control_marshal, METH_NOARGS, control_marshal_doc},
    {"parse", control_parse, METH_O, control_parse_doc},
    {"__getnewargs__", control_values, METH_NOARGS, NULL},
    {0},
};

PyDoc_STRVAR(control_doc,
             "ControlMessage(ttl=0, src=None, dst=None, ifindex=0, tos=None, timestamp_ns=None, "
             "drops=None, segment_size=0)\n--\n\n"
             "What the network and link layers say of one datagram, or are asked to do with it.\n\n"
             "Parse one from a received message with Message.control_message(), or fill one in\n"
             "and send marshal() as Message.oob. Addresses are taken as str,\n"
             "ipaddress.IPv4Address or 4 packed bytes and given as str. Raises TypeError or\n"
             "ValueError that names the attribute. str() is the text of Go's x/net/ipv4.");

static PyType_Slot control_slots[] = {
    {Py_tp_doc, (void *)control_doc},
    IPV4B_SLOT(Py_tp_new, control_create),
    IPV4B_SLOT(Py_tp_dealloc, control_dealloc),
    {Py_tp_getset, control_getset},
    {Py_tp_methods, control_methods},
    IPV4B_SLOT(Py_tp_str, control_str),
    IPV4B_SLOT(Py_tp_repr, control_repr),
    IPV4B_SLOT(Py_tp_richcompare, control_richcompare),
    IPV4B_SLOT(Py_tp_hash, PyObject_HashNotImplemented),
    {0, NULL},
};

/* It holds no object, so it takes no part in garbage collection; subclasses get that by
 * themselves. */
PyType_Spec ipv4b_control_spec = {
    .name = "ipv4batch.ControlMessage",
    .basicsize = sizeof(ipv4b_control_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = control_slots,
};

const char ipv4b_new_control_message_doc[] =
    "new_control_message($module, flags, /)\n--\n\n"
    "A zeroed bytearray that is long enough for what `flags` (ControlFlags) deliver.\n\n"
    "On 64-bit Linux TTL, TOS, DROPS and SEGMENT take 24 bytes each, TIMESTAMP 32, and any of\n"
    "SRC, DST and INTERFACE 32 together (CMSG_SPACE, cmsg(3)). Raises ValueError for flags that do "
    "not exist.";

PyObject *
ipv4b_new_control_message(PyObject *Py_UNUSED(module), PyObject *flags)
{
    unsigned int bits;
    PyObject *buffer;
    size_t space;

    if (ipv4b_control_flags_parse(flags, "flags", &bits) < 0) {
        return NULL;
    }
    space = ipv4b_ancillary_space(bits);
    buffer = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)space);
    if (buffer != NULL) {
        memset(PyByteArray_AS_STRING(buffer), 0, space);
    }
    return buffer;
}
