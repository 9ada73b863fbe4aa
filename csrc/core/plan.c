/* plan.c - see plan.h. */
#include "plan.h"

#include "cmsg.h"
#include "path.h"

void
ipv4b_gso_plan_free(ipv4b_gso_plan *plan)
{
    free(plan->slots);
    free(plan->runs);
    free(plan->order);
    free(plan->paths);
    free(plan->next);
    free(plan->table);
    free(plan->iov);
    free(plan->control);
    memset(plan, 0, sizeof *plan);
}

/* Makes room for so many of each at least; what the arrays held is lost. */
static int
plan_reserve(ipv4b_gso_plan *plan, size_t n, size_t iovecs, size_t control)
{
    size_t table = 16;

    if (n <= plan->slot_capacity && iovecs <= plan->iov_capacity &&
        control <= plan->control_capacity) {
        return 0;
    }
    ipv4b_gso_plan_free(plan);
    while (table < 2 * n) {
        table *= 2;
    }
    plan->slots = calloc(n, sizeof *plan->slots);
    plan->runs = calloc(n, sizeof *plan->runs);
    plan->order = calloc(n, sizeof *plan->order);
    plan->paths = calloc(n, sizeof *plan->paths);
    plan->next = calloc(n, sizeof *plan->next);
    plan->table = calloc(table, sizeof *plan->table);
    plan->iov = calloc(iovecs, sizeof *plan->iov);
    plan->control = calloc(control, 1);
    if (plan->slots == NULL || plan->runs == NULL || plan->order == NULL || plan->paths == NULL ||
        plan->next == NULL || plan->table == NULL || plan->iov == NULL || plan->control == NULL) {
        ipv4b_gso_plan_free(plan);
        return -ENOMEM;
    }
    plan->table_mask = table - 1;
    plan->slot_capacity = n;
    plan->iov_capacity = iovecs;
    plan->control_capacity = control;
    return 0;
}

/* Whether the control data already says how to cut the message up. *len is the length of its items,
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

/* What the making of a plan needs to know. */
typedef struct {
    ipv4b_gso_plan *plan;
    const ipv4b_slot *slots;
    const ipv4b_refusals *refusals;
    int64_t now;
} plan_input;

/* Enters a path into the table of those that can come again. */
static void
path_enter(ipv4b_gso_plan *plan, size_t number)
{
    size_t at = plan->paths[number].hash & plan->table_mask;

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
    size_t at = hash & plan->table_mask;

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

/* The path of message i, which is another than that of the message before it. */
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
    *path = (ipv4b_path){.hash = hash, .message = i, .run = IPV4B_NO_PATH};
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

/* Begins a run with message i. */
static inline ipv4b_run *
run_begin(ipv4b_gso_plan *plan, uint32_t i, size_t size, size_t iovecs)
{
    ipv4b_run *run = &plan->runs[plan->count++];

    *run = (ipv4b_run){
        .first = i,
        .last = i,
        .length = 1,
        .path = IPV4B_NO_PATH,
        .segment = (uint32_t)size,
        .bytes = (uint32_t)size,
        .iovecs = (uint32_t)iovecs,
    };
    return run;
}

/* Whether a message of so many bytes and iovecs can be the next of a run. */
static inline bool
run_takes(const ipv4b_run *run, size_t size, size_t iovecs)
{
    /* A datagram of no bytes cannot be a segment: 0 - 1 is more than any limit. */
    return size - 1 < run->limit && run->bytes + size <= IPV4B_GSO_BYTES &&
           run->iovecs + iovecs <= IPV4B_IOV_MAX && run->length < IPV4B_GSO_SEGMENTS;
}

/* Gives each message its run. */
static void
plan_find_runs(const plan_input *in, size_t n, bool reorder)
{
    ipv4b_gso_plan *plan = in->plan;
    const struct msghdr *before = NULL;
    ipv4b_path *path = NULL;
    ipv4b_run *run = NULL; /* the last of `path` */

    for (uint32_t i = 0; i < n; i++) {
        const struct msghdr *h = &in->slots[i].msg_hdr;
        size_t size = ipv4b_message_bytes(h), iovecs = (size_t)h->msg_iovlen;

        if (size > IPV4B_GSO_BYTES && reorder) {
            (void)run_begin(plan, i, 0, 0); /* it cannot arrive, so it stands in nobody's way */
            continue;
        }
        if (before == NULL || !ipv4b_same_path(before, h)) {
            path = path_find(in, i);
            run = reorder && path->run != IPV4B_NO_PATH ? &plan->runs[path->run] : NULL;
        }
        before = h;
        if (run != NULL && run_takes(run, size, iovecs)) {
            plan->shuffled = plan->shuffled || run->last + 1 != i;
            plan->next[run->last] = i;
            run->last = i;
            run->length++;
            run->bytes += (uint32_t)size;
            run->iovecs += (uint32_t)iovecs;
            run->limit = size < run->segment ? 0 : run->limit; /* only the last can be shorter */
            continue;
        }
        path->run = (uint32_t)plan->count;
        run = run_begin(plan, i, size, iovecs);
        run->path = (uint32_t)(path - plan->paths);
        run->limit = path->alone || size > IPV4B_GSO_BYTES / 2 ? 0 : (uint32_t)size;
    }
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

/* Appends a message's buffers to those of its run, which end before `end`. What follows the last one
 * in memory becomes part of it: the kernel's work grows with each iovec. Returns the new end. */
static inline struct iovec *
run_gather(struct iovec *start, struct iovec *end, const struct msghdr *h)
{
    for (size_t part = 0; part < (size_t)h->msg_iovlen; part++) {
        const struct iovec *iov = &h->msg_iov[part];

        if (end > start && (char *)end[-1].iov_base + end[-1].iov_len == (char *)iov->iov_base) {
            end[-1].iov_len += iov->iov_len;
        }
        else {
            *end++ = *iov;
        }
    }
    return end;
}

/* Makes what the kernel gets of each run. */
static void
plan_fill_slots(ipv4b_gso_plan *plan, const ipv4b_slot *slots)
{
    struct iovec *iov = plan->iov;
    unsigned char *control = plan->control;
    uint32_t *order = plan->order;

    for (size_t k = 0; k < plan->count; k++) {
        const ipv4b_run *run = &plan->runs[k];
        ipv4b_slot *out = &plan->slots[k];
        struct iovec *start = iov;
        uint32_t message = run->first;

        *out = slots[message];
        if (run->length == 1) {
            *order++ = message;
            continue;
        }
        control += run_control(run, plan->paths[run->path].control_len, &out->msg_hdr, control);
        for (uint32_t left = run->length;; message = plan->next[message]) {
            *order++ = message;
            iov = run_gather(start, iov, &slots[message].msg_hdr);
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
    size_t iovecs = 1, control = 0;

    /* What all messages together need is enough for any runs that they make: each run has at least
     * two, and its control data is that of one of them and an item more. */
    for (size_t i = 0; i < n; i++) {
        size_t len = (size_t)slots[i].msg_hdr.msg_controllen;

        iovecs += (size_t)slots[i].msg_hdr.msg_iovlen;
        control += len > IPV4B_GSO_CONTROL_MAX ? 0 : len;
    }
    control += (n / 2 + 1) * (CMSG_SPACE(sizeof(uint16_t)) + sizeof(struct cmsghdr));
    if (n > UINT16_MAX || plan_reserve(plan, n > 0 ? n : 1, iovecs, control) < 0) {
        ipv4b_gso_plan_free(plan);
        return -ENOMEM;
    }
    plan->count = plan->done = plan->at = plan->part = plan->path_count = 0;
    plan->broken = plan->unable = plan->shuffled = false;
    plan->refusing = 0;
    plan_find_runs(&in, n, reorder);
    plan_fill_slots(plan, slots);
    return 0;
}
