/* mmsg.c - see mmsg.h. */
#include "mmsg.h"

int
ipv4b_scratch_reserve(ipv4b_scratch *s, size_t n)
{
    if (n <= s->capacity) {
        return 0;
    }
    ipv4b_scratch_free(s);
    if (n > SIZE_MAX / sizeof *s->slots) {
        return -ENOMEM;
    }
    s->slots = calloc(n, sizeof *s->slots);
    s->names = calloc(n, sizeof *s->names);
    s->owners = malloc(n * sizeof *s->owners);
    if (s->slots == NULL || s->names == NULL || s->owners == NULL) {
        ipv4b_scratch_free(s);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        s->slots[i].msg_hdr.msg_name = &s->names[i];
    }
    s->capacity = n;
    return 0;
}

void
ipv4b_scratch_free(ipv4b_scratch *s)
{
    free(s->slots);
    free(s->names);
    free(s->owners);
    s->slots = NULL;
    s->names = NULL;
    s->owners = NULL;
    s->capacity = 0;
}

#if IPV4B_HAVE_MMSG

int
ipv4b_mmsg_recv(int fd, ipv4b_slot *slots, size_t n, int flags, int *pending)
{
    unsigned int count = n > INT_MAX ? INT_MAX : (unsigned int)n;
    int r;

    *pending = 0;
    /* The timeout argument is not used: it is looked at only after a datagram (recvmmsg(2),
     * BUGS). */
    r = recvmmsg(fd, slots, count, flags | MSG_DONTWAIT, NULL);
    return r < 0 ? -errno : r;
}

/* One system call; at most IPV4B_SEND_MAX are taken (sendmmsg(2)). Returns > 0 or -errno. */
static int
send_some(int fd, ipv4b_slot *slots, size_t n, int flags)
{
    unsigned int count = n > IPV4B_SEND_MAX ? IPV4B_SEND_MAX : (unsigned int)n;
    int r;

    if (count == 1) { /* it costs less than a batch of one */
        ssize_t sent = sendmsg(fd, &slots[0].msg_hdr, flags | MSG_DONTWAIT);

        if (sent < 0) {
            return -errno;
        }
        slots[0].msg_len = (unsigned int)sent;
        return 1;
    }
    r = sendmmsg(fd, slots, count, flags | MSG_DONTWAIT);
    return r < 0 ? -errno : r;
}

#else

int
ipv4b_mmsg_recv(int fd, ipv4b_slot *slots, size_t n, int flags, int *pending)
{
    int done = 0;

    *pending = 0;
    while ((size_t)done < n && done < INT_MAX) {
        ssize_t r = recvmsg(fd, &slots[done].msg_hdr, flags | MSG_DONTWAIT);

        if (r < 0) {
            int err = errno;

            if (done == 0) {
                return -err;
            }
            if (err != EAGAIN && err != EWOULDBLOCK && err != EINTR) {
                *pending = err;
            }
            break;
        }
        slots[done].msg_len = (unsigned int)r;
        done++;
    }
    return done;
}

static int
send_some(int fd, ipv4b_slot *slots, size_t n, int flags)
{
    struct msghdr header = slots[0].msg_hdr;
    ssize_t r;

    (void)n;
    /* Some systems do not accept a name of length 0 as no name. */
    if (header.msg_namelen == 0) {
        header.msg_name = NULL;
    }
    r = sendmsg(fd, &header, flags | MSG_DONTWAIT);
    if (r < 0) {
        return -errno;
    }
    slots[0].msg_len = (unsigned int)r;
    return 1;
}

#endif

size_t
ipv4b_mmsg_send(int fd, ipv4b_slot *slots, size_t n, int flags, int *error)
{
    size_t done = 0;

    *error = 0;
    while (done < n) {
        size_t asked = n - done > IPV4B_SEND_MAX && IPV4B_HAVE_MMSG ? IPV4B_SEND_MAX : n - done;
        int r = send_some(fd, slots + done, asked, flags);

        if (r < 0) {
            *error = -r;
            break;
        }
        done += (size_t)r;
        /* Fewer than asked for means that the next one failed. The caller decides whether to try
         * it again. */
        if (IPV4B_HAVE_MMSG && (size_t)r < asked) {
            break;
        }
    }
    return done;
}
