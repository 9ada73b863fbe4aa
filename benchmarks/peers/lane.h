/* lane.h - the bare C loop over recvmmsg and sendmmsg, and the same with UDP_SEGMENT and UDP_GRO, which
 * gathers from and scatters to one buffer a datagram as ipv4batch does.
 *
 * A lane has all that one thread needs, prepared once: a call sets again what the kernel has changed, and
 * looks at the results of each message, which is the least that a program can do. Nothing is shared.
 */
#ifndef LANE_H
#define LANE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    UDP_SEGMENT_OPTION = 103,
    UDP_GRO_OPTION = 104,
    MOST = 1024,         /* messages of a burst */
    STRIDE = 2048,       /* bytes between buffers */
    COALESCED = 65536,   /* bytes that one receive can bring */
    QUEUE = 64,          /* buffers of that size */
    LARGEST_RUN = 65507, /* bytes that one send can take */
    LONGEST_RUN = 64,    /* and datagrams */
    CONTROL = 256,
    RECEIVE_BUFFER = 16 << 20,
    PAGE = 4096,
};

struct lane {
    struct mmsghdr out[MOST], in[MOST], runs[MOST], coalesced[QUEUE];
    struct iovec out_iov[MOST], in_iov[MOST], run_iov[MOST], coalesced_iov[QUEUE];
    struct sockaddr_in names[MOST], coalesced_names[QUEUE];
    char out_control[MOST][CONTROL], in_control[MOST][CONTROL], run_control[MOST][CONTROL];
    char coalesced_control[QUEUE][CONTROL];
    char *out_slab, *in_slab, *coalesced_slab;
    int stale;       /* coalesced that the last receive has used */
    int size;        /* bytes of a datagram */
    int control;     /* whether control data is sent and received */
    long long bytes; /* what the messages' results add up to */
};

static inline void
check(int failed, const char *what)
{
    if (failed) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static inline long long
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline char *
slab(size_t count, size_t stride)
{
    char *made = aligned_alloc(PAGE, count * stride);

    check(made == NULL, "memory");
    return memset(made, 1, count * stride);
}

static inline size_t
put(char *control, size_t at, int level, int type, const void *data, size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)(control + at);

    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    return at + CMSG_SPACE(len);
}

/* The control data that every message is sent with: TTL, TOS, PKTINFO. */
static inline size_t
path(char *control)
{
    int ttl = 9, tos = 2;
    struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK)};
    size_t len = put(control, 0, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);

    len = put(control, len, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    return put(control, len, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
}

static inline void
switch_on(int fd, int level, int option, const char *what)
{
    int on = 1;

    check(setsockopt(fd, level, option, &on, sizeof on) != 0, what);
}

/* A socket with a large receive buffer on any port of loopback, which `name` tells; or, if it is to be
 * shared, on the port that `name` has, where others are. */
static inline int
bound(struct sockaddr_in *name, int shared)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), size = RECEIVE_BUFFER;
    socklen_t len = sizeof *name;

    check(fd < 0, "socket");
    *name = (struct sockaddr_in){.sin_family = AF_INET,
                                 .sin_port = shared ? name->sin_port : 0,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0) {
        check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) != 0, "SO_RCVBUF");
    }
    if (shared) {
        switch_on(fd, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT");
    }
    check(bind(fd, (struct sockaddr *)name, sizeof *name) != 0, "bind");
    check(getsockname(fd, (struct sockaddr *)name, &len) != 0, "getsockname");
    return fd;
}

static inline void
want_control(int fd)
{
    switch_on(fd, IPPROTO_IP, IP_RECVTTL, "IP_RECVTTL");
    switch_on(fd, IPPROTO_IP, IP_RECVTOS, "IP_RECVTOS");
    switch_on(fd, IPPROTO_IP, IP_PKTINFO, "IP_PKTINFO");
    switch_on(fd, SOL_SOCKET, SO_TIMESTAMPNS, "SO_TIMESTAMPNS");
}

static inline struct lane *
lane_new(void)
{
    struct lane *lane = calloc(1, sizeof *lane);

    check(lane == NULL, "memory");
    lane->out_slab = slab(MOST, STRIDE);
    lane->in_slab = slab(MOST, STRIDE);
    lane->coalesced_slab = slab(QUEUE, COALESCED);
    return lane;
}

static inline void
lane_free(struct lane *lane)
{
    free(lane->out_slab);
    free(lane->in_slab);
    free(lane->coalesced_slab);
    free(lane);
}

/* Points every slot to its buffers. */
static inline void
lane_prepare(struct lane *lane, int size, int control, struct sockaddr_in *to)
{
    lane->size = size;
    lane->control = control;
    lane->stale = QUEUE;
    memset(lane->out, 0, sizeof lane->out);
    memset(lane->in, 0, sizeof lane->in);
    memset(lane->runs, 0, sizeof lane->runs);
    for (int i = 0; i < MOST; i++) {
        struct msghdr *o = &lane->out[i].msg_hdr, *h = &lane->in[i].msg_hdr;

        lane->out_iov[i] = (struct iovec){lane->out_slab + (size_t)i * STRIDE, (size_t)size};
        lane->in_iov[i] = (struct iovec){lane->in_slab + (size_t)i * STRIDE, STRIDE};
        o->msg_iov = &lane->out_iov[i];
        h->msg_iov = &lane->in_iov[i];
        o->msg_iovlen = h->msg_iovlen = 1;
        o->msg_name = to;
        o->msg_namelen = sizeof *to;
        h->msg_name = &lane->names[i];
        if (control) {
            o->msg_control = lane->out_control[i];
            o->msg_controllen = path(lane->out_control[i]);
            h->msg_control = lane->in_control[i];
        }
    }
    for (int i = 0; i < QUEUE; i++) {
        lane->coalesced_iov[i] =
            (struct iovec){lane->coalesced_slab + (size_t)i * COALESCED, COALESCED};
        lane->coalesced[i].msg_hdr = (struct msghdr){.msg_name = &lane->coalesced_names[i],
                                                     .msg_iov = &lane->coalesced_iov[i],
                                                     .msg_iovlen = 1,
                                                     .msg_control = lane->coalesced_control[i]};
    }
}

static inline void
send_plain(struct lane *lane, int fd, int first, int count)
{
    struct mmsghdr *out = lane->out + first;
    long long bytes = 0;

    check(sendmmsg(fd, out, (unsigned)count, 0) != count, "sendmmsg");
    for (int i = 0; i < count; i++) {
        bytes += out[i].msg_len;
    }
    lane->bytes += bytes;
}

/* Returns how many came, or -1 as recvmmsg does. */
static inline int
receive_plain(struct lane *lane, int fd, int first, int count, int flags)
{
    struct mmsghdr *in = lane->in + first;
    size_t control = lane->control ? CONTROL : 0;
    int seen = 0, got;
    long long bytes = 0;

    for (int i = 0; i < count; i++) {
        in[i].msg_hdr.msg_namelen = sizeof lane->names[0];
        in[i].msg_hdr.msg_controllen = control;
    }
    got = recvmmsg(fd, in, (unsigned)count, flags, NULL);
    for (int i = 0; i < got; i++) {
        bytes += in[i].msg_len;
        seen |= in[i].msg_hdr.msg_flags;
    }
    check(seen & (MSG_TRUNC | MSG_CTRUNC), "a datagram was cut");
    lane->bytes += bytes;
    return got;
}

/* Runs of as many messages as one UDP_SEGMENT datagram takes, all in one call. */
static inline void
send_offload(struct lane *lane, int fd, int first, int count)
{
    int most = LARGEST_RUN / lane->size < LONGEST_RUN ? LARGEST_RUN / lane->size : LONGEST_RUN;
    unsigned short segment = (unsigned short)lane->size;
    long long bytes = 0;
    int n = 0;

    for (int i = 0; i < count; i += most, n++) {
        int length = count - i < most ? count - i : most;
        const struct msghdr *like = &lane->out[first + i].msg_hdr;
        struct msghdr *h = &lane->runs[n].msg_hdr;

        for (int k = 0; k < length; k++) {
            lane->run_iov[i + k] = *lane->out[first + i + k].msg_hdr.msg_iov;
        }
        h->msg_name = like->msg_name;
        h->msg_namelen = like->msg_namelen;
        h->msg_iov = lane->run_iov + i;
        h->msg_iovlen = (size_t)length;
        h->msg_control = lane->run_control[n];
        if (like->msg_controllen != 0) {
            memcpy(lane->run_control[n], like->msg_control, like->msg_controllen);
        }
        h->msg_controllen = like->msg_controllen;
        if (length > 1) {
            h->msg_controllen = put(lane->run_control[n], like->msg_controllen, IPPROTO_UDP,
                                    UDP_SEGMENT_OPTION, &segment, sizeof segment);
        }
    }
    check(sendmmsg(fd, lane->runs, (unsigned)n, 0) != n, "sendmmsg of runs");
    for (int i = 0; i < n; i++) {
        bytes += lane->runs[i].msg_len;
    }
    lane->bytes += bytes;
}

/* Copies the segments of a coalesced datagram to where they belong, from message `at` on; those past the last
 * message start again at the first. Returns how many there were. */
static inline int
split(struct lane *lane, const struct mmsghdr *whole, int at)
{
    const struct msghdr *h = &whole->msg_hdr;
    size_t total = whole->msg_len, segment = total;
    int done = 0;

    check(h->msg_flags & (MSG_TRUNC | MSG_CTRUNC), "a coalesced datagram was cut");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR((struct msghdr *)h, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO_OPTION) {
            segment = (size_t)*(int *)CMSG_DATA(c);
        }
    }
    for (size_t from = 0; from < total; from += segment, done++) {
        size_t len = total - from < segment ? total - from : segment;
        struct mmsghdr *to = &lane->in[(at + done) % MOST];

        memcpy(to->msg_hdr.msg_iov->iov_base, (char *)h->msg_iov->iov_base + from, len);
        memcpy(to->msg_hdr.msg_name, h->msg_name, sizeof lane->names[0]);
        to->msg_len = (unsigned)len;
        if (lane->control) {
            memcpy(to->msg_hdr.msg_control, h->msg_control, h->msg_controllen);
            to->msg_hdr.msg_controllen = h->msg_controllen;
        }
    }
    lane->bytes += (long long)total;
    return done;
}

/* Receives at most `want` of the kernel's coalesced datagrams, and splits them. Returns how many datagrams
 * came, or -1 as recvmmsg does. */
static inline int
receive_offload(struct lane *lane, int fd, int first, int want, int flags)
{
    int done = 0, got;

    want = want < QUEUE ? want : QUEUE;
    for (int i = 0; i < lane->stale; i++) {
        lane->coalesced[i].msg_hdr.msg_namelen = sizeof lane->coalesced_names[0];
        lane->coalesced[i].msg_hdr.msg_controllen = CONTROL;
    }
    got = recvmmsg(fd, lane->coalesced, (unsigned)want, flags, NULL);
    lane->stale = got < 0 ? 0 : got;
    for (int i = 0; i < got; i++) {
        done += split(lane, &lane->coalesced[i], first + done);
    }
    return got < 0 ? got : done;
}

#endif
