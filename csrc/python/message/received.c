/* received.c - see received.h for the locking rule. */
#include "python/message/received.h"

#include "core/gro.h"
#include "python/base/args.h"
#include "python/base/locks.h"
#include "python/message/fields.h"
#include "python/message/slab.h"
#include "python/values/addr.h"
#include "python/values/control.h"

size_t
ipv4b_message_filled(const ipv4b_message_object *m)
{
    size_t size = 0;

    for (size_t i = 0; i < (size_t)m->header.msg_iovlen; i++) {
        size += m->header.msg_iov[i].iov_len;
    }
    return m->n < size ? m->n : size;
}

PyObject *
ipv4b_message_data(PyObject *self, void *Py_UNUSED(closure))
{
    const ipv4b_message_object *m = (ipv4b_message_object *)self;
    PyObject *bytes;
    size_t n;

    Py_BEGIN_CRITICAL_SECTION(self);
    n = ipv4b_message_filled(m);
    bytes = ipv4b_iov_join(m->header.msg_iov, n);
    Py_END_CRITICAL_SECTION();
    return bytes;
}

PyObject *
ipv4b_message_view(PyObject *self, void *Py_UNUSED(closure))
{
    const ipv4b_message_object *m = (ipv4b_message_object *)self;
    PyObject *exporter = NULL, *view;
    Py_ssize_t count, n = 0;

    if (ipv4b_slab_show(self) < 0) {
        return NULL;
    }
    /* Python code can run while the view is made, and set other buffers. */
    Py_BEGIN_CRITICAL_SECTION(self);
    count = (Py_ssize_t)m->header.msg_iovlen;
    if (count == 1) {
        exporter = Py_NewRef(ipv4b_held_first(&m->data));
        n = (Py_ssize_t)ipv4b_message_filled(m);
    }
    Py_END_CRITICAL_SECTION();
    if (exporter == NULL) {
        PyErr_Format(PyExc_ValueError,
                     "view: a message of %zd buffers has no view in one piece; see data", count);
        return NULL;
    }
    view = ipv4b_byte_view(exporter, 0, n);
    Py_DECREF(exporter);
    return view;
}

/* Parses what the last read put into oob. *peer becomes the sender, or has no family if that is
 * unknown. Returns the number of bytes of control data, or -1 with ValueError. */
static Py_ssize_t
parse_oob(ipv4b_message_object *m, ipv4b_ancillary *out, struct sockaddr_in *peer)
{
    size_t size, nn, where;
    int r;

    memset(out, 0, sizeof *out);
    memset(peer, 0, sizeof *peer);
    Py_BEGIN_CRITICAL_SECTION(m);
    size = (size_t)m->header.msg_controllen;
    nn = m->nn < size ? m->nn : size;
    r = ipv4b_ancillary_parse(out, m->header.msg_control, nn, &where);
    if (m->header.msg_namelen == sizeof *peer) {
        *peer = m->name;
    }
    Py_END_CRITICAL_SECTION();
    if (r < 0) {
        ipv4b_control_raise(r, where, "oob");
        return -1;
    }
    return (Py_ssize_t)nn;
}

const char ipv4b_message_control_doc[] =
    "control_message($self, /, into=None)\n--\n\n"
    "The ControlMessage that stands in oob[:nn], or None if the last call delivered\n"
    "none (nn is 0).\n\n"
    "src is the peer's address, as in Go. `into`, a ControlMessage, is overwritten and\n"
    "returned in place of a new one. Raises ValueError if the bytes do not parse,\n"
    "and then leaves `into` as it was.";

PyObject *
ipv4b_message_control(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"into", NULL};
    static const ipv4b_signature signature = {"control_message", names, 0};
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));
    ipv4b_control_object *control;
    ipv4b_ancillary value;
    struct sockaddr_in peer;
    PyObject *into = NULL;
    Py_ssize_t nn;

    if (state == NULL || ipv4b_parse_args(&signature, args, nargs, kwnames, &into) < 0) {
        return NULL;
    }
    if (into != NULL && into != Py_None && !PyObject_TypeCheck(into, state->control_type)) {
        PyErr_Format(PyExc_TypeError, "into: a ControlMessage is required, not %.100s",
                     Py_TYPE(into)->tp_name);
        return NULL;
    }
    nn = parse_oob((ipv4b_message_object *)self, &value, &peer);
    if (nn < 0) {
        return NULL;
    }
    if (nn == 0) {
        Py_RETURN_NONE;
    }
    if (peer.sin_family == AF_INET) {
        value.src = peer.sin_addr;
        value.present |= IPV4B_CM_SRC;
    }
    control = into == NULL || into == Py_None ? ipv4b_control_new(state)
                                              : (ipv4b_control_object *)Py_NewRef(into);
    if (control != NULL) {
        Py_BEGIN_CRITICAL_SECTION(control);
        control->value = value;
        Py_END_CRITICAL_SECTION();
    }
    return (PyObject *)control;
}

const char ipv4b_message_reply_doc[] =
    "reply($self, data, /)\n--\n\n"
    "A new Message with `data` (a bytes-like object or an iterable of them) that answers this\n"
    "received one.\n\n"
    "It goes to the peer, from the address that the peer wrote to and by the interface that the\n"
    "message came in by, as far as the control data tells (ControlFlags.DST or INTERFACE); from\n"
    "an address of this host if the peer wrote to a group or to all. TTL and TOS are the\n"
    "socket's own. Raises ValueError if there is no peer or the control data does not parse.";

PyObject *
ipv4b_message_reply(PyObject *self, PyObject *data)
{
    ipv4b_state *state = ipv4b_state_of(Py_TYPE(self));
    struct sockaddr_in peer;
    unsigned char control[IPV4B_ANCILLARY_MAX];
    ipv4b_ancillary received, answer = {.present = 0};
    PyObject *reply, *oob = NULL;
    int len;

    if (state == NULL || parse_oob((ipv4b_message_object *)self, &received, &peer) < 0) {
        return NULL;
    }
    if (peer.sin_family != AF_INET) {
        PyErr_SetString(PyExc_ValueError, "addr: a message without a peer has no reply");
        return NULL;
    }
    if (received.present & IPV4B_CM_DST) {
        /* If a datagram came before the option was on, the kernel reports 0.0.0.0 as its local
         * address (ipv4_pktinfo_prepare, net/ipv4/ip_sockglue.c). That must not replace the
         * socket's own. */
        answer.present = (received.present & IPV4B_CM_INTERFACE) |
                         (received.local.s_addr == htonl(INADDR_ANY) ? 0U : IPV4B_CM_SRC);
        answer.src = received.local;
        answer.ifindex = received.ifindex;
    }
    len = ipv4b_ancillary_marshal(&answer, control, sizeof control);
    if (len > 0 && (oob = PyBytes_FromStringAndSize((const char *)control, len)) == NULL) {
        return NULL;
    }
    reply = ipv4b_message_new(state, data, oob, &peer);
    Py_XDECREF(oob);
    return reply;
}

const char ipv4b_message_segments_doc[] =
    "segments($self, /)\n--\n\n"
    "The datagrams inside a coalesced one (ControlFlags.SEGMENT), as a list of memoryviews.\n\n"
    "All but the last have the segment size of the control data; without that the list has one\n"
    "view, of everything. Nothing is copied. Raises ValueError unless there is one buffer, or if\n"
    "the control data does not parse.";

PyObject *
ipv4b_message_segments(PyObject *self, PyObject *Py_UNUSED(unused))
{
    PyObject *view = ipv4b_message_view(self, NULL);
    ipv4b_ancillary received;
    struct sockaddr_in peer;
    PyObject *list;
    size_t total, size, at = 0;

    if (view == NULL || parse_oob((ipv4b_message_object *)self, &received, &peer) < 0) {
        Py_XDECREF(view);
        return NULL;
    }
    size = received.present & IPV4B_CM_SEGMENT ? (size_t)received.segment_size : 0;
    total = (size_t)PyMemoryView_GET_BUFFER(view)->len;
    list = PyList_New(0);
    do {
        size_t len = ipv4b_gro_segment(total, at, size);
        PyObject *segment =
            list == NULL ? NULL : ipv4b_slice(view, (Py_ssize_t)at, (Py_ssize_t)(at + len));

        if (segment == NULL || PyList_Append(list, segment) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(segment);
        at += len;
    } while (list != NULL && at < total);
    Py_DECREF(view);
    return list;
}
