/* gro.c - see gro.h. */
#include "gro.h"

#include <stdatomic.h>

#include "ancillary.h"
#include "cmsg.h"
#include "iovec.h"
#include "kept.h"
#include "mmsg.h"

/* Page-aligned: the kernel's copy to an odd address takes several times as long on some
 * processors. */
enum { BUFFERS = 64, BUFFER_SIZE = 65536, ALIGNMENT = 4096 };

/* Room for a buffer's control data. It includes items that other code has asked the kernel for,
 * so that those do not displace ours. */
enum { CONTROL_SIZE = 2 * IPV4B_ANCILLARY_MAX };

/* A filled buffer, with what holds for all of its datagrams. */
typedef struct {
    const unsigned char *bytes;
    size_t total;
    size_t segment_size; /* 0 for a datagram that came alone */
    const void *control;
    size_t control_len; /* 0 if there is only the segment size */
    int flags;          /* never MSG_TRUNC: a buffer holds the longest datagram */
    socklen_t name_len;
    struct sockaddr_in name;
} source;

struct ipv4b_gro {
    pthread_mutex_t lock;
    ipv4b_slot slots[BUFFERS];
    struct iovec iov[BUFFERS];
    struct sockaddr_in names[BUFFERS];
    unsigned char control[BUFFERS][CONTROL_SIZE];
    unsigned char *memory; /* BUFFERS of BUFFER_SIZE */
    size_t prepared;       /* buffers whose slot is set up for a receive */
    size_t count;          /* buffers that were filled by the last receive */
    size_t current;        /* the first that is not used up */
    size_t offset;         /* bytes of it that are used up */
    source source;         /* what is in it */
    size_t left;           /* datagrams in all buffers that are not used up */
    atomic_bool keeps;     /* UDP_GRO is on and must stay on */
    atomic_size_t pending; /* a copy of `left` after each call, read without the lock */
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

size_t
ipv4b_gro_segments(size_t left, size_t segment_size)
{
    return segment_size == 0 || left == 0 ? 1 : (left + segment_size - 1) / segment_size;
}

/* Parses only that item. One behind it may be truncated for lack of room. */
size_t
ipv4b_gro_segment_size(const ipv4b_slot *slot)
{
    ipv4b_cmsg_iter it = {.buf = slot->msg_hdr.msg_control,
                          .len = (size_t)slot->msg_hdr.msg_controllen};
    ipv4b_cmsg_item item;
    int size = 0;

    while (ipv4b_cmsg_next(&it, &item) > 0) {
        if (item.level == IPPROTO_UDP && item.type == IPV4B_UDP_GRO && item.len == sizeof size) {
            memcpy(&size, item.data, sizeof size);
        }
    }
    return size > 0 ? (size_t)size : 0;
}

static void
select_buffer(ipv4b_gro *q, size_t index)
{
    q->current = index;
    q->offset = 0;
    if (index < q->count) {
        const struct msghdr *h = &q->slots[index].msg_hdr;
        size_t size = ipv4b_gro_segment_size(&q->slots[index]);
        size_t control_len = (size_t)h->msg_controllen;

        q->source = (source){
            .bytes = q->memory + index * BUFFER_SIZE,
            .total = q->slots[index].msg_len,
            .segment_size = size,
            .control = h->msg_control,
            .control_len = size != 0 && control_len <= CMSG_SPACE(sizeof(int)) ? 0 : control_len,
            .flags = h->msg_flags & ~MSG_TRUNC,
            .name_len = h->msg_namelen,
            .name = q->names[index],
        };
    }
}

static void
prepare(ipv4b_gro *q, size_t i)
{
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

/* Receives into at most `want` buffers; the queue must be empty. Returns how many were filled, or
 * -errno. */
static int
refill(ipv4b_gro *q, int fd, size_t want, int flags, int *pending)
{
    size_t n = want < BUFFERS ? want : BUFFERS;
    int r;

    /* Only the slots that the last receive used have changed. */
    for (size_t i = 0; i < q->count; i++) {
        prepare(q, i);
    }
    for (; q->prepared < n; q->prepared++) {
        prepare(q, q->prepared);
    }
    /* Without the option the kernel does not report the segment size of datagrams that it has
     * coalesced already (udp_cmsg_recv, include/linux/udp.h). They would look like one datagram. */
    if (atomic_load_explicit(&q->keeps, memory_order_relaxed)) {
        ipv4b_keep_option(fd, IPPROTO_UDP, IPV4B_UDP_GRO);
    }
    r = ipv4b_mmsg_recv(fd, q->slots, n, flags & ~(MSG_PEEK | MSG_TRUNC), pending);
    q->count = r < 0 ? 0 : (size_t)r;
    q->left = 0;
    for (size_t i = 0; i < q->count; i++) {
        q->left += ipv4b_gro_segments(q->slots[i].msg_len, ipv4b_gro_segment_size(&q->slots[i]));
    }
    select_buffer(q, 0);
    return r;
}

/* Gives the `len` bytes at `offset` of a buffer to a slot, as a datagram of its own. */
static __attribute__((noinline)) void
deliver(const source *from, size_t offset, size_t len, ipv4b_slot *to, int flags)
{
    struct msghdr *h = &to->msg_hdr;
    size_t fitted = ipv4b_scatter(h, from->bytes + offset, len);
    int result = from->flags | (fitted < len ? MSG_TRUNC : 0);
    size_t control_len = 0;

    if (from->control_len != 0) {
        bool cut;

        control_len = ipv4b_cmsg_deliver(h->msg_control, (size_t)h->msg_controllen, from->control,
                                         from->control_len, IPPROTO_UDP, IPV4B_UDP_GRO, &cut);
        result |= cut ? MSG_CTRUNC : 0;
    }
    to->msg_len = (unsigned int)(flags & MSG_TRUNC ? len : fitted);
    h->msg_controllen = control_len;
    h->msg_flags = result;
    if (h->msg_name != NULL && h->msg_namelen >= sizeof from->name) {
        memcpy(h->msg_name, &from->name, sizeof from->name);
    }
    h->msg_namelen = from->name_len;
}

/* The usual case: datagrams without control data, for slots with one buffer that is large
 * enough. Ends when the buffer or the n slots are used up, or at a slot of another kind. Returns
 * how many datagrams it copied and moves *offset. The copy is the last step of the loop body, so
 * that the loop's variables stay in registers. */
static __attribute__((noinline)) size_t
deliver_whole(const source *from, size_t *offset, ipv4b_slot *slots, size_t n)
{
    const unsigned char *at = from->bytes + *offset;
    size_t left = from->total - *offset;
    size_t len = from->segment_size == 0 ? left : from->segment_size;
    ipv4b_slot *slot = slots;

    for (const ipv4b_slot *end = slots + n; slot < end && left > 0; slot++) {
        struct msghdr *h = &slot->msg_hdr;
        const struct iovec *iov = h->msg_iov;

        len = len < left ? len : left;
        if (h->msg_iovlen != 1 || iov->iov_len < len || h->msg_namelen != sizeof from->name) {
            break;
        }
        memcpy(h->msg_name, &from->name, sizeof from->name);
        h->msg_namelen = from->name_len;
        h->msg_controllen = 0;
        h->msg_flags = from->flags;
        slot->msg_len = (unsigned int)len;
        memcpy(iov->iov_base, at, len);
        at += len;
        left -= len;
    }
    *offset = from->total - left;
    return (size_t)(slot - slots);
}

/* Gives datagrams of the current buffer to at most n slots. Returns how many. */
static size_t
hand_out(ipv4b_gro *q, ipv4b_slot *slots, size_t n, int flags)
{
    const source from = q->source; /* a copy: no write through a slot can change it */
    size_t offset = q->offset;
    size_t done = from.control_len == 0 ? deliver_whole(&from, &offset, slots, n) : 0;

    /* An empty datagram counts too. */
    while (done < n && (done == 0 || offset < from.total)) {
        size_t len = ipv4b_gro_segment(from.total, offset, from.segment_size);

        deliver(&from, offset, len, &slots[done++], flags);
        offset += len;
    }
    q->offset = offset;
    q->left -= done;
    if (offset >= from.total) {
        select_buffer(q, q->current + 1);
    }
    return done;
}

static int
peek(ipv4b_gro *q, int fd, ipv4b_slot *slots, size_t n, int flags, bool receive, int *pending)
{
    if (q->current == q->count) {
        int r = receive ? refill(q, fd, 1, flags, pending) : -EAGAIN;

        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < n; i++) {
        deliver(&q->source, q->offset,
                ipv4b_gro_segment(q->source.total, q->offset, q->source.segment_size), &slots[i],
                flags);
    }
    return (int)n;
}

static int
take(ipv4b_gro *q, int fd, ipv4b_slot *slots, size_t n, int flags, bool receive, int *pending)
{
    size_t done = 0;

    for (;;) {
        size_t want;
        int r;

        while (done < n && q->current < q->count) {
            done += hand_out(q, slots + done, n - done, flags);
        }
        if (done == n || !receive) {
            break;
        }
        want = n - done < BUFFERS ? n - done : BUFFERS;
        r = refill(q, fd, want, flags, pending);
        if (r < 0) {
            if (done == 0) {
                return r;
            }
            *pending = r == -EAGAIN || r == -EWOULDBLOCK || r == -EINTR ? 0 : -r;
            break;
        }
        /* Fewer than asked for means that the socket is empty, so another call would be in vain. */
        receive = (size_t)r == want && *pending == 0;
    }
    return done == 0 ? -EAGAIN : (int)done;
}

int
ipv4b_gro_recv(ipv4b_gro *q, int fd, ipv4b_slot *slots, size_t n, int flags, bool receive,
               int *pending)
{
    int r;

    *pending = 0;
    n = n > INT_MAX ? INT_MAX : n;
    (void)pthread_mutex_lock(&q->lock);
    r = flags & MSG_PEEK ? peek(q, fd, slots, n, flags, receive, pending)
                         : take(q, fd, slots, n, flags, receive, pending);
    atomic_store_explicit(&q->pending, q->left, memory_order_relaxed);
    (void)pthread_mutex_unlock(&q->lock);
    return r;
}

void
ipv4b_gro_keep_option(ipv4b_gro *q)
{
    atomic_store_explicit(&q->keeps, true, memory_order_relaxed);
}

size_t
ipv4b_gro_pending(const ipv4b_gro *q)
{
    return atomic_load_explicit(&q->pending, memory_order_relaxed);
}

void
ipv4b_gro_after_fork(ipv4b_gro *q)
{
    /* Another thread of the parent may have held the lock during a receive. The parent reads the
     * datagrams that are queued here. */
    (void)pthread_mutex_init(&q->lock, NULL);
    q->count = q->current = 0;
    q->prepared = 0;
    q->left = 0;
    atomic_store_explicit(&q->pending, 0, memory_order_relaxed);
}
