/* gather.c - from a list of Message to what the kernel takes, and back: see gather.h. */
#include "python/io/gather.h"

#include "python/base/locks.h"
#include "python/io/check.h"
#include "python/io/tx_timestamps.h"

/* A plan with more iovecs than this is not kept. The messages of one turn can have a million. */
enum { KEPT_IOVECS = 4 * IPV4B_TURN };

/* Where the connection keeps the arrays of its last call in this direction. */
static inline ipv4b_scratch *
scratch_of(const ipv4b_batch *b, ipv4b_direction direction)
{
    return &b->conn->batches.scratch[direction == IPV4B_READ ? IPV4B_READ : IPV4B_WRITE];
}

/* Takes the connection's scratch if it is there and large enough; a call in another thread may have
 * it. */
static inline int
scratch_take(ipv4b_batch *b, size_t n, ipv4b_direction direction)
{
    ipv4b_conn_object *conn = b->conn;
    ipv4b_scratch *kept = scratch_of(b, direction);

    b->scratch = *kept;
    *kept = (ipv4b_scratch){0};
    if (direction == IPV4B_WRITE && b->sender.gso) {
        b->sender.plan = conn->sending.plan;
        conn->sending.plan = NULL;
    }
    if (direction == IPV4B_WRITE && b->forward != NULL) {
        b->forward->scratch = conn->batches.forward;
        conn->batches.forward = NULL;
        if (b->forward->scratch == NULL) {
            b->forward->scratch = ipv4b_forward_scratch_new();
        }
    }
    if (ipv4b_scratch_reserve(&b->scratch, n) < 0 ||
        (direction == IPV4B_WRITE && b->forward != NULL &&
         (b->forward->scratch == NULL || ipv4b_forward_reserve(b->forward->scratch, n) < 0))) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static void
forward_return(ipv4b_conn_object *conn, ipv4b_forward_scratch *scratch)
{
    if (scratch != NULL && conn->batches.forward == NULL && scratch->iov_capacity <= KEPT_IOVECS) {
        conn->batches.forward = scratch;
    }
    else {
        ipv4b_forward_scratch_free(scratch);
    }
}

/* Leaves the memory for the next call, unless another call has left its own. */
static void
scratch_return(ipv4b_batch *b)
{
    ipv4b_conn_object *conn = b->conn;
    ipv4b_scratch *kept = scratch_of(b, b->direction);

    if (kept->capacity == 0) {
        *kept = b->scratch;
    }
    else {
        ipv4b_scratch_free(&b->scratch);
    }
    if (b->direction == IPV4B_READ) {
        return;
    }
    if (b->forward != NULL) {
        forward_return(conn, b->forward->scratch);
    }
    if (b->request != NULL) {
        ipv4b_tx_end(b);
    }
    if (b->sender.plan == NULL) {
        return;
    }
    if (conn->sending.plan == NULL && b->sender.plan->iov_capacity <= KEPT_IOVECS) {
        conn->sending.plan = b->sender.plan;
    }
    else {
        ipv4b_gso_plan_free(b->sender.plan);
    }
}

/* Releases the next `count` messages: their pins and the call's references. With IPV4B_MOVED
 * they first get the results of the system call. `order` is the order in which they go, NULL for
 * the list's. Ours can be the last reference only if another thread has changed the list. Then a
 * destructor of Python's can run, and the messages behind it are still in use. Written once and
 * compiled once for each case, like `fill` below. */
static inline void
finish(ipv4b_batch *b, size_t count, const uint32_t *order, ipv4b_direction direction,
       ipv4b_outcome outcome)
{
    const bool moved = outcome == IPV4B_MOVED;
    void **owners = b->scratch.owners;
    const ipv4b_slot *slots = b->scratch.slots;
    size_t end = b->start + count;

    for (size_t k = b->start; k < end; k++) {
        size_t i = order == NULL ? k : order[k];
        ipv4b_message_object *m = owners[i];

        Py_BEGIN_CRITICAL_SECTION(m);
        if (moved) {
            IPV4B_STORE_RELAXED(m->n, slots[i].msg_len);
            IPV4B_STORE_RELAXED(m->nn, (unsigned int)slots[i].msg_hdr.msg_controllen);
        }
        if (moved && direction == IPV4B_READ) {
            IPV4B_STORE_RELAXED(m->flags, slots[i].msg_hdr.msg_flags | IPV4B_FLAG_RECEIVED);
            m->name = *(const struct sockaddr_in *)slots[i].msg_hdr.msg_name;
            m->header.msg_namelen = slots[i].msg_hdr.msg_namelen;
        }
        if (moved && direction == IPV4B_WRITE) {
            IPV4B_STORE_RELAXED(m->flags, 0);
        }
        if (direction == IPV4B_WRITE && (moved || outcome == IPV4B_FORWARDED)) {
            IPV4B_STORE_RELAXED(m->error, 0);
        }
        if (outcome == IPV4B_CANCELED) {
            IPV4B_STORE_RELAXED(m->error, ECANCELED);
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
    b->moved += done;
    b->told = false;
    if (b->direction == IPV4B_READ) {
        finish(b, done, NULL, IPV4B_READ, IPV4B_MOVED);
    }
    else if (b->forward != NULL) {
        /* It stays what was received, and can be forwarded again. */
        finish(b, done, b->sender.planned ? b->sender.plan->order : NULL, IPV4B_WRITE,
               IPV4B_FORWARDED);
    }
    else if (b->sender.planned && b->sender.plan->shuffled) {
        finish(b, done, b->sender.plan->order, IPV4B_WRITE, IPV4B_MOVED);
    }
    else {
        finish(b, done, NULL, IPV4B_WRITE, IPV4B_MOVED);
    }
}

void
ipv4b_gather_drop(ipv4b_batch *b, size_t count, ipv4b_outcome outcome)
{
    b->told = false;
    finish(b, count, b->sender.planned ? b->sender.plan->order : NULL, b->direction, outcome);
}

void
ipv4b_gather_end(ipv4b_batch *b, ipv4b_outcome outcome)
{
    if (b->start < b->pinned) {
        ipv4b_gather_drop(b, b->pinned - b->start, outcome);
    }
    scratch_return(b);
}

/* The input members of a msghdr, in the order that all systems share. */
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
        pinned = ipv4b_check_pin(m, direction);
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
ipv4b_gather_copy(PyObject *msgs)
{
    if (!PySequence_Check(msgs)) {
        PyErr_Format(PyExc_TypeError, "msgs: a sequence of Message is required, not %.100s",
                     Py_TYPE(msgs)->tp_name);
        return NULL;
    }
    return PySequence_Tuple(msgs);
}

/* Not inlined, because the loop needs every register. */
static __attribute__((noinline)) size_t
fill_for_write(const ipv4b_scratch *scratch, PyObject **items, size_t n, PyTypeObject *type)
{
    return fill(scratch, items, n, type, IPV4B_WRITE);
}

/* Pins n messages of forward. */
static __attribute__((noinline)) int
gather_forwarded(ipv4b_batch *b, PyObject **items, size_t n)
{
    b->pinned = ipv4b_forward_fill(b->forward, &b->scratch, items, n, b->conn->state->message_type);
    if (b->pinned < n) {
        return ipv4b_check_refuse(b, b->first + b->pinned);
    }
    if (ipv4b_forward_trim(b->forward->scratch, b->scratch.slots, n) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Pins the n messages of a turn, from b->first on. */
static inline __attribute__((always_inline)) int
pin_turn(ipv4b_batch *b, size_t n, ipv4b_direction direction)
{
    PyObject **items = PySequence_Fast_ITEMS(b->list) + b->first;

    if (direction == IPV4B_WRITE && b->forward != NULL) {
        return gather_forwarded(b, items, n);
    }
    b->pinned = direction == IPV4B_READ
                    ? fill(&b->scratch, items, n, b->conn->state->message_type, IPV4B_READ)
                    : fill_for_write(&b->scratch, items, n, b->conn->state->message_type);
    return b->pinned < n ? ipv4b_check_refuse(b, b->first + b->pinned) : 0;
}

/* Begins a turn of n messages, from b->first on. Compiled once for each direction. */
static inline __attribute__((always_inline)) int
gather_turn(ipv4b_batch *b, size_t n, ipv4b_direction direction)
{
    int r;

    b->start = 0;
    b->told = b->sender.planned = false;
    if (direction == IPV4B_WRITE) {
        b->begun = !b->sender.gso;
        b->sender.done = 0;
        b->sender.request = NULL;
    }
    r = pin_turn(b, n, direction);
    return r == 0 && direction == IPV4B_WRITE && b->conn->stamping.kinds != 0 ? ipv4b_tx_begin(b)
                                                                              : r;
}

int
ipv4b_gather_next(ipv4b_batch *b)
{
    size_t left;

    b->first += b->pinned;
    b->pinned = b->start = 0;
    if (ipv4b_check_length(b) < 0) {
        return -1;
    }
    left = b->n - b->first;
    left = left < b->turn ? left : b->turn;
    return b->direction == IPV4B_READ ? gather_turn(b, left, IPV4B_READ)
                                      : gather_turn(b, left, IPV4B_WRITE);
}

static inline __attribute__((always_inline)) int
gather_begin(ipv4b_batch *b, PyObject *list, bool cancel, ipv4b_direction direction)
{
    size_t n = (size_t)PySequence_Fast_GET_SIZE(list);

    b->list = list;
    b->n = n;
    if (n > b->turn) {
        n = b->turn;
    }
    if (scratch_take(b, n, direction) < 0 || (b->n > n && ipv4b_check_all(b, cancel) < 0)) {
        b->start = b->pinned = 0;
        return -1;
    }
    return gather_turn(b, n, direction);
}

int
ipv4b_gather_begin(ipv4b_batch *b, PyObject *list, bool cancel)
{
    return b->direction == IPV4B_READ ? gather_begin(b, list, cancel, IPV4B_READ)
                                      : gather_begin(b, list, cancel, IPV4B_WRITE);
}
