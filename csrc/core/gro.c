/* gro.c - see gro.h. */
#include "gro.h"

#include "ancillary.h"
#include "cmsg.h"
#include "mmsg.h"

/* Page-aligned: the kernel's copy to an odd address takes several times as long on some
 * processors. */
enum { BUFFERS = 64, BUFFER_SIZE = 65536, ALIGNMENT = 4096 };

struct ipv4b_gro {
    pthread_mutex_t lock;
    ipv4b_slot slots[BUFFERS];
    struct iovec iov[BUFFERS];
    struct sockaddr_in names[BUFFERS];
    unsigned char control[BUFFERS][IPV4B_ANCILLARY_MAX];
    unsigned char *memory; /* BUFFERS of BUFFER_SIZE */
    size_t count;          /* buffers that were filled by the last receive */
    size_t current;        /* the first that is not used up */
    size_t offset;         /* bytes of it that are used up */
    size_t segment_size;   /* of the current one */
};

ipv4b_gro *
ipv4b_gro_new(void)
{
    ipv4b_gro *q = calloc(1, sizeof *q);

    if (q == NULL) {
        return NULL;
    }
    q->memory = aligned_alloc(ALIGNMENT, (size_t)BUFFERS * BUFFER_SIZE);
    if (q->memory == NULL || pthread_mutex_init(&q->lock, NULL) != 0) {
        free(q->memory);
        free(q);
        return NULL;
    }
    return q;
}

void
ipv4b_gro_free(ipv4b_gro *q)
{
    if (q != NULL) {
        (void)pthread_mutex_destroy(&q->lock);
        free(q->memory);
        free(q);
    }
}

size_t
ipv4b_gro_segment(size_t total, size_t offset, size_t segment_size)
{
    size_t left = total - offset;

    return segment_size == 0 || left < segment_size ? left : segment_size;
}

/* The segment size that came with a buffer; 0 for a datagram that came alone. */
static size_t
segment_size_of(const ipv4b_slot *slot)
{
    ipv4b_ancillary a = {.present = 0};

    if (ipv4b_ancillary_parse(&a, slot->msg_hdr.msg_control, (size_t)slot->msg_hdr.msg_controllen,
                              NULL) < 0 ||
        !(a.present & IPV4B_CM_SEGMENT) || a.segment_size <= 0) {
        return 0;
    }
    return (size_t)a.segment_size;
}

static void
select_buffer(ipv4b_gro *q, size_t index)
{
    q->current = index;
    q->offset = 0;
    q->segment_size = index < q->count ? segment_size_of(&q->slots[index]) : 0;
}

/* Receives into at most `want` buffers; the queue must be empty. Returns how many were filled, or
 * -errno. */
static int
refill(ipv4b_gro *q, int fd, size_t want, int flags, int *late)
{
    size_t n = want < BUFFERS ? want : BUFFERS;
    int r;

    for (size_t i = 0; i < n; i++) {
        struct msghdr *h = &q->slots[i].msg_hdr;

        q->iov[i].iov_base = q->memory + i * BUFFER_SIZE;
        q->iov[i].iov_len = BUFFER_SIZE;
        h->msg_name = &q->names[i];
        h->msg_namelen = sizeof q->names[i];
        h->msg_iov = &q->iov[i];
        h->msg_iovlen = 1;
        h->msg_control = q->control[i];
        h->msg_controllen = sizeof q->control[i];
        h->msg_flags = 0;
    }
    r = ipv4b_mmsg_recv(fd, q->slots, n, flags & ~(MSG_PEEK | MSG_TRUNC), late);
    q->count = r < 0 ? 0 : (size_t)r;
    select_buffer(q, 0);
    return r;
}

/* Scatters bytes over a slot's buffers; returns how many fitted. */
static size_t
scatter(const struct msghdr *h, const unsigned char *from, size_t len)
{
    size_t done = 0;

    for (size_t i = 0; i < (size_t)h->msg_iovlen && done < len; i++) {
        size_t part = h->msg_iov[i].iov_len < len - done ? h->msg_iov[i].iov_len : len - done;

        if (part != 0) {
            memcpy(h->msg_iov[i].iov_base, from + done, part);
        }
        done += part;
    }
    return done;
}

/* Gives the queue's first datagram to a slot; it stays where it is. Returns its length. */
static size_t
deliver(const ipv4b_gro *q, ipv4b_slot *to, int flags)
{
    const ipv4b_slot *from = &q->slots[q->current];
    struct msghdr *h = &to->msg_hdr;
    size_t len = ipv4b_gro_segment(from->msg_len, q->offset, q->segment_size);
    size_t fitted = scatter(h, q->memory + q->current * BUFFER_SIZE + q->offset, len);
    bool control_cut;

    to->msg_len = (unsigned int)(flags & MSG_TRUNC ? len : fitted);
    h->msg_controllen = ipv4b_cmsg_deliver(
        h->msg_control, (size_t)h->msg_controllen, from->msg_hdr.msg_control,
        (size_t)from->msg_hdr.msg_controllen, IPPROTO_UDP, IPV4B_UDP_GRO, &control_cut);
    h->msg_flags = (from->msg_hdr.msg_flags & ~(MSG_TRUNC | MSG_CTRUNC)) |
                   (fitted < len ? MSG_TRUNC : 0) |
                   (control_cut || (from->msg_hdr.msg_flags & MSG_CTRUNC) ? MSG_CTRUNC : 0);
    if (h->msg_name != NULL && h->msg_namelen >= from->msg_hdr.msg_namelen) {
        memcpy(h->msg_name, from->msg_hdr.msg_name, from->msg_hdr.msg_namelen);
    }
    h->msg_namelen = from->msg_hdr.msg_namelen;
    return len;
}

/* Takes the first datagram, of `len` bytes, off the queue. */
static void
advance(ipv4b_gro *q, size_t len)
{
    q->offset += len;
    if (q->offset >= q->slots[q->current].msg_len) {
        select_buffer(q, q->current + 1);
    }
}

static int
peek(ipv4b_gro *q, int fd, ipv4b_slot *slots, size_t n, int flags, bool receive, int *late)
{
    if (q->current == q->count) {
        int r = receive ? refill(q, fd, 1, flags, late) : -EAGAIN;

        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < n; i++) {
        (void)deliver(q, &slots[i], flags);
    }
    return (int)n;
}

static int
take(ipv4b_gro *q, int fd, ipv4b_slot *slots, size_t n, int flags, bool receive, int *late)
{
    size_t done = 0;

    for (;;) {
        size_t want;
        int r;

        while (done < n && q->current < q->count) {
            advance(q, deliver(q, &slots[done], flags));
            done++;
        }
        if (done == n || !receive) {
            break;
        }
        want = n - done < BUFFERS ? n - done : BUFFERS;
        r = refill(q, fd, want, flags, late);
        if (r < 0) {
            if (done == 0) {
                return r;
            }
            *late = r == -EAGAIN || r == -EWOULDBLOCK || r == -EINTR ? 0 : -r;
            break;
        }
        /* Fewer than asked for means that the socket is empty: it is not asked again for
         * nothing. */
        receive = (size_t)r == want && *late == 0;
    }
    return done == 0 ? -EAGAIN : (int)done;
}

int
ipv4b_gro_recv(ipv4b_gro *q, int fd, ipv4b_slot *slots, size_t n, int flags, bool receive,
               int *late)
{
    int r;

    *late = 0;
    n = n > INT_MAX ? INT_MAX : n;
    (void)pthread_mutex_lock(&q->lock);
    r = flags & MSG_PEEK ? peek(q, fd, slots, n, flags, receive, late)
                         : take(q, fd, slots, n, flags, receive, late);
    (void)pthread_mutex_unlock(&q->lock);
    return r;
}

size_t
ipv4b_gro_pending(ipv4b_gro *q)
{
    size_t pending = 0;

    (void)pthread_mutex_lock(&q->lock);
    for (size_t i = q->current; i < q->count; i++) {
        size_t total = q->slots[i].msg_len - (i == q->current ? q->offset : 0);
        size_t size = i == q->current ? q->segment_size : segment_size_of(&q->slots[i]);

        pending += size == 0 || total == 0 ? 1 : (total + size - 1) / size;
    }
    (void)pthread_mutex_unlock(&q->lock);
    return pending;
}
