/* send.c - see send.h. */
#include "send.h"

#include "mmsg.h"

/* Whether an errno can be the report of an ICMP message (icmp_err_convert, net/ipv4/icmp.c).
 * EMSGSIZE is not among them: after the pending error has been cleared it is the message's own, and
 * each try queues it again. */
static bool
is_network_error(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPROTO:
        return true;
    default:
        return false;
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

static size_t
send_once(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s)
{
    int refused = 0;
    size_t done;

    /* MSG_MORE glues messages together, which is another thing than a run. */
    if (!s->gso || n < 2 || (flags & MSG_MORE) || ipv4b_gso_plan_make(&s->plan, slots, n) < 0) {
        return ipv4b_mmsg_send(fd, slots, n, flags, &s->error);
    }
    done = ipv4b_gso_send(fd, slots, n, flags, &s->plan, &s->error, &refused);
    if (refused != 0) {
        s->refused = refused;
        s->gso = false;
    }
    return done;
}

size_t
ipv4b_send(int fd, ipv4b_slot *slots, size_t n, int flags, ipv4b_sender *s)
{
    size_t done = 0;
    bool tried_again = false;

    s->error = s->refused = 0;
    while (done < n) {
        size_t taken;

        if (s->recv_errors) {
            clear_pending(fd);
        }
        taken = send_once(fd, slots + done, n - done, flags, s);
        done += taken;
        if (!s->recv_errors || done == n) {
            break;
        }
        tried_again = tried_again && taken == 0;
        if (s->error != 0) {
            if (tried_again || !is_network_error(s->error)) {
                break;
            }
            tried_again = true;
        }
        /* With no error the kernel forgot why it stopped: asked again, it goes on or tells. */
    }
    return done;
}
