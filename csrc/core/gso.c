/* gso.c - see gso.h. */
#include "gso.h"

#include "mmsg.h"

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

/* Whether a refusal is of the socket, whatever the path: the kernel does not know the item, or the
 * socket sends no checksums (udp_send_skb, net/ipv4/udp.c). */
static bool
is_of_socket(int fd, int error)
{
    int off = 0;
    socklen_t len = sizeof off;

    return error == EOPNOTSUPP ||
           (error == EINVAL && getsockopt(fd, SOL_SOCKET, IPV4B_SO_NO_CHECK, &off, &len) == 0 &&
            off != 0);
}

/* Moves past `count` messages of the current run. */
static void
plan_advance(ipv4b_gso_plan *plan, size_t count)
{
    plan->done += count;
    plan->part += count;
    if (plan->part == plan->runs[plan->at].length) {
        plan->at++;
        plan->part = 0;
        plan->broken = false;
        plan->refusing = 0;
    }
}

void
ipv4b_gso_skip(ipv4b_gso_plan *plan)
{
    plan->broken = true;
    plan_advance(plan, 1);
}

/* A run was refused and one of its messages went alone. From now on all messages of its path go
 * alone. */
static void
note_refusal(int fd, ipv4b_gso_plan *plan, ipv4b_gso_result *result)
{
    plan->paths[plan->runs[plan->at].path].refused = plan->refusing;
    result->refused = plan->refusing;
    plan->unable = plan->unable || is_of_socket(fd, plan->refusing);
    plan->refusing = 0;
}

/* Sends the rest of the current run, message by message. */
static void
send_alone(int fd, ipv4b_slot *slots, int flags, ipv4b_gso_plan *plan, ipv4b_gso_result *result)
{
    const ipv4b_slot *from = plan->request == NULL ? slots : plan->request->slots;
    const uint32_t *order = plan->order + plan->done;
    size_t left = plan->runs[plan->at].length - plan->part, taken;
    ipv4b_slot alone[IPV4B_GSO_SEGMENTS];

    for (size_t i = 0; i < left; i++) {
        alone[i] = from[order[i]];
    }
    taken = ipv4b_mmsg_send(fd, alone, left, flags, &result->error);
    for (size_t i = 0; i < taken; i++) {
        slots[order[i]].msg_len = alone[i].msg_len;
    }
    if (plan->refusing != 0 && taken > 0) {
        note_refusal(fd, plan, result);
    }
    else if (plan->refusing != 0 && result->error == plan->refusing) {
        plan->refusing = 0; /* the message's own */
    }
    plan_advance(plan, taken);
}

/* Notes that the kernel has taken the whole current run. */
static void
settle_run(ipv4b_slot *slots, ipv4b_gso_plan *plan)
{
    ipv4b_tx_request *request = plan->request;
    const uint32_t *order = plan->order + plan->done;
    size_t length = plan->runs[plan->at].length;

    if (length == 1) {
        slots[order[0]].msg_len = plan->slots[plan->at].msg_len;
    }
    for (size_t i = 0; length > 1 && i < length; i++) {
        ipv4b_slot *slot = &slots[order[i]];

        slot->msg_len = (unsigned int)ipv4b_message_bytes(&slot->msg_hdr);
        if (request != NULL) {
            request->ids[order[i]] = request->ids[order[0]];
        }
    }
    plan_advance(plan, length);
}

/* Whether the messages of the current run go one by one. */
static bool
goes_alone(const ipv4b_gso_plan *plan)
{
    const ipv4b_run *run = &plan->runs[plan->at];

    return plan->broken ||
           (run->length > 1 && (plan->unable || plan->paths[run->path].refused != 0));
}

size_t
ipv4b_gso_send(int fd, ipv4b_slot *slots, int flags, ipv4b_gso_plan *plan, ipv4b_gso_result *result)
{
    size_t start = plan->done;
    int suspect = 0; /* the error with which the current run may have been refused, or 0 */

    *result = (ipv4b_gso_result){0};
    while (plan->at < plan->count) {
        size_t run = plan->at, taken;
        bool again;

        if (goes_alone(plan)) {
            send_alone(fd, slots, flags, plan, result);
            if (plan->at == run) {
                break;
            }
            continue;
        }
        taken = ipv4b_mmsg_send(fd, plan->slots + run, plan->count - run, flags, &result->error);
        again = suspect != 0 && taken == 0 && result->error == suspect;
        if (suspect != 0 && !again) {
            result->pending = suspect;
        }
        suspect = 0;
        for (; taken > 0; taken--) {
            settle_run(slots, plan);
        }
        if (plan->at == plan->count || plan->runs[plan->at].length == 1) {
            break;
        }
        if (result->error == 0) {
            continue; /* the kernel forgot the reason; the next call reports it */
        }
        if (!is_refusal(result->error)) {
            break;
        }
        if (can_be_report(result->error) && !again) {
            suspect = result->error;
            continue; /* a second call succeeds if that was the report of an earlier datagram */
        }
        plan->refusing = result->error;
        plan->broken = true;
    }
    if (plan->at == plan->count) {
        result->error = 0;
    }
    return plan->done - start;
}
