/* gso.c - see gso.h. */
#include "gso.h"

#include "cmsg.h"
#include "mmsg.h"

/* Bytes over all iovecs of a message. */
static inline size_t
message_size(const struct msghdr *h)
{
    size_t size = 0;

    if (h->msg_iovlen == 1) {
        return h->msg_iov->iov_len;
    }
    for (size_t i = 0; i < (size_t)h->msg_iovlen; i++) {
        size += h->msg_iov[i].iov_len;
    }
    return size;
}

/* Whether the control data already says how to cut the message up. *len is the length of its items,
 * without the tail that the kernel ignores. */
static bool
has_segment_size(const struct msghdr *h, size_t *len)
{
    ipv4b_cmsg_iter it = {.buf = h->msg_control, .len = (size_t)h->msg_controllen};
    ipv4b_cmsg_item item;
    bool found = false;

    while (ipv4b_cmsg_next(&it, &item) > 0) {
        found = found || (item.level == IPPROTO_UDP && item.type == IPV4B_UDP_SEGMENT);
    }
    *len = it.pos;
    return found;
}

/* Whether two messages go to the same endpoint, which is an IPv4 one or none. */
static inline bool
same_name(const struct msghdr *a, const struct msghdr *b)
{
    if (a->msg_namelen != b->msg_namelen) {
        return false;
    }
    return a->msg_namelen == sizeof(struct sockaddr_in)
               ? memcmp(a->msg_name, b->msg_name, sizeof(struct sockaddr_in)) == 0
               : a->msg_namelen == 0;
}

static inline bool
same_path(const struct msghdr *a, const struct msghdr *b)
{
    return same_name(a, b) && a->msg_controllen == b->msg_controllen &&
           (a->msg_controllen == 0 ||
            memcmp(a->msg_control, b->msg_control, (size_t)a->msg_controllen) == 0);
}

/* How many of the n messages from slots[0] on make one run: 1 if there is no partner. *size is that
 * of the first, *control_len the length of its control items, which a run alone has. */
static size_t
run_length(const ipv4b_slot *slots, size_t n, size_t *size, size_t *control_len)
{
    const struct msghdr *first = &slots[0].msg_hdr;
    size_t bytes = message_size(first);
    size_t iovecs = (size_t)first->msg_iovlen;
    size_t length = 1;

    *size = bytes;
    /* A datagram of no bytes cannot be a segment. */
    if (n < 2 || *size == 0 || *size > IPV4B_GSO_BYTES / 2 ||
        (size_t)first->msg_controllen > IPV4B_GSO_CONTROL_MAX ||
        !same_path(first, &slots[1].msg_hdr) || has_segment_size(first, control_len)) {
        return 1;
    }
    while (length < n && length < IPV4B_GSO_SEGMENTS) {
        const struct msghdr *next = &slots[length].msg_hdr;
        size_t next_size = message_size(next);

        bytes += next_size;
        iovecs += (size_t)next->msg_iovlen;
        if (next_size == 0 || next_size > *size || bytes > IPV4B_GSO_BYTES ||
            iovecs > IPV4B_IOV_MAX || !same_path(first, next)) {
            break;
        }
        length++;
        if (next_size < *size) {
            break; /* only the last can be shorter */
        }
    }
    return length;
}

void
ipv4b_gso_plan_free(ipv4b_gso_plan *plan)
{
    free(plan->slots);
    free(plan->members);
    free(plan->iov);
    free(plan->control);
    memset(plan, 0, sizeof *plan);
}

/* Makes room for at least so many of each, whatever the arrays held. */
static int
plan_reserve(ipv4b_gso_plan *plan, size_t n, size_t iovecs, size_t control)
{
    if (n <= plan->slot_capacity && iovecs <= plan->iov_capacity &&
        control <= plan->control_capacity) {
        return 0;
    }
    ipv4b_gso_plan_free(plan);
    /* n is 2 at least, as one message is no run.
     * NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI) */
    plan->slots = calloc(n, sizeof *plan->slots);
    plan->members = calloc(n, sizeof *plan->members);
    plan->iov = calloc(iovecs, sizeof *plan->iov);
    plan->control = calloc(control, 1);
    if (plan->slots == NULL || plan->members == NULL || plan->iov == NULL ||
        plan->control == NULL) {
        ipv4b_gso_plan_free(plan);
        return -ENOMEM;
    }
    plan->slot_capacity = n;
    plan->iov_capacity = iovecs;
    plan->control_capacity = control;
    return 0;
}

int
ipv4b_gso_plan_make(ipv4b_gso_plan *plan, const ipv4b_slot *slots, size_t n)
{
    size_t iovecs = 0, control = 0, used_iov = 0, used_control = 0;

    /* What all messages together need is enough for any runs that they make: each run has at least
     * two, and its control data is that of one of them and an item more. */
    for (size_t i = 0; i < n; i++) {
        iovecs += (size_t)slots[i].msg_hdr.msg_iovlen;
        control += (size_t)slots[i].msg_hdr.msg_controllen;
    }
    control += (n / 2 + 1) * (CMSG_SPACE(sizeof(uint16_t)) + sizeof(struct cmsghdr));
    if (plan_reserve(plan, n, iovecs + 1, control) < 0) {
        return -ENOMEM;
    }
    plan->count = 0;
    for (size_t i = 0, length; i < n; i += length) {
        ipv4b_slot *out = &plan->slots[plan->count];
        size_t size, control_len;

        length = run_length(slots + i, n - i, &size, &control_len);
        plan->members[plan->count++] = (uint32_t)length;
        *out = slots[i];
        if (length > 1) {
            uint16_t segment = (uint16_t)size;
            /* Items start on the boundary that CMSG_SPACE keeps; the last may have come without its
             * padding. */
            size_t aligned = CMSG_SPACE(control_len) - CMSG_SPACE(0);
            ipv4b_cmsg_encoder enc = {
                .buf = plan->control + used_control,
                .cap = aligned + CMSG_SPACE(sizeof segment),
                .len = aligned,
            };

            memset(enc.buf, 0, aligned);
            if (control_len != 0) {
                memcpy(enc.buf, out->msg_hdr.msg_control, control_len);
            }
            (void)ipv4b_cmsg_put(&enc, IPPROTO_UDP, IPV4B_UDP_SEGMENT, &segment, sizeof segment);
            out->msg_hdr.msg_control = enc.buf;
            out->msg_hdr.msg_controllen = enc.len;
            used_control += enc.len;
            out->msg_hdr.msg_iov = plan->iov + used_iov;
            for (size_t k = 0; k < length; k++) {
                const struct msghdr *h = &slots[i + k].msg_hdr;

                for (size_t part = 0; part < (size_t)h->msg_iovlen; part++) {
                    plan->iov[used_iov++] = h->msg_iov[part];
                }
            }
            out->msg_hdr.msg_iovlen = (size_t)(plan->iov + used_iov - out->msg_hdr.msg_iov);
        }
    }
    return 0;
}

/* Whether an error can be the offload's fault: EIO from a device without checksum offload, EINVAL
 * with SO_NO_CHECK, a segment over the MTU (EMSGSIZE, and EINVAL before Linux 6.14) or a kernel
 * that does not know the item. */
static bool
is_refusal(int error)
{
    return error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP;
}

/* Whether an ICMP message about an earlier datagram can be reported by the same errno
 * (icmp_err_convert, net/ipv4/icmp.c). */
static bool
can_be_report(int error)
{
    return error == EMSGSIZE || error == EOPNOTSUPP;
}

/* Writes down that slot number k of the plan was taken, whose messages start at slots[done]. */
static size_t
settle(ipv4b_slot *slots, size_t done, const ipv4b_gso_plan *plan, size_t k)
{
    size_t length = plan->members[k];

    if (length == 1) {
        slots[done].msg_len = plan->slots[k].msg_len;
    }
    for (size_t i = 0; length > 1 && i < length; i++) {
        slots[done + i].msg_len = (unsigned int)message_size(&slots[done + i].msg_hdr);
    }
    return length;
}

size_t
ipv4b_gso_send(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_gso_plan *plan, int *error,
               int *refused, int *late)
{
    size_t done = 0;
    size_t k = 0;
    int suspect = 0; /* the error with which run k may have been refused, or 0 */

    *error = *refused = *late = 0;
    while (k < plan->count) {
        int run_error;
        size_t taken = ipv4b_mmsg_send(fd, plan->slots + k, plan->count - k, flags, &run_error);
        bool again = suspect != 0 && taken == 0 && run_error == suspect;

        if (suspect != 0 && !again) {
            *late = suspect;
        }
        suspect = 0;
        for (; taken > 0; taken--) {
            done += settle(slots, done, plan, k);
            k++;
        }
        if (k == plan->count) {
            break;
        }
        if (plan->members[k] == 1) {
            *error = run_error;
            break;
        }
        if (run_error == 0) {
            continue; /* the kernel forgot why; asked again, it tells */
        }
        if (!is_refusal(run_error)) {
            *error = run_error;
            break;
        }
        if (can_be_report(run_error) && !again) {
            suspect = run_error;
            continue; /* asked again, the report of an earlier datagram is gone */
        }
        taken = ipv4b_mmsg_send(fd, slots + done, n - done, flags, error);
        /* The same error without offload is the message's own. */
        *refused = taken > 0 ? run_error : 0;
        done += taken;
        break;
    }
    return done;
}
