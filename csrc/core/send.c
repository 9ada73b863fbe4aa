/* send.c - see send.h. */
#include "send.h"

#include "mmsg.h"
#include "wait.h"

/* How often a message is tried again after an error of the network. Each further try needs
 * another ICMP message. */
enum { TRIES_OF_REPORT = 1000, TRIES_OF_EITHER = 1 };

static int
number_option(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, IPPROTO_IP, option, &value, &len) < 0 ? -1 : value;
}

/* Whether the kernel fragments datagrams that are longer than the path's MTU, so that it accepts
 * any length of a datagram (ip_sk_ignore_df, include/net/ip.h). */
static bool
is_fragmented(int fd)
{
    int mode = number_option(fd, IPV4B_IP_MTU_DISCOVER);

    return (mode == IPV4B_PMTUDISC_DONT || mode == IPV4B_PMTUDISC_WANT) &&
           number_option(fd, IP_HDRINCL) <= 0;
}

/* How many more tries make sense after an errno that can be the report of an ICMP message
 * (icmp_err_convert, net/ipv4/icmp.c). */
static int
tries_after(int fd, int error)
{
    switch (error) {
    case ECONNREFUSED: /* no send fails with these by itself */
    case EHOSTDOWN:
    case ENOPROTOOPT:
    case EPROTO:
    case IPV4B_ENONET:
        return TRIES_OF_REPORT;
    case EHOSTUNREACH: /* a router reported it, or the message is too long */
    case ENETUNREACH:
    case EOPNOTSUPP:
        return TRIES_OF_EITHER;
    case EMSGSIZE: /* each try of a message that is too long would add an entry to the queue */
        return is_fragmented(fd) ? TRIES_OF_EITHER : 0;
    default:
        return 0;
    }
}

/* Takes the pending error off the socket; the queue stays as it is (sock_error,
 * net/core/sock.c). */
static void
clear_pending(int fd)
{
    int error;
    socklen_t len = sizeof error;

    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
}

void
ipv4b_send_plan(ipv4b_sender *s, const ipv4b_slot *slots, size_t n, int flags,
                const ipv4b_refusals *refusals)
{
    s->done = 0;
    /* MSG_MORE joins messages into one datagram, which a run does not. */
    s->planned = false;
    if (!s->gso || n < 2 || (flags & MSG_MORE)) {
        return;
    }
    if (s->plan == NULL) {
        s->plan = ipv4b_gso_plan_new();
    }
    if (s->plan != NULL) {
        s->plan->request = s->request;
    }
    s->planned = s->plan != NULL && ipv4b_gso_plan_make(s->plan, slots, n, s->reorder, refusals,
                                                        refusals == NULL ? 0 : ipv4b_now()) == 0;
}

void
ipv4b_send_skip(ipv4b_sender *s)
{
    s->done++;
    if (s->planned) {
        ipv4b_gso_skip(s->plan);
    }
}

/* Sends the messages that have a request each, without a plan. */
static size_t
send_requests(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s)
{
    ipv4b_slot *asking = s->request->slots;
    size_t taken = ipv4b_mmsg_send(fd, asking + s->done, n - s->done, flags, &s->error);

    for (size_t i = s->done; i < s->done + taken; i++) {
        slots[i].msg_len = asking[i].msg_len;
    }
    return taken;
}

static size_t
send_once(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s)
{
    ipv4b_gso_result result;
    size_t taken;

    if (!s->planned) {
        taken = s->request != NULL
                    ? send_requests(fd, slots, n, flags, s)
                    : ipv4b_mmsg_send(fd, slots + s->done, n - s->done, flags, &s->error);
        s->done += taken;
        return taken;
    }
    taken = ipv4b_gso_send(fd, slots, flags, s->plan, &result);
    s->done = s->plan->done;
    s->error = result.error;
    if (result.refused != 0) {
        s->refused = result.refused;
    }
    if (result.pending != 0 && !s->recv_errors) {
        s->pending = result.pending; /* otherwise it is in the error queue */
    }
    return taken;
}

/* The same, but tries again after errors of the network, which are in the error queue. */
static __attribute__((noinline)) size_t
send_past_reports(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s)
{
    size_t start = s->done;
    int tries = 0;

    while (s->done < n) {
        size_t taken;

        clear_pending(fd);
        taken = send_once(fd, slots, n, flags, s);
        /* It stopped after a message. The reason may be a report of an ICMP message, or the
         * kernel forgot it. The next call goes on or reports the error. */
        if (taken > 0) {
            tries = 0;
        }
        else if (s->error != 0 && ++tries > tries_after(fd, s->error)) {
            break;
        }
    }
    return s->done - start;
}

size_t
ipv4b_send(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s)
{
    s->error = s->refused = s->pending = 0;
    if (s->recv_errors) {
        return send_past_reports(fd, slots, n, flags, s);
    }
    return s->done < n ? send_once(fd, slots, n, flags, s) : 0;
}
