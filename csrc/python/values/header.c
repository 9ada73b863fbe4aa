/* header.c - the type Header: see header.h for the locking rule. */
#include "python/values/header.h"

#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/base/value_type.h"
#include "python/values/addr.h"

ipv4b_iphdr
ipv4b_header_value(PyObject *self)
{
    ipv4b_iphdr value;

    Py_BEGIN_CRITICAL_SECTION(self);
    value = ((ipv4b_header_object *)self)->value;
    Py_END_CRITICAL_SECTION();
    return value;
}

/* A number's place in ipv4b_iphdr; `version` has none, it is always 4. */
typedef struct {
    const char *name;
    int min, max;
    size_t offset;
    size_t size;
} number_field;

static PyObject *
header_get_number(PyObject *self, void *closure)
{
    const number_field *field = closure;
    ipv4b_iphdr h = ipv4b_header_value(self);
    const char *at = (const char *)&h + field->offset;
    uint16_t wide;

    switch (field->size) {
    case 0:
        return PyLong_FromLong(4);
    case 1:
        return PyLong_FromLong(*(const uint8_t *)at);
    default:
        memcpy(&wide, at, sizeof wide);
        return PyLong_FromLong(wide);
    }
}

static int
header_set_number(PyObject *self, PyObject *value, void *closure)
{
    const number_field *field = closure;
    char *at = (char *)&((ipv4b_header_object *)self)->value + field->offset;
    uint16_t wide;
    long long number;

    if (ipv4b_set_int(value, field->name, field->min, field->max, &number) < 0) {
        return -1;
    }
    wide = (uint16_t)number;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (field->size == 1) {
        *(uint8_t *)at = (uint8_t)wide;
    }
    else if (field->size == 2) {
        memcpy(at, &wide, sizeof wide);
    }
    Py_END_CRITICAL_SECTION();
    return 0;
}

static PyObject *
header_get_src(PyObject *self, void *Py_UNUSED(closure))
{
    ipv4b_iphdr h = ipv4b_header_value(self);

    return h.has_src ? ipv4b_addr_str(h.src) : Py_NewRef(Py_None);
}

static PyObject *
header_get_dst(PyObject *self, void *Py_UNUSED(closure))
{
    ipv4b_iphdr h = ipv4b_header_value(self);

    return h.has_dst ? ipv4b_addr_str(h.dst) : Py_NewRef(Py_None);
}

static int
set_addr(PyObject *self, PyObject *value, const char *field, struct in_addr *addr, bool *has)
{
    struct in_addr parsed = {0};

    if (ipv4b_check_set(value, field) < 0) {
        return -1;
    }
    if (value != Py_None) {
        ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

        if (state == NULL || ipv4b_addr_parse(state, value, field, &parsed) < 0) {
            return -1;
        }
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    *addr = parsed;
    *has = value != Py_None;
    Py_END_CRITICAL_SECTION();
    return 0;
}

static int
header_set_src(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_iphdr *h = &((ipv4b_header_object *)self)->value;

    return set_addr(self, value, "src", &h->src, &h->has_src);
}

static int
header_set_dst(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_iphdr *h = &((ipv4b_header_object *)self)->value;

    return set_addr(self, value, "dst", &h->dst, &h->has_dst);
}

static PyObject *
header_get_options(PyObject *self, void *Py_UNUSED(closure))
{
    ipv4b_iphdr h = ipv4b_header_value(self);

    return PyBytes_FromStringAndSize((const char *)h.options, h.options_len);
}

static int
header_set_options(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    ipv4b_iphdr *h = &((ipv4b_header_object *)self)->value;
    Py_buffer view;

    if (ipv4b_check_set(value, "options") < 0 || ipv4b_get_buffer(value, "options", &view) < 0) {
        return -1;
    }
    if (view.len > IPV4B_OPTIONS_MAX || view.len % 4 != 0) {
        PyErr_Format(PyExc_ValueError,
                     "options: %zd bytes; at most 40 and a multiple of 4 fit into a header",
                     view.len);
        PyBuffer_Release(&view);
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    memset(h->options, 0, sizeof h->options);
    memcpy(h->options, view.buf, (size_t)view.len);
    h->options_len = (uint8_t)view.len;
    h->len = (uint8_t)(IPV4B_HEADER_LEN + view.len);
    Py_END_CRITICAL_SECTION();
    PyBuffer_Release(&view);
    return 0;
}

/* A row of the table below: the attribute, its field in ipv4b_iphdr and its range. */
#define NUMBER(field, max, doc)                                                                    \
    {                                                                                              \
        #field, header_get_number, header_set_number, doc, (void *)&(const number_field)           \
        {                                                                                          \
            #field, 0, max, offsetof(ipv4b_iphdr, field), sizeof(((ipv4b_iphdr *)0)->field)        \
        }                                                                                          \
    }

static const number_field version_field = {"version", 4, 4, 0, 0};

static PyGetSetDef header_getset[] = {
    {"version", header_get_number, header_set_number, "IP version: always 4.",
     (void *)&version_field},
    NUMBER(len, IPV4B_HEADER_LEN + IPV4B_OPTIONS_MAX,
           "Length of the header in bytes, options included, 20 to 60. Setting options sets it."),
    NUMBER(tos, 255, "Type of service: DSCP and ECN, 0 to 255."),
    NUMBER(total_len, 65535,
           "Length of the packet in bytes, 0 to 65535; the kernel fills it in when sent."),
    NUMBER(id, 65535, "Identification, 0 to 65535; the kernel chooses one when it is 0 and sent."),
    NUMBER(flags, 7, "HeaderFlags as an int, 0 to 7 (MORE_FRAGMENTS 1, DONT_FRAGMENT 2)."),
    NUMBER(frag_off, 8191, "Fragment offset in units of 8 bytes, 0 to 8191."),
    NUMBER(ttl, 255, "Time to live in hops, 0 to 255."),
    NUMBER(protocol, 255, "Number of the next protocol, 0 to 255."),
    NUMBER(checksum, 65535, "Header checksum, 0 to 65535; the kernel computes it when sent."),
    {"src", header_get_src, header_set_src, "Source address as str, or None.", NULL},
    {"dst", header_get_dst, header_set_dst, "Destination address as str, or None.", NULL},
    {"options", header_get_options, header_set_options,
     "Options as bytes, a multiple of 4 and at most 40 long.", NULL},
    {0},
};

enum { HEADER_FIELDS = sizeof header_getset / sizeof header_getset[0] - 1 };

static const ipv4b_record header_record = {
    header_getset, HEADER_FIELDS, offsetof(ipv4b_header_object, value), sizeof(ipv4b_iphdr)};

static PyObject *
header_create(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"version", "len",      "tos",     "total_len", "id",
                            "flags",   "frag_off", "ttl",     "protocol",  "checksum",
                            "src",     "dst",      "options", NULL};
    PyObject *v[HEADER_FIELDS] = {NULL};
    PyObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOOOOOOOOOOOO:Header", names, &v[0], &v[1],
                                     &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10],
                                     &v[11], &v[12])) {
        return NULL;
    }
    self = type->tp_alloc(type, 0);
    if (self != NULL) {
        ((ipv4b_header_object *)self)->value.len = IPV4B_HEADER_LEN;
    }
    /* From the last to the first, so that a given `len` replaces the one that `options` sets. */
    return ipv4b_record_fill(&header_record, self, v);
}

static void
header_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    type->tp_free(self);
    Py_DECREF(type);
}

void
ipv4b_header_raise_marshal(int err, const char *prefix)
{
    const char *reason = err == -ENODATA        ? "len: header too short"
                         : err == -EDESTADDRREQ ? "dst: missing address"
                                                : "options: invalid length";

    PyErr_Format(PyExc_ValueError, "%s%s", prefix, reason);
}

PyDoc_STRVAR(header_marshal_doc,
             "marshal($self, /)\n--\n\n"
             "The header as bytes in network order (RFC 791): 20 and the options' length.\n\n"
             "A source of None is written as zeros; nothing is computed. Raises ValueError\n"
             "'header too short' for a len under 20 and 'missing address' without dst.");

static PyObject *
header_marshal(PyObject *self, PyObject *Py_UNUSED(unused))
{
    unsigned char buf[IPV4B_HEADER_LEN + IPV4B_OPTIONS_MAX];
    ipv4b_iphdr h = ipv4b_header_value(self);
    int len = ipv4b_iphdr_marshal(&h, buf, sizeof buf);

    if (len < 0) {
        ipv4b_header_raise_marshal(len, "");
        return NULL;
    }
    return PyBytes_FromStringAndSize((const char *)buf, len);
}

/* Raises for what ipv4b_iphdr_parse refused. */
static void
raise_parse(int err, const unsigned char *b, Py_ssize_t len)
{
    switch (err) {
    case -ENODATA:
        PyErr_Format(PyExc_ValueError, "b: header too short: %zd bytes of at least 20", len);
        break;
    case -EPROTONOSUPPORT:
        PyErr_Format(PyExc_ValueError, "b: version %d is not 4", b[0] >> 4);
        break;
    case -EINVAL:
        PyErr_Format(PyExc_ValueError, "b: invalid header length: IHL %d is under 5", b[0] & 15);
        break;
    default:
        PyErr_Format(PyExc_ValueError, "b: extension header too short: %zd bytes of %d", len,
                     (b[0] & 15) * 4);
        break;
    }
}

static int
parse_bytes(PyObject *self, const void *bytes, size_t len)
{
    int r;

    Py_BEGIN_CRITICAL_SECTION(self);
    r = ipv4b_iphdr_parse(&((ipv4b_header_object *)self)->value, bytes, len);
    Py_END_CRITICAL_SECTION();
    if (r < 0) {
        raise_parse(r, bytes, (Py_ssize_t)len);
        return -1;
    }
    return 0;
}

static int
parse_into(PyObject *self, PyObject *b)
{
    Py_buffer view;
    int r;

    if (ipv4b_get_buffer(b, "b", &view) < 0) {
        return -1;
    }
    r = parse_bytes(self, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return r;
}

PyObject *
ipv4b_header_from(ipv4b_state *state, const void *bytes, size_t len)
{
    PyObject *header = state->header_type->tp_alloc(state->header_type, 0);

    if (header != NULL && parse_bytes(header, bytes, len) < 0) {
        Py_CLEAR(header);
    }
    return header;
}

PyDoc_STRVAR(header_parse_doc,
             "parse($self, b, /)\n--\n\n"
             "Fill in every attribute from the header that starts the bytes-like object `b`.\n\n"
             "What follows the header is ignored. Raises ValueError, and changes nothing, for\n"
             "'header too short', 'extension header too short', a version other than 4, or a\n"
             "header length under 20 (RFC 791).");

static PyObject *
header_parse(PyObject *self, PyObject *b)
{
    if (parse_into(self, b) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
header_values(PyObject *self, PyObject *Py_UNUSED(unused))
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

    return state == NULL ? NULL : ipv4b_record_values(&header_record, state->header_type, self);
}

static PyObject *
header_str(PyObject *self)
{
    ipv4b_iphdr h = ipv4b_header_value(self);
    char src[INET_ADDRSTRLEN] = "<nil>";
    char dst[INET_ADDRSTRLEN] = "<nil>";

    if (h.has_src) {
        (void)ipv4b_addr_text(h.src, src);
    }
    if (h.has_dst) {
        (void)ipv4b_addr_text(h.dst, dst);
    }
    return PyUnicode_FromFormat("ver=4 hdrlen=%d tos=0x%x totallen=%d id=0x%x flags=0x%x "
                                "fragoff=0x%x ttl=%d proto=%d cksum=0x%x src=%s dst=%s",
                                h.len, h.tos, h.total_len, h.id, h.flags, h.frag_off, h.ttl,
                                h.protocol, h.checksum, src, dst);
}

static PyObject *
header_repr(PyObject *self)
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

    return state == NULL ? NULL : ipv4b_record_repr(&header_record, state->header_type, self);
}

static PyObject *
header_richcompare(PyObject *self, PyObject *other, int op)
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));

    return state == NULL
               ? NULL
               : ipv4b_record_compare(&header_record, state->header_type, self, other, op);
}

static PyMethodDef header_methods[] = {
    {"marshal", header_marshal, METH_NOARGS, header_marshal_doc},
    {"parse", header_parse, METH_O, header_parse_doc},
    {"__getnewargs__", header_values, METH_NOARGS, NULL},
    {0},
};

PyDoc_STRVAR(header_doc,
             "Header(version=4, len=20, tos=0, total_len=0, id=0, flags=0, frag_off=0, ttl=0, "
             "protocol=0, checksum=0, src=None, dst=None, options=b'')\n--\n\n"
             "An IPv4 header (RFC 791), for raw sockets.\n\n"
             "Numbers are in host order. Addresses are taken as str, ipaddress.IPv4Address or\n"
             "4 packed bytes and given as str. len is 20 and the options' length if it is not\n"
             "given. Raises TypeError or ValueError that names the attribute. str() is the text\n"
             "of Go's x/net/ipv4.");

static PyType_Slot header_slots[] = {
    {Py_tp_doc, (void *)header_doc},
    IPV4B_SLOT(Py_tp_new, header_create),
    IPV4B_SLOT(Py_tp_dealloc, header_dealloc),
    {Py_tp_getset, header_getset},
    {Py_tp_methods, header_methods},
    IPV4B_SLOT(Py_tp_str, header_str),
    IPV4B_SLOT(Py_tp_repr, header_repr),
    IPV4B_SLOT(Py_tp_richcompare, header_richcompare),
    IPV4B_SLOT(Py_tp_hash, PyObject_HashNotImplemented),
    {0, NULL},
};

/* It holds no object, so it takes no part in garbage collection; subclasses get that by
 * themselves. */
PyType_Spec ipv4b_header_spec = {
    .name = "ipv4batch.Header",
    .basicsize = sizeof(ipv4b_header_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = header_slots,
};

const char ipv4b_parse_header_doc[] =
    "parse_header($module, b, /)\n--\n\n"
    "The Header that starts the bytes-like object `b`; Header.parse() says what it raises.";

PyObject *
ipv4b_parse_header(PyObject *module, PyObject *b)
{
    ipv4b_state *state = PyModule_GetState(module);
    PyObject *header;
    Py_buffer view;

    if (ipv4b_get_buffer(b, "b", &view) < 0) {
        return NULL;
    }
    header = ipv4b_header_from(state, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return header;
}

const char ipv4b_checksum_doc[] =
    "checksum($module, data, start=0)\n--\n\n"
    "The Internet checksum (RFC 1071) of the bytes-like object `data`, 0 to 65535.\n\n"
    "`start`, 0 to 2**32-1, is a sum to begin with, as that of a pseudo header: to go on from\n"
    "data of even length, give checksum(first) ^ 0xffff. The checksum of data that carries\n"
    "its right checksum is 0.";

PyObject *
ipv4b_checksum_function(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    static const char *const names[] = {"data", "start", NULL};
    static const ipv4b_signature signature = {"checksum", names, 1};
    PyObject *values[2] = {NULL};
    long long start = 0;
    Py_buffer view;
    uint16_t sum;

    if (ipv4b_parse_args(&signature, args, nargs, kwnames, values) < 0 ||
        (values[1] != NULL && ipv4b_parse_int(values[1], "start", 0, UINT32_MAX, &start) < 0) ||
        ipv4b_get_buffer(values[0], "data", &view) < 0) {
        return NULL;
    }
    sum = ipv4b_checksum(view.buf, (size_t)view.len, (uint32_t)start);
    PyBuffer_Release(&view);
    return PyLong_FromLong(sum);
}
