/* plan.c - see plan.h. */
#include "plan.h"

#include "cmsg.h"
#include "path.h"

ipv4b_gso_plan *
ipv4b_gso_plan_new(void)
{
    return calloc(1, sizeof(ipv4b_gso_plan));
}

static void
free_messages(ipv4b_gso_plan *plan)
{
    free(plan->slots);
    free(plan->runs);
    free(plan->order);
    free(plan->paths);
    free(plan->next);
    free(plan->table);
    plan->slots = NULL;
    plan->runs = NULL;
    plan->order = NULL;
    plan->paths = NULL;
    plan->next = NULL;
    plan->table = NULL;
    plan->capacity = 0;
}

void
ipv4b_gso_plan_free(ipv4b_gso_plan *plan)
{
    if (plan != NULL) {
        free_messages(plan);
        free(plan->iov);
        free(plan->control);
        free(plan);
    }
}

/* Makes room for n messages and drops what the arrays held. */
static int
reserve_messages(ipv4b_gso_plan *plan, size_t n)
{
    size_t table = 16;

    if (n <= plan->capacity && plan->runs != NULL) {
        return 0;
    }
    free_messages(plan);
    n = n > 0 ? n : 1;
    while (table < 2 * n) {
        table *= 2;
    }
    plan->slots = calloc(n, sizeof *plan->slots);
    plan->runs = calloc(n, sizeof *plan->runs);
    plan->order = calloc(n, sizeof *plan->order);
    plan->paths = calloc(n, sizeof *plan->paths);
    plan->next = calloc(n, sizeof *plan->next);
    plan->table = calloc(table, sizeof *plan->table);
    if (plan->slots == NULL || plan->runs == NULL || plan->order == NULL || plan->paths == NULL ||
        plan->next == NULL || plan->table == NULL) {
        free_messages(plan);
        return -ENOMEM;
    }
    plan->table_mask = table - 1;
    plan->capacity = n;
    return 0;
}

/* Makes room for the iovecs and the control data of the runs that were found. */
static int
reserve_contents(ipv4b_gso_plan *plan)
{
    const size_t item = CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(0) + /* the one before, padded */
                        (plan->request != NULL ? IPV4B_TX_SPACE : 0);
    size_t iovecs = 0, control = 0;

    for (size_t k = 0; k < plan->count; k++) {
        const ipv4b_run *run = &plan->runs[k];

        if (run->length > 1) {
            iovecs += run->iovecs;
            control += plan->paths[run->path].control_len + item;
        }
    }
    if (iovecs > plan->iov_capacity) {
        free(plan->iov);
        plan->iov = calloc(iovecs, sizeof *plan->iov);
        plan->iov_capacity = plan->iov == NULL ? 0 : iovecs;
    }
    if (control > plan->control_capacity) {
        free(plan->control);
        plan->control = calloc(control, 1);
        plan->control_capacity = plan->control == NULL ? 0 : control;
    }
    return iovecs > plan->iov_capacity || control > plan->control_capacity ? -ENOMEM : 0;
}

/* Whether the control data has a segment size of its own. *len is the length of its items,
 * without the tail that the kernel ignores. */
static bool
has_segment_size(const struct msghdr *h, uint32_t *len)
{
    ipv4b_cmsg_iter it = {.buf = h->msg_control, .len = (size_t)h->msg_controllen};
    ipv4b_cmsg_item item;
    bool found = false;

    while (ipv4b_cmsg_next(&it, &item) > 0) {
        found = found || (item.level == IPPROTO_UDP && item.type == IPV4B_UDP_SEGMENT);
    }
    *len = (uint32_t)it.pos;
    return found;
}

/* What is needed while a plan is made. */
typedef struct {
    ipv4b_gso_plan *plan;
    const ipv4b_slot *slots;
    const ipv4b_refusals *refusals;
    int64_t now;
} plan_input;

/* Puts a path into the hash table. */
static void
path_enter(ipv4b_gso_plan *plan, size_t number)
{
    size_t at = (size_t)(plan->paths[number].hash & plan->table_mask);

    while (plan->table[at] != 0) {
        at = (at + 1) & plan->table_mask;
    }
    plan->table[at] = (uint16_t)(number + 1);
}

/* The number of a path that was met before, or of the next one. The table is filled from the second
 * path on: a list to one peer has no use for it. */
static size_t
path_look_up(const plan_input *in, const struct msghdr *h, uint64_t hash)
{
    ipv4b_gso_plan *plan = in->plan;
    size_t at = (size_t)(hash & plan->table_mask);

    if (plan->path_count == 1) {
        memset(plan->table, 0, (plan->table_mask + 1) * sizeof *plan->table);
        plan->paths[0].hash = ipv4b_path_hash(&in->slots[plan->paths[0].message].msg_hdr);
        path_enter(plan, 0);
    }
    for (; plan->table[at] != 0; at = (at + 1) & plan->table_mask) {
        size_t number = plan->table[at] - 1U;
        const ipv4b_path *path = &plan->paths[number];

        if (path->hash == hash && ipv4b_same_path(&in->slots[path->message].msg_hdr, h)) {
            return number;
        }
    }
    return plan->path_count;
}

/* The path of message i, if it differs from that of the message before it. */
static __attribute__((noinline)) ipv4b_path *
path_find(const plan_input *in, uint32_t i)
{
    ipv4b_gso_plan *plan = in->plan;
    const struct msghdr *h = &in->slots[i].msg_hdr;
    bool first = plan->path_count == 0;
    uint64_t hash = first && in->refusals == NULL ? 0 : ipv4b_path_hash(h);
    size_t number = first ? 0 : path_look_up(in, h, hash);
    ipv4b_path *path = &plan->paths[number];

    if (number < plan->path_count) {
        return path;
    }
    *path = (ipv4b_path){.hash = hash, .message = i, .run = IPV4B_NO_PATH, .after = IPV4B_NO_PATH};
    if (in->refusals != NULL) {
        path->refused = ipv4b_refusals_find(in->refusals, h, hash, in->now);
        path->told = path->refused != 0;
    }
    path->alone = path->refused != 0 || (size_t)h->msg_controllen > IPV4B_GSO_CONTROL_MAX ||
                  (h->msg_controllen != 0 && has_segment_size(h, &path->control_len));
    plan->path_count++;
    if (!first) {
        path_enter(plan, number);
    }
    return path;
}

/* The path of message i. `before` is the path of the message before it, or NULL. A list that
 * goes round its paths needs no hash table, because each path is followed by the same one as
 * before. */
static inline ipv4b_path *
path_after(const plan_input *in, ipv4b_path *before, uint32_t i)
{
    ipv4b_path *paths = in->plan->paths, *path;

    if (before != NULL && before->after != IPV4B_NO_PATH) {
        path = &paths[before->after];
        if (ipv4b_same_path(&in->slots[path->message].msg_hdr, &in->slots[i].msg_hdr)) {
            return path;
        }
    }
    path = path_find(in, i);
    if (before != NULL) {
        before->after = (uint32_t)(path - paths);
    }
    return path;
}

/* Begins a run with message i. */
static inline ipv4b_run *
run_begin(ipv4b_run *run, uint32_t i, size_t size, size_t iovecs)
{
    *run = (ipv4b_run){
        .first = i,
        .last = i,
        .length = 1,
        .segment = (uint32_t)size,
        .iovecs = (uint32_t)iovecs,
        .path = IPV4B_NO_PATH,
    };
    return run;
}

/* Whether a shorter message of `bytes` bytes can end a run. */
static inline bool
run_takes_last(const ipv4b_run *run, size_t size)
{
    /* A datagram of no bytes cannot be a segment. */
    return run->most != 0 && size != 0 && size < run->segment && run->length < IPV4B_GSO_SEGMENTS &&
           (size_t)run->length * run->segment + size <= IPV4B_GSO_BYTES;
}

/* Assigns each message to a run. Returns whether that changes their order. */
static bool
plan_find_runs(const plan_input *in, size_t n, bool reorder)
{
    ipv4b_gso_plan *plan = in->plan;
    ipv4b_run *const runs = plan->runs;
    const struct msghdr *before = NULL;
    ipv4b_path *path = NULL;
    ipv4b_run *run = NULL; /* the last of `path` */
    bool shuffled = false;

    for (uint32_t i = 0; i < n; i++) {
        const struct msghdr *h = &in->slots[i].msg_hdr;
        size_t size = ipv4b_message_bytes(h), iovecs = (size_t)h->msg_iovlen;

        if (size > IPV4B_GSO_BYTES && reorder) {
            (void)run_begin(&runs[plan->count++], i, 0,
                            0); /* it cannot arrive, so it does not delay others */
            continue;
        }
        if (before == NULL || !ipv4b_same_path(before, h)) {
            path = path_after(in, path, i);
            run = reorder && path->run != IPV4B_NO_PATH ? &runs[path->run] : NULL;
        }
        before = h;
        if (run != NULL && run->iovecs + iovecs <= IPV4B_IOV_MAX) {
            bool equal = size == run->segment && run->length < run->most;

            if (equal || run_takes_last(run, size)) {
                shuffled |= run->last + 1 != i;
                plan->next[run->last] = i;
                run->last = i;
                run->length++;
                run->iovecs += (uint32_t)iovecs;
                if (!equal) {
                    run->most = 0;
                }
                continue;
            }
        }
        path->run = (uint32_t)plan->count;
        run = run_begin(&runs[plan->count++], i, size, iovecs);
        run->path = (uint32_t)(path - plan->paths);
        if (!path->alone && size != 0 && size <= IPV4B_GSO_BYTES / 2) {
            uint32_t most = IPV4B_GSO_BYTES / (uint32_t)size;

            run->most = most < IPV4B_GSO_SEGMENTS ? most : IPV4B_GSO_SEGMENTS;
        }
    }
    return shuffled;
}

/* The control data of a run: that of its first message, and the segment size. Returns its length. */
static size_t
run_control(const ipv4b_run *run, size_t control_len, struct msghdr *out, unsigned char *buf)
{
    uint16_t segment = (uint16_t)run->segment;
    /* Items start on the boundary that CMSG_SPACE keeps; the last may have come without its
     * padding. */
    size_t aligned = CMSG_SPACE(control_len) - CMSG_SPACE(0);
    ipv4b_cmsg_encoder enc = {
        .buf = buf,
        .cap = aligned + CMSG_SPACE(sizeof segment),
        .len = aligned,
    };

    if (control_len != 0) {
        memset(buf, 0, aligned);
        memcpy(buf, out->msg_control, control_len);
    }
    (void)ipv4b_cmsg_put(&enc, IPPROTO_UDP, IPV4B_UDP_SEGMENT, &segment, sizeof segment);
    out->msg_control = buf;
    out->msg_controllen = enc.len;
    return enc.len;
}

/* Appends a message's buffers to those of its run, which end before `end`; *tail is where the last one
 * ends in memory, and what follows it there becomes part of it: the kernel's work grows with each
 * iovec. Returns the new end. */
static inline struct iovec *
run_gather(struct iovec *end, const struct msghdr *h, const char **tail)
{
    for (size_t part = 0; part < (size_t)h->msg_iovlen; part++) {
        const struct iovec *iov = &h->msg_iov[part];

        if (iov->iov_base == *tail) {
            end[-1].iov_len += iov->iov_len;
        }
        else {
            *end++ = *iov;
        }
        *tail = (const char *)iov->iov_base + iov->iov_len;
    }
    return end;
}

/* Makes what the kernel gets of each run. */
static void
plan_fill_slots(ipv4b_gso_plan *plan, const ipv4b_slot *slots)
{
    const ipv4b_tx_request *request = plan->request;
    struct iovec *iov = plan->iov;
    unsigned char *control = plan->control;
    uint32_t *order = plan->order;
    const char nowhere = 0; /* not the start of a buffer */

    for (size_t k = 0; k < plan->count; k++) {
        const ipv4b_run *run = &plan->runs[k];
        ipv4b_slot *out = &plan->slots[k];
        struct iovec *start = iov;
        uint32_t message = run->first;
        const char *tail = &nowhere;
        size_t len;

        *out = request != NULL && run->length == 1 ? request->slots[message] : slots[message];
        if (run->length == 1) {
            *order++ = message;
            continue;
        }
        len = run_control(run, plan->paths[run->path].control_len, &out->msg_hdr, control);
        if (request != NULL) {
            len = ipv4b_tx_request_put(control, len, request->kinds, request->ids[message]);
            out->msg_hdr.msg_controllen = len;
        }
        control += len;
        for (uint32_t left = run->length;; message = plan->next[message]) {
            *order++ = message;
            iov = run_gather(iov, &slots[message].msg_hdr, &tail);
            if (--left == 0) {
                break;
            }
        }
        out->msg_hdr.msg_iov = start;
        out->msg_hdr.msg_iovlen = (size_t)(iov - start);
    }
}

int
ipv4b_gso_plan_make(ipv4b_gso_plan *plan, const ipv4b_slot *slots, size_t n, bool reorder,
                    const ipv4b_refusals *refusals, int64_t now)
{
    plan_input in = {plan, slots, refusals, now};

    plan->count = plan->done = plan->at = plan->part = plan->path_count = 0;
    plan->broken = plan->unable = false;
    plan->refusing = 0;
    if (n > UINT16_MAX || reserve_messages(plan, n) < 0) {
        return -ENOMEM;
    }
    plan->shuffled = plan_find_runs(&in, n, reorder);
    if (reserve_contents(plan) < 0) {
        return -ENOMEM;
    }
    plan_fill_slots(plan, slots);
    return 0;
}
