/* gather.c - from a list of Message to what the kernel takes, and back: see gather.h. */
#include "python/io/gather.h"

#include "core/cmsg.h"
#include "python/base/locks.h"
#include "python/values/control.h"

/* Takes the connection's scratch if it is there and large enough; a call in another thread may have
 * it. */
static int
scratch_take(ipv4b_batch *b, size_t n)
{
    ipv4b_conn_object *conn = b->conn;

    b->scratch = conn->batches.scratch[b->direction];
    conn->batches.scratch[b->direction] = (ipv4b_scratch){0};
    if (b->direction == IPV4B_WRITE && conn->sending.gso) {
        b->sender.plan = conn->sending.plan;
        conn->sending.plan = (ipv4b_gso_plan){0};
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

    if (conn->batches.scratch[b->direction].capacity == 0) {
        conn->batches.scratch[b->direction] = b->scratch;
    }
    else {
        ipv4b_scratch_free(&b->scratch);
    }
    if (b->sender.plan.slot_capacity == 0) {
        return;
    }
    if (conn->sending.plan.slot_capacity == 0) {
        conn->sending.plan = b->sender.plan;
    }
    else {
        ipv4b_gso_plan_free(&b->sender.plan);
    }
}

/* Lets the next `count` messages go: their pins, and the call's references. A last reference can only
 * be ours if another thread has changed the list meanwhile; what runs then (a destructor of Python's)
 * finds the messages behind it still in use. With `moved` they get the results of the system call
 * first. Written once and compiled once for each case, like `fill` below. */
static inline void
finish(ipv4b_batch *b, size_t count, ipv4b_direction direction, bool moved)
{
    void **owners = b->scratch.owners;
    const ipv4b_slot *slots = b->scratch.slots;
    size_t end = b->start + count;

    for (size_t i = b->start; i < end; i++) {
        ipv4b_message_object *m = owners[i];

        Py_BEGIN_CRITICAL_SECTION(m);
        if (moved) {
            IPV4B_STORE_RELAXED(m->n, slots[i].msg_len);
            IPV4B_STORE_RELAXED(m->nn, (unsigned int)slots[i].msg_hdr.msg_controllen);
        }
        if (moved && direction == IPV4B_READ) {
            IPV4B_STORE_RELAXED(m->flags, slots[i].msg_hdr.msg_flags);
            m->name = *(const struct sockaddr_in *)slots[i].msg_hdr.msg_name;
            m->header.msg_namelen = slots[i].msg_hdr.msg_namelen;
        }
        if (moved && direction == IPV4B_WRITE) {
            IPV4B_STORE_RELAXED(m->flags, 0);
            IPV4B_STORE_RELAXED(m->error, 0);
        }
        m->use -= direction == IPV4B_READ ? IPV4B_USE_READ : IPV4B_USE_WRITE;
        Py_END_CRITICAL_SECTION();
        Py_DECREF((PyObject *)m);
    }
    b->start = end;
}

void
ipv4b_gather_settle(ipv4b_batch *b, size_t done)
{
    if (b->direction == IPV4B_READ) {
        finish(b, done, IPV4B_READ, true);
    }
    else {
        finish(b, done, IPV4B_WRITE, true);
    }
}

void
ipv4b_gather_skip(ipv4b_batch *b, size_t count)
{
    finish(b, count, b->direction, false);
}

void
ipv4b_gather_end(ipv4b_batch *b)
{
    ipv4b_gather_skip(b, b->pinned - b->start);
    scratch_return(b);
}

/* Raises for a message, locked, that is refused for what it is. */
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

/* Raises for the item that gather refused. Out of the way of the loops below, which need all
 * registers. */
static __attribute__((cold, noinline)) int
refuse(const ipv4b_batch *b, size_t index, PyObject *item)
{
    if (!PyObject_TypeCheck(item, b->conn->state->message_type)) {
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
    Py_BEGIN_CRITICAL_SECTION(item);
    refuse_message(b->direction, index, (ipv4b_message_object *)item);
    Py_END_CRITICAL_SECTION();
    return -1;
}

/* Pins a message if the call can have it. */
static inline bool
pin(ipv4b_message_object *m, ipv4b_direction direction)
{
    size_t where;

    if (direction == IPV4B_READ) {
        if ((m->use & ~(uint64_t)IPV4B_USE_UNCHECKED) != 0) {
            return false;
        }
        m->use |= IPV4B_USE_READ;
        return true;
    }
    if ((m->use & (IPV4B_USE_READ | IPV4B_USE_UNCHECKED)) != 0 &&
        ((m->use & IPV4B_USE_READ) ||
         ipv4b_cmsg_check(m->header.msg_control, (size_t)m->header.msg_controllen, &where) < 0)) {
        return false;
    }
    m->use += IPV4B_USE_WRITE;
    return true;
}

/* The members of a msghdr that are input, in the order in which every system has them. */
enum {
    NAME_AT = offsetof(struct msghdr, msg_name),
    IOV_AT = offsetof(struct msghdr, msg_iov),
    INPUT_END = offsetof(struct msghdr, msg_flags),
};
_Static_assert(NAME_AT == 0 && offsetof(struct msghdr, msg_namelen) < IOV_AT, "name comes first");
_Static_assert(offsetof(struct msghdr, msg_controllen) < INPUT_END, "flags come last");

/* What the kernel gets of a pinned message. It changes msg_namelen and msg_controllen, which are
 * therefore set again for every call; the name of a read is the slot's own. */
static inline void
prime(struct msghdr *to, const struct msghdr *from, ipv4b_direction direction)
{
    size_t at = direction == IPV4B_READ ? IOV_AT : NAME_AT;

    memcpy((char *)to + at, (const char *)from + at, INPUT_END - at);
    if (direction == IPV4B_READ) {
        to->msg_namelen = sizeof(struct sockaddr_in);
    }
}

/* Pins and copies n messages; returns how many it could. These few instructions, and those of
 * `finish`, are what a message costs. */
static inline size_t
fill(const ipv4b_scratch *scratch, PyObject **items, size_t n, PyTypeObject *type,
     ipv4b_direction direction)
{
    ipv4b_slot *slots = scratch->slots;
    void **owners = scratch->owners;
    size_t i;

    for (i = 0; i < n; i++) {
        PyObject *item = items[i];
        ipv4b_message_object *m = (ipv4b_message_object *)item;
        bool pinned;

        if (!Py_IS_TYPE(item, type) && !PyObject_TypeCheck(item, type)) {
            break;
        }
        Py_BEGIN_CRITICAL_SECTION(m);
        pinned = pin(m, direction);
        if (pinned) {
            prime(&slots[i].msg_hdr, &m->header, direction);
        }
        Py_END_CRITICAL_SECTION();
        if (!pinned) {
            break;
        }
        owners[i] = Py_NewRef(item);
    }
    return i;
}

PyObject *
ipv4b_gather_list(PyObject *msgs)
{
#ifndef Py_GIL_DISABLED /* else another thread may change a list at any moment */
    if (PyList_CheckExact(msgs)) {
        return Py_NewRef(msgs);
    }
#endif
    if (!PySequence_Check(msgs)) {
        PyErr_Format(PyExc_TypeError, "msgs: a sequence of Message is required, not %.100s",
                     Py_TYPE(msgs)->tp_name);
        return NULL;
    }
    return PySequence_Tuple(msgs);
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
