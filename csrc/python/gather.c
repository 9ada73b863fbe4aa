/* gather.c - from a list of Message to what the kernel takes, and back: see gather.h. */
#include "gather.h"

#include "cmsg.h"
#include "control.h"

/* Takes the connection's scratch if it is there and large enough; a call in another thread may have
 * it. */
static int
scratch_take(ipv4b_batch *b, size_t n)
{
    ipv4b_conn_object *conn = b->conn;

    b->scratch = conn->scratch;
    conn->scratch = (ipv4b_scratch){0};
    if (conn->gso) {
        b->sender.plan = conn->plan;
        conn->plan = (ipv4b_gso_plan){0};
    }
    if (ipv4b_scratch_reserve(&b->scratch, n) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Leaves the memory for the next call, unless another call has left its own meanwhile. */
static void
scratch_return(ipv4b_batch *b)
{
    ipv4b_conn_object *conn = b->conn;

    if (conn->scratch.capacity == 0) {
        conn->scratch = b->scratch;
    }
    else {
        ipv4b_scratch_free(&b->scratch);
    }
    if (b->sender.plan.slot_capacity == 0) {
        return;
    }
    if (conn->plan.slot_capacity == 0) {
        conn->plan = b->sender.plan;
    }
    else {
        ipv4b_gso_plan_free(&b->sender.plan);
    }
}

/* Takes the pin off a message and gives the reference back, unless it is the last one. */
static inline bool
unpin(ipv4b_message_object *m, int pins)
{
    m->pins = pins;
    if (Py_REFCNT((PyObject *)m) == 1) {
        return false;
    }
    Py_DECREF((PyObject *)m);
    return true;
}

void
ipv4b_gather_end(ipv4b_batch *b)
{
    ipv4b_message_object **owners = (ipv4b_message_object **)b->scratch.owners;
    size_t n = b->pinned;
    size_t last = 0;

    b->pinned = 0;
    if (b->direction == IPV4B_READ) {
        for (size_t i = 0; i < n; i++) {
            if (!unpin(owners[i], 0)) {
                owners[last++] = owners[i];
            }
        }
    }
    else {
        for (size_t i = 0; i < n; i++) {
            if (!unpin(owners[i], owners[i]->pins - 1)) {
                owners[last++] = owners[i];
            }
        }
    }
    /* Last references go last: a destructor may run Python code, which must find no pin left. */
    for (size_t i = 0; i < last; i++) {
        Py_DECREF((PyObject *)owners[i]);
    }
    scratch_return(b);
}

/* Raises for the message that gather refused. */
static int
refuse(const ipv4b_batch *b, size_t index, PyObject *item)
{
    const ipv4b_state *state = b->conn->state;
    const ipv4b_message_object *m = (ipv4b_message_object *)item;
    size_t where = 0;
    PyObject *field;

    if (!PyObject_TypeCheck(item, state->message_type)) {
        PyErr_Format(PyExc_TypeError, "msgs[%zu]: a Message is required, not %.100s", index,
                     Py_TYPE(item)->tp_name);
        return -1;
    }
    for (size_t i = 0; b->direction == IPV4B_READ && i < b->pinned; i++) {
        if (b->scratch.owners[i] == item) {
            PyErr_Format(PyExc_ValueError,
                         "msgs[%zu]: the same Message as msgs[%zu], which a read cannot "
                         "fill twice",
                         index, i);
            return -1;
        }
    }
    if (m->pins != 0 && (b->direction == IPV4B_READ || m->pins == IPV4B_PIN_READ)) {
        PyErr_Format(PyExc_RuntimeError, "msgs[%zu]: in use by another call", index);
        return -1;
    }
    if (b->direction == IPV4B_READ) {
        field = ipv4b_message_readonly_field(m);
        if (field != NULL) {
            PyErr_Format(PyExc_ValueError, "msgs[%zu].%U: read-only, and cannot be read into",
                         index, field);
            Py_DECREF(field);
        }
        return -1;
    }
    else {
        int err = ipv4b_cmsg_check(m->header.msg_control, (size_t)m->header.msg_controllen, &where);
        char name[48];

        PyOS_snprintf(name, sizeof name, "msgs[%zu].oob", index);
        ipv4b_control_raise(err, where, name);
        return -1;
    }
}

/* Whether the call can have this message, which then is pinned. */
static inline bool
pin(PyObject *item, PyTypeObject *type, ipv4b_direction direction)
{
    ipv4b_message_object *m = (ipv4b_message_object *)item;
    size_t where;

    if (!Py_IS_TYPE(item, type) && !PyObject_TypeCheck(item, type)) {
        return false;
    }
    if (direction == IPV4B_READ) {
        if (m->pins != 0 || m->readonly) {
            return false;
        }
        m->pins = IPV4B_PIN_READ;
    }
    else {
        if (m->pins < 0 ||
            (!m->oob_trusted && ipv4b_cmsg_check(m->header.msg_control,
                                                 (size_t)m->header.msg_controllen, &where) < 0)) {
            return false;
        }
        m->pins++;
    }
    return true;
}

/* Pins and copies n messages; returns how many it could. Written once and compiled once for each
 * direction: these few instructions are what a message costs. What the kernel changes in a slot is
 * set again here for every call, since msg_namelen and msg_controllen are in-out. */
static inline size_t
fill(const ipv4b_scratch *scratch, PyObject **items, size_t n, PyTypeObject *type,
     ipv4b_direction direction)
{
    ipv4b_slot *slots = scratch->slots;
    void **owners = scratch->owners;
    size_t i;

    for (i = 0; i < n; i++) {
        ipv4b_message_object *m = (ipv4b_message_object *)items[i];

        if (!pin(items[i], type, direction)) {
            break;
        }
        owners[i] = Py_NewRef(items[i]);
        slots[i].msg_hdr = m->header;
        if (direction == IPV4B_READ) {
            slots[i].msg_hdr.msg_namelen = sizeof m->name;
        }
    }
    return i;
}

int
ipv4b_gather(ipv4b_batch *b, PyObject *list)
{
    PyObject **items = PySequence_Fast_ITEMS(list);
    size_t n = (size_t)PySequence_Fast_GET_SIZE(list);
    PyTypeObject *type = b->conn->state->message_type;

    if (scratch_take(b, n) < 0) {
        return -1;
    }
    b->pinned = b->direction == IPV4B_READ ? fill(&b->scratch, items, n, type, IPV4B_READ)
                                           : fill(&b->scratch, items, n, type, IPV4B_WRITE);
    return b->pinned < n ? refuse(b, b->pinned, items[b->pinned]) : 0;
}
