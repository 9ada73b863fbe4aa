/* check.c - which messages a call refuses, and why: see check.h. */
#include "python/io/check.h"

#include "python/message/fields.h"
#include "python/values/control.h"

/* Raises for a message that cannot be used, with the message locked. */
static void
refuse_message(ipv4b_direction direction, size_t index, const ipv4b_message_object *m)
{
    if (direction == IPV4B_READ && !ipv4b_message_pinned(m) && (m->use & IPV4B_USE_READONLY)) {
        PyObject *field = ipv4b_message_readonly_field(m);

        if (field != NULL) {
            PyErr_Format(PyExc_ValueError, "msgs[%zu].%U: read-only, and cannot be read into",
                         index, field);
            Py_DECREF(field);
        }
        return;
    }
    if (direction == IPV4B_WRITE && !(m->use & IPV4B_USE_READ)) {
        size_t where = 0;
        int err = ipv4b_cmsg_check(m->header.msg_control, (size_t)m->header.msg_controllen, &where);
        char name[48];

        if (err < 0) {
            PyOS_snprintf(name, sizeof name, "msgs[%zu].oob", index);
            ipv4b_control_raise(err, where, name);
            return;
        }
    }
    PyErr_Format(PyExc_RuntimeError, "msgs[%zu]: in use by another call", index);
}

int
ipv4b_check_refuse(const ipv4b_batch *b, size_t index)
{
    PyObject *item = PySequence_Fast_GET_ITEM(b->list, (Py_ssize_t)index);

    if (!PyObject_TypeCheck(item, b->conn->state->message_type)) {
        PyErr_Format(PyExc_TypeError, "msgs[%zu]: a Message is required, not %.100s", index,
                     Py_TYPE(item)->tp_name);
        return -1;
    }
    for (size_t i = 0; b->direction == IPV4B_READ && i < index; i++) {
        if (PySequence_Fast_GET_ITEM(b->list, (Py_ssize_t)i) == item) {
            PyErr_Format(PyExc_ValueError,
                         "msgs[%zu]: the same Message as msgs[%zu], which a read cannot "
                         "fill twice",
                         index, i);
            return -1;
        }
    }
    Py_BEGIN_CRITICAL_SECTION(item);
    if (b->forward != NULL) {
        ipv4b_forward_refuse(index, (ipv4b_message_object *)item);
    }
    else {
        refuse_message(b->direction, index, (ipv4b_message_object *)item);
    }
    Py_END_CRITICAL_SECTION();
    return -1;
}

/* Whether a write could pin a message. */
static bool
can_write(const ipv4b_batch *b, ipv4b_message_object *m)
{
    size_t where;
    bool can;

    Py_BEGIN_CRITICAL_SECTION(m);
    can = b->forward != NULL
              ? ipv4b_forward_fits(b->forward, m)
              : !(m->use & IPV4B_USE_READ) &&
                    (!(m->use & IPV4B_USE_UNCHECKED) ||
                     ipv4b_cmsg_check(m->header.msg_control, (size_t)m->header.msg_controllen,
                                      &where) >= 0);
    Py_END_CRITICAL_SECTION();
    return can;
}

/* Messages between two looks at signals: less than a millisecond. */
enum { CHECKED_AT_ONCE = 16 * 1024 };

int
ipv4b_check_length(const ipv4b_batch *b)
{
    if ((size_t)PySequence_Fast_GET_SIZE(b->list) < b->n) {
        PyErr_SetString(PyExc_RuntimeError, "msgs: the list became shorter during the call");
        return -1;
    }
    return 0;
}

/* Raises if a signal handler raises or has made the list shorter. Returns 0 or -1. */
static int
check_pause(const ipv4b_batch *b)
{
    return PyErr_CheckSignals() < 0 ? -1 : ipv4b_check_length(b);
}

/* Looks at each message of a write that takes several turns. Returns 0, or -1 with an exception. */
static int
check_write(const ipv4b_batch *b)
{
    PyTypeObject *type = b->conn->state->message_type;

    for (size_t i = 0; i < b->n; i++) {
        PyObject *item;

        if (i % CHECKED_AT_ONCE == 0 && check_pause(b) < 0) {
            return -1;
        }
        item = PySequence_Fast_GET_ITEM(b->list, (Py_ssize_t)i);
        if (!PyObject_TypeCheck(item, type) || !can_write(b, (ipv4b_message_object *)item)) {
            return ipv4b_check_refuse(b, i);
        }
    }
    return 0;
}

/* The same for a read. Pins all messages at once, because only that shows a message that stands
 * there twice. No Python code runs until they are unpinned. */
static int
check_read(const ipv4b_batch *b)
{
    PyTypeObject *type = b->conn->state->message_type;
    bool fits = true;
    size_t i = 0;

    for (; i < b->n && fits; i++) {
        ipv4b_message_object *m =
            (ipv4b_message_object *)PySequence_Fast_GET_ITEM(b->list, (Py_ssize_t)i);

        fits = PyObject_TypeCheck((PyObject *)m, type);
        if (fits) {
            Py_BEGIN_CRITICAL_SECTION(m);
            fits = ipv4b_check_pin(m, IPV4B_READ);
            Py_END_CRITICAL_SECTION();
        }
    }
    i -= !fits;
    for (size_t k = 0; k < i; k++) {
        ipv4b_message_object *m =
            (ipv4b_message_object *)PySequence_Fast_GET_ITEM(b->list, (Py_ssize_t)k);

        Py_BEGIN_CRITICAL_SECTION(m);
        m->use -= IPV4B_USE_READ;
        Py_END_CRITICAL_SECTION();
    }
    return fits ? 0 : ipv4b_check_refuse(b, i);
}

/* No message is tried yet, so each gets ECANCELED. If a signal handler raises, the call ends
 * after that. Returns 0, or -1 with the handler's exception. */
static int
cancel_later(const ipv4b_batch *b)
{
    PyTypeObject *type = b->conn->state->message_type;
    bool raised = false;

    for (size_t i = 0; i < b->n && i < (size_t)PySequence_Fast_GET_SIZE(b->list); i++) {
        ipv4b_message_object *m =
            (ipv4b_message_object *)PySequence_Fast_GET_ITEM(b->list, (Py_ssize_t)i);

        if (PyObject_TypeCheck((PyObject *)m, type)) {
            IPV4B_STORE_RELAXED(m->error, ECANCELED);
        }
        if (!raised && i % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1) {
            raised = PyErr_CheckSignals() < 0;
        }
    }
    return raised ? -1 : 0;
}

int
ipv4b_check_all(const ipv4b_batch *b, bool cancel)
{
    int r = b->direction == IPV4B_READ ? check_read(b) : check_write(b);

    return r < 0 || (cancel && cancel_later(b) < 0) ? -1 : check_pause(b);
}
