/* forward.c - see forward.h. */
#include "python/io/forward.h"

#include "python/base/locks.h"

bool
ipv4b_forward_fits(const ipv4b_forwarding *f, const ipv4b_message_object *m)
{
    return !(m->use & IPV4B_USE_READ) && (m->flags & IPV4B_FLAG_RECEIVED) &&
           (f->skip || !(m->flags & MSG_TRUNC));
}

void
ipv4b_forward_refuse(size_t index, const ipv4b_message_object *m)
{
    if (m->use & IPV4B_USE_READ) {
        PyErr_Format(PyExc_RuntimeError, "msgs[%zu]: in use by another call", index);
    }
    else if (!(m->flags & IPV4B_FLAG_RECEIVED)) {
        PyErr_Format(PyExc_ValueError,
                     "msgs[%zu]: nothing was received into it, or it was written since", index);
    }
    else {
        PyErr_Format(PyExc_ValueError,
                     "msgs[%zu].truncated: the datagram was longer than the buffers, and cannot be "
                     "forwarded whole",
                     index);
    }
}

/* What slot i sends of a message, which is pinned and locked. */
static inline void
fill_slot(const ipv4b_forwarding *f, ipv4b_slot *slot, size_t i, ipv4b_message_object *m)
{
    struct msghdr *h = &slot->msg_hdr;
    size_t nn = m->nn < m->header.msg_controllen ? m->nn : (size_t)m->header.msg_controllen;
    uint16_t segment = nn == 0 ? 0 : ipv4b_forward_segment(m->header.msg_control, nn, m->n);

    h->msg_name = f->has_addr ? (void *)(uintptr_t)&f->addr : m->header.msg_name;
    h->msg_namelen = f->has_addr ? sizeof f->addr : m->header.msg_namelen;
    h->msg_iov = m->header.msg_iov;
    h->msg_iovlen = m->header.msg_iovlen;
    h->msg_control = NULL;
    h->msg_controllen = 0;
    h->msg_flags = 0;
    slot->msg_len = m->flags & MSG_TRUNC ? UINT_MAX : m->n; /* UINT_MAX: it is not sent */
    if (segment != 0) {
        ipv4b_forward_split(f->scratch, i, h, segment);
    }
}

size_t
ipv4b_forward_fill(ipv4b_forwarding *f, ipv4b_scratch *scratch, PyObject **items, size_t n,
                   PyTypeObject *type)
{
    size_t i;

    for (i = 0; i < n; i++) {
        PyObject *item = items[i];
        ipv4b_message_object *m = (ipv4b_message_object *)item;
        bool fits;

        if (!PyObject_TypeCheck(item, type)) {
            break;
        }
        Py_BEGIN_CRITICAL_SECTION(m);
        fits = ipv4b_forward_fits(f, m);
        if (fits) {
            m->use += IPV4B_USE_WRITE;
            fill_slot(f, &scratch->slots[i], i, m);
        }
        Py_END_CRITICAL_SECTION();
        if (!fits) {
            break;
        }
        scratch->owners[i] = Py_NewRef(item);
    }
    return i;
}
