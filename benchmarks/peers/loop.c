/* loop.c - the bare C loop: recvmmsg and sendmmsg with nothing around them, and the same with
 * UDP_SEGMENT and UDP_GRO, which gathers from and scatters to one buffer a datagram as ipv4batch does.
 *
 * It reads a measurement a line, "batch size control offload bursts burst", and answers with a line of
 * the nanoseconds of each burst's sending and one of its receiving. Both sockets are its own, on
 * loopback; a burst is sent, and then received from a full queue.
 *
 * With an argument "read N" or "write N" it makes N calls of 64 messages, to be counted by callgrind.
 */
#define _GNU_SOURCE
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
    MOST = 1024,       /* messages of a burst */
    STRIDE = 2048,     /* bytes between buffers */
    COALESCED = 65536, /* bytes that one receive can bring */
    COALESCED_BUFFERS = 64,
    LARGEST_RUN = 65507, /* bytes that one send can take */
    CONTROL = 256,
    RECEIVE_BUFFER = 16 << 20,
};

static struct mmsghdr out[MOST], in[MOST];
static struct iovec out_iov[MOST], in_iov[MOST], queue_iov[COALESCED_BUFFERS];
static struct sockaddr_in names[MOST];
static char out_control[MOST][CONTROL], in_control[MOST][CONTROL];
static char *out_slab, *in_slab, *queue;
static struct mmsghdr coalesced[COALESCED_BUFFERS];
static long long sent_ns[100000], received_ns[100000];

static void
check(int failed, const char *what)
{
    if (failed) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static long long
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static size_t
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
static size_t
path(char *control)
{
    int ttl = 9, tos = 2;
    struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK)};
    size_t len = put(control, 0, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);

    len = put(control, len, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    return put(control, len, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
}

static int
bound(struct sockaddr_in *name)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), size = RECEIVE_BUFFER;
    socklen_t len = sizeof *name;

    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0) {
        check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) != 0, "SO_RCVBUF");
    }
    check(bind(fd, (struct sockaddr *)name, sizeof *name) != 0, "bind");
    check(getsockname(fd, (struct sockaddr *)name, &len) != 0, "getsockname");
    return fd;
}

static void
want_control(int fd)
{
    int on = 1;

    check(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) != 0, "IP_RECVTTL");
    check(setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on) != 0, "IP_RECVTOS");
    check(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) != 0, "IP_PKTINFO");
    check(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0, "SO_TIMESTAMPNS");
}

static void
prepare(int size, int control, struct sockaddr_in *to)
{
    memset(out, 0, sizeof out);
    memset(in, 0, sizeof in);
    for (int i = 0; i < MOST; i++) {
        out_iov[i] = (struct iovec){out_slab + (size_t)i * STRIDE, (size_t)size};
        in_iov[i] = (struct iovec){in_slab + (size_t)i * STRIDE, STRIDE};
        out[i].msg_hdr.msg_iov = &out_iov[i];
        out[i].msg_hdr.msg_iovlen = 1;
        out[i].msg_hdr.msg_name = to;
        out[i].msg_hdr.msg_namelen = sizeof *to;
        in[i].msg_hdr.msg_iov = &in_iov[i];
        in[i].msg_hdr.msg_iovlen = 1;
        in[i].msg_hdr.msg_name = &names[i];
        if (control) {
            out[i].msg_hdr.msg_control = out_control[i];
            out[i].msg_hdr.msg_controllen = path(out_control[i]);
            in[i].msg_hdr.msg_control = in_control[i];
        }
    }
}

static void
send_plain(int fd, int first, int count)
{
    check(sendmmsg(fd, out + first, (unsigned)count, 0) != count, "sendmmsg");
}

/* Runs of as many messages as one UDP_SEGMENT datagram takes, all in one call. */
static void
send_offload(int fd, int first, int count, int size)
{
    static struct iovec iov[MOST];
    static char control[MOST][CONTROL];
    struct mmsghdr runs[MOST];
    int most = LARGEST_RUN / size < 64 ? LARGEST_RUN / size : 64, n = 0;
    unsigned short segment = (unsigned short)size;

    memset(runs, 0, sizeof runs[0] * (size_t)(count / most + 1));
    for (int i = 0; i < count; i += most, n++) {
        int length = count - i < most ? count - i : most;
        const struct msghdr *like = &out[first + i].msg_hdr;
        struct msghdr *h = &runs[n].msg_hdr;

        for (int k = 0; k < length; k++) {
            iov[i + k] = *out[first + i + k].msg_hdr.msg_iov;
        }
        h->msg_name = like->msg_name;
        h->msg_namelen = like->msg_namelen;
        h->msg_iov = iov + i;
        h->msg_iovlen = (size_t)length;
        h->msg_control = control[n];
        memcpy(control[n], like->msg_control == NULL ? "" : like->msg_control,
               like->msg_controllen);
        h->msg_controllen = put(control[n], like->msg_controllen, IPPROTO_UDP, UDP_SEGMENT_OPTION,
                                &segment, sizeof segment);
    }
    check(sendmmsg(fd, runs, (unsigned)n, 0) != n, "sendmmsg of runs");
}

static void
receive_plain(int fd, int first, int count, int control)
{
    for (int i = first; i < first + count; i++) {
        in[i].msg_hdr.msg_namelen = sizeof names[i];
        in[i].msg_hdr.msg_controllen = control ? CONTROL : 0;
    }
    check(recvmmsg(fd, in + first, (unsigned)count, MSG_DONTWAIT, NULL) != count, "recvmmsg");
}

/* The kernel's bundles, each datagram of which is copied to where it belongs. */
static void
receive_offload(int fd, int count, int control)
{
    int done = 0;

    while (done < count) {
        int want = count - done < COALESCED_BUFFERS ? count - done : COALESCED_BUFFERS, got;

        for (int i = 0; i < want; i++) {
            coalesced[i].msg_hdr.msg_namelen = sizeof names[i];
            coalesced[i].msg_hdr.msg_controllen = CONTROL;
        }
        got = recvmmsg(fd, coalesced, (unsigned)want, MSG_DONTWAIT, NULL);
        check(got <= 0, "recvmmsg of bundles");
        for (int i = 0; i < got; i++) {
            struct msghdr *h = &coalesced[i].msg_hdr;
            size_t total = coalesced[i].msg_len, segment = total;

            for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
                if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO_OPTION) {
                    segment = (size_t)*(int *)CMSG_DATA(c);
                }
            }
            for (size_t at = 0; at < total; at += segment, done++) {
                size_t len = total - at < segment ? total - at : segment;

                memcpy(in_iov[done].iov_base, (char *)h->msg_iov->iov_base + at, len);
                memcpy(in[done].msg_hdr.msg_name, h->msg_name, sizeof names[0]);
                in[done].msg_len = (unsigned)len;
                if (control) {
                    memcpy(in_control[done], h->msg_control, h->msg_controllen);
                    in[done].msg_hdr.msg_controllen = h->msg_controllen;
                }
            }
        }
    }
}

static void
measure(int batch, int size, int control, int offload, int bursts, int burst)
{
    struct sockaddr_in to, from;
    int receiver = bound(&to), sender = bound(&from), on = 1;

    if (control) {
        want_control(receiver);
    }
    if (offload) {
        check(setsockopt(receiver, IPPROTO_UDP, UDP_GRO_OPTION, &on, sizeof on) != 0, "UDP_GRO");
    }
    prepare(size, control, &to);
    for (int b = 0; b < bursts; b++) {
        long long start = now();

        for (int i = 0; i < burst; i += batch) {
            int count = burst - i < batch ? burst - i : batch;

            if (offload) {
                send_offload(sender, i, count, size);
            }
            else {
                send_plain(sender, i, count);
            }
        }
        sent_ns[b] = now() - start;
        start = now();
        if (offload) {
            receive_offload(receiver, burst, control);
        }
        else {
            for (int i = 0; i < burst; i += batch) {
                receive_plain(receiver, i, burst - i < batch ? burst - i : batch, control);
            }
        }
        received_ns[b] = now() - start;
    }
    close(receiver);
    close(sender);
}

/* Calls of 64 for callgrind, a read after each write; what is counted is one direction more often
 * than the other. */
static int
count_calls(const char *direction, int calls)
{
    struct sockaddr_in to, from;
    int receiver = bound(&to), sender = bound(&from);
    int reading = strcmp(direction, "read") == 0;

    prepare(64, 0, &to);
    for (int i = 0; i < calls; i++) {
        if (reading) {
            send_plain(sender, 0, 64);
            receive_plain(receiver, 0, 64, 0);
        }
        else {
            send_plain(sender, 0, 64);
        }
    }
    return 0;
}

int
main(int argc, char **argv)
{
    int batch, size, control, offload, bursts, burst;

    out_slab = aligned_alloc(4096, (size_t)MOST * STRIDE);
    in_slab = aligned_alloc(4096, (size_t)MOST * STRIDE);
    queue = aligned_alloc(4096, (size_t)COALESCED_BUFFERS * COALESCED);
    check(out_slab == NULL || in_slab == NULL || queue == NULL, "memory");
    memset(out_slab, 1, (size_t)MOST * STRIDE);
    memset(in_slab, 2, (size_t)MOST * STRIDE);
    memset(queue, 3, (size_t)COALESCED_BUFFERS * COALESCED);
    for (int i = 0; i < COALESCED_BUFFERS; i++) {
        static struct sockaddr_in from[COALESCED_BUFFERS];
        static char control[COALESCED_BUFFERS][CONTROL];

        queue_iov[i] = (struct iovec){queue + (size_t)i * COALESCED, COALESCED};
        coalesced[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                               .msg_iov = &queue_iov[i],
                                               .msg_iovlen = 1,
                                               .msg_control = control[i]};
    }
    if (argc == 3) {
        return count_calls(argv[1], atoi(argv[2]));
    }
    while (scanf("%d %d %d %d %d %d", &batch, &size, &control, &offload, &bursts, &burst) == 6) {
        measure(batch, size, control, offload, bursts, burst);
        for (int i = 0; i < bursts; i++) {
            printf("%lld%c", sent_ns[i], i + 1 < bursts ? ' ' : '\n');
        }
        for (int i = 0; i < bursts; i++) {
            printf("%lld%c", received_ns[i], i + 1 < bursts ? ' ' : '\n');
        }
        fflush(stdout);
    }
    return 0;
}
