/* fuzz_gro.c - receive offload: all bytes of every datagram come out once, in order and within their
 * bounds, with their address and control data, whatever comes and whatever slots there are.
 *
 * Input: steps: datagrams that arrive, an error of the socket, a fork, a read; see the functions that take
 * them. The socket is a row of arrivals here, and recvmmsg is what the kernel does.
 */
#include "gro.h"

#include "ancillary.h"
#include "cmsg.h"
#include "slots.h"

enum {
    WORK =
        160, /* so much is done with one input, so that none takes long: arrivals, datagrams, slots */
    MANY = 72,     /* more than a queue asks for */
    BUFFERS = 64,  /* what a queue asks for at most */
    SEGMENTS = 64, /* what the kernel coalesces at most (UDP_GRO_CNT_MAX, net/ipv4/udp_offload.c) */
    TAIL = 64,
    SHIFTS = 4096,
    CONTROL = 2 * IPV4B_ANCILLARY_MAX, /* room for control data in a buffer of a queue */
};

/* What arrives several times: a datagram, coalesced if it has a segment size, and its control data. */
typedef struct {
    size_t total, segment;
    unsigned int items, extra; /* which control messages, and how long the strange ones are */
    bool has_name;
    unsigned char control[CONTROL];
    size_t control_len;
    int flags;
} kind;

/* What lies in the socket: an error, or a datagram. */
typedef struct {
    int error;
    const kind *kind;
} arrival;

static kind kinds[WORK];
static size_t kinds_used;
static arrival arrivals[WORK];
static size_t arrived, taken;   /* in the socket are those between */
static size_t current, offset;  /* where the reader is among what was taken */
static size_t waiting;          /* datagrams from there on */
static size_t work;             /* so far */
static unsigned int asked, got; /* in the last recvmmsg */
static int last_error;          /* that it gave */
static ipv4b_gro *queue;
static unsigned char *tails[BUFFERS]; /* what the sanitizer guards behind a datagram */

static unsigned char pattern[LONGEST + SHIFTS];

static const unsigned char *
content(size_t index)
{
    return pattern + index * 61 % SHIFTS;
}

static struct sockaddr_in
name_of(size_t index)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = (in_port_t)(index + 1)};
}

/* put_cmsg (net/core/scm.c). */
static bool
put(kind *k, int level, int type, const void *data, size_t len)
{
    size_t left = CONTROL - k->control_len, whole = CMSG_LEN(len), space = CMSG_SPACE(len);
    struct cmsghdr h = {.cmsg_len = whole < left ? whole : left, .cmsg_level = level};

    h.cmsg_type = type;
    k->flags |= left < whole ? MSG_CTRUNC : 0;
    if (left < sizeof h) {
        return false;
    }
    memcpy(k->control + k->control_len, &h, sizeof h);
    memcpy(k->control + k->control_len + CMSG_LEN(0), data, h.cmsg_len - CMSG_LEN(0));
    k->control_len += space < left ? space : left;
    return h.cmsg_len == whole;
}

static void
put_if(kind *k, unsigned int bit, int level, int type, const void *data, size_t len)
{
    if (k->items & bit) {
        (void)put(k, level, type, data, len);
    }
}

/* The control messages of a datagram in the kernel's order (udp_recvmsg, net/ipv4/udp.c). Its
 * segment size is lost where there is no room for it. */
static void
receive_control(kind *k)
{
    static const unsigned char strange[UINT8_MAX];
    const int64_t timestamp[2] = {1700000000, 999999999};
    const struct in_pktinfo info = {.ipi_ifindex = 1};
    const int ttl = 64, segment = (int)k->segment;
    const uint32_t drops = 7;
    const uint8_t tos = 2;

    k->control_len = 0;
    k->flags = 0;
    put_if(k, 1, SOL_SOCKET, SCM_TIMESTAMPNS, timestamp, sizeof timestamp);
    put_if(k, 2, SOL_SOCKET, SO_RXQ_OVFL, &drops, sizeof drops);
    put_if(k, 4, SOL_SOCKET, SO_TIMESTAMPING, strange, k->extra);
    if (k->segment != 0 && !put(k, IPPROTO_UDP, IPV4B_UDP_GRO, &segment, sizeof segment)) {
        k->segment = 0;
    }
    put_if(k, 16, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    put_if(k, 32, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    put_if(k, 64, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    put_if(k, 8, IPPROTO_IP, IP_RECVOPTS, strange, k->extra);
}

static size_t
datagrams_in(const kind *k)
{
    return k->segment == 0 || k->total == 0 ? 1 : (k->total + k->segment - 1) / k->segment;
}

static void
guard(size_t i, unsigned char *tail)
{
    if (tails[i] == tail) {
        return;
    }
    if (tails[i] != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(tails[i], TAIL);
    }
    tails[i] = tail;
    if (tail != NULL) {
        ASAN_POISON_MEMORY_REGION(tail, TAIL);
    }
}

/* Fills slot number i of the queue's. The rest of its buffer is nobody's. */
static void
receive_one(struct mmsghdr *slot, size_t i, size_t index)
{
    struct msghdr *h = &slot->msg_hdr;
    const struct sockaddr_in name = name_of(index);
    const kind *k = arrivals[index].kind;
    unsigned char *buffer = h->msg_iov->iov_base;

    HOLDS(h->msg_iovlen == 1 && h->msg_iov->iov_len > LONGEST);
    HOLDS(h->msg_namelen == sizeof name && h->msg_flags == 0 && h->msg_controllen == CONTROL);
    guard(i, k->total + TAIL <= h->msg_iov->iov_len ? buffer + k->total : NULL);
    memcpy(buffer, content(index), k->total);
    memcpy(h->msg_control, k->control, k->control_len);
    h->msg_controllen = k->control_len;
    h->msg_namelen = k->has_name ? sizeof name : 0;
    memcpy(h->msg_name, &name, h->msg_namelen);
    h->msg_flags = k->flags;
    slot->msg_len = (unsigned int)k->total;
    waiting += datagrams_in(k);
}

int
recvmmsg(int fd, struct mmsghdr *vec, unsigned int n, int flags, struct timespec *timeout)
{
    HOLDS(fd == -1 && timeout == NULL && n > 0 && n <= BUFFERS && flags == MSG_DONTWAIT);
    HOLDS(got == asked); /* one that gave less had no more */
    asked = n;
    got = 0;
    last_error = taken == arrived ? EAGAIN : arrivals[taken].error;
    if (last_error != 0) {
        taken += taken < arrived;
        errno = last_error;
        return -1;
    }
    while (got < n && taken < arrived && arrivals[taken].error == 0) {
        receive_one(&vec[got], got, taken++);
        got++;
    }
    return (int)got;
}

/* A length: most often a short one, which is as good and takes less time. */
static size_t
read_length(fuzz_input *in)
{
    unsigned int n = fuzz_u16(in);

    return n < 0xc000 ? n % 64 : n < 0xff00 ? n % 300 : (n & 0xff) * 256 + 255;
}

/* One or several alike: how many bytes and how they are cut, control messages. */
static void
step_arrive(fuzz_input *in, unsigned int step)
{
    static const unsigned int copies[] = {1, 1, 2, 4};
    kind *k = &kinds[kinds_used++];
    unsigned int n = step >> 5 == 7 ? MANY : copies[step >> 3 & 3];
    size_t shortest;

    *k = (kind){.total = read_length(in), .segment = read_length(in)};
    shortest = (k->total + SEGMENTS - 1) / SEGMENTS;
    k->segment = step & 4 ? 0 : k->segment < shortest ? shortest : k->segment;
    k->items = fuzz_u8(in);
    k->extra = k->items & 12 ? fuzz_u8(in) : 0;
    k->has_name = !(k->items & 128);
    receive_control(k);
    for (; n > 0 && work < WORK; n--) {
        arrivals[arrived++] = (arrival){.kind = k};
        work += datagrams_in(k) + k->total / 512;
    }
}

static void
step_error(unsigned int step)
{
    static const int errors[] = {ECONNREFUSED, EINTR, ENOMEM, EAGAIN};

    arrivals[arrived++] = (arrival){.error = errors[step >> 2 & 3]};
    work++;
}

/* The child's queue is empty. */
static void
step_fork(void)
{
    ipv4b_gro_after_fork(queue);
    HOLDS(ipv4b_gro_pending(queue) == 0);
    current = taken;
    offset = waiting = 0;
}

/* What a slot with room for `cap` bytes gets of the control data. It is that of the last slot, most
 * often. */
static struct {
    const kind *kind;
    size_t cap, len;
    bool cut;
    unsigned char bytes[CONTROL];
} expected;

static void
expect_control(const kind *k, size_t cap)
{
    if (expected.kind != k || expected.cap != cap) {
        expected.kind = k;
        expected.cap = cap;
        memset(expected.bytes, 0xee, cap);
        expected.len = ipv4b_cmsg_deliver(expected.bytes, cap, k->control, k->control_len,
                                          IPPROTO_UDP, IPV4B_UDP_GRO, &expected.cut);
    }
}

/* A slot holds the datagram of `len` bytes at `offset` of `current`, and nothing more. */
static void
check_slot(size_t i, size_t len, int flags)
{
    const kind *k = arrivals[current].kind;
    const struct msghdr *h = &slots[i].msg_hdr;
    const struct sockaddr_in name = name_of(current);
    const size_t fitted = len < of[i].room ? len : of[i].room;

    check_data(i, content(current) + offset, fitted);
    expect_control(k, of[i].control_cap);
    check_bytes(h->msg_control, expected.bytes, of[i].control_cap);
    HOLDS(h->msg_controllen == expected.len);
    HOLDS(slots[i].msg_len == (flags & MSG_TRUNC ? len : fitted));
    HOLDS(h->msg_flags ==
          (k->flags | (fitted < len ? MSG_TRUNC : 0) | (expected.cut ? MSG_CTRUNC : 0)));
    HOLDS(h->msg_namelen == (k->has_name ? sizeof name : 0));
    HOLDS(!k->has_name || h->msg_name == NULL || memcmp(h->msg_name, &name, sizeof name) == 0);
}

/* How many bytes the reader's next datagram has; errors on the way are passed over. */
static size_t
next_length(void)
{
    const kind *k;
    size_t left, len;

    while (current < taken && arrivals[current].error != 0) {
        current++;
    }
    HOLDS(current < taken);
    k = arrivals[current].kind;
    left = k->total - offset;
    len = k->segment != 0 && k->segment < left ? k->segment : left;
    HOLDS(ipv4b_gro_segment(k->total, offset, k->segment) == len);
    return len;
}

static void
read_some(size_t n, int flags, bool receive)
{
    const size_t before = waiting;
    int pending = -1, r;

    asked = got = 0;
    last_error = 0;
    r = ipv4b_gro_recv(queue, -1, slots, n, flags, receive, &pending);
    if (r < 0) {
        /* Nothing there, and the socket has said so if it was to be asked. */
        HOLDS(before == 0 && waiting == 0 && pending == 0);
        HOLDS(r == -(receive ? last_error : EAGAIN));
        HOLDS(receive == (asked != 0));
        check_rest();
        return;
    }
    HOLDS(r > 0 && (size_t)r <= n);
    if (flags & MSG_PEEK) {
        size_t len = next_length();

        HOLDS((size_t)r == n && pending == 0 && (before == 0 ? asked == 1 : asked == 0));
        for (size_t i = 0; i < n; i++) {
            check_slot(i, len, flags);
        }
    }
    else {
        for (size_t i = 0; i < (size_t)r; i++) {
            size_t len = next_length();

            check_slot(i, len, flags);
            waiting--;
            offset += len;
            if (offset >= arrivals[current].kind->total) {
                current++;
                offset = 0;
            }
        }
        /* Fewer than there were slots only when no more is there; an error that came meanwhile is
         * kept, but not one that says to ask again. */
        HOLDS((size_t)r == n || (waiting == 0 && (!receive || got < asked)));
        HOLDS(receive || asked == 0);
        HOLDS(pending == (last_error == EAGAIN || last_error == EINTR ? 0 : last_error));
    }
    check_rest();
    HOLDS(ipv4b_gro_pending(queue) == waiting);
}

/* How many slots, of what shape, and how they are asked for. */
static void
step_read(fuzz_input *in, unsigned int step)
{
    unsigned int n = fuzz_u8(in), how = fuzz_u8(in);
    size_t size = read_length(in), control_cap = fuzz_u8(in);
    int flags = (how & 1 ? MSG_PEEK : 0) | (how & 2 ? MSG_TRUNC : 0);
    size_t made = prepare(n < 240 ? n % 8 + 1 : (n - 239) * 8, step >> 2 & 3, size, how & 4,
                          how & 8, control_cap);

    work += made;
    read_some(made, flags, !(how & 16));
}

/* Reads all that is left; the ends of long datagrams are told by their lengths. */
static void
drain(void)
{
    while (taken < arrived || waiting > 0) {
        size_t n = waiting + arrived - taken;

        n = prepare(n < SLOTS ? n : SLOTS, 1, 64, false, true, IPV4B_ANCILLARY_MAX / 2);
        read_some(n, MSG_TRUNC, true);
    }
    HOLDS(ipv4b_gro_pending(queue) == 0);
    arrived = taken = current = offset = work = kinds_used = 0;
    expected.kind = NULL;
}

/* Takes `n` empty datagrams through the queue. */
static void
use_buffers(size_t n)
{
    static const kind empty;
    int pending;

    for (arrived = 0; arrived < n; arrived++) {
        arrivals[arrived] = (arrival){.kind = &empty};
    }
    memset(slots, 0, n * sizeof slots[0]);
    asked = got = 0;
    HOLDS(ipv4b_gro_recv(queue, -1, slots, n, 0, true, &pending) == (int)n);
    arrived = taken = waiting = 0;
}

/* Begins with the one queue, of which every buffer has been filled, and the first of them last: what
 * earlier inputs did must not matter. */
static void
start(void)
{
    if (queue == NULL) {
        queue = ipv4b_gro_new();
        HOLDS(queue != NULL);
        for (size_t i = 0; i < sizeof pattern; i++) {
            pattern[i] = (unsigned char)(i * i >> 3 ^ i);
        }
        use_buffers(BUFFERS);
    }
    use_buffers(1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};

    start();
    while (in.left != 0 && work < WORK) {
        unsigned int step = fuzz_u8(&in);

        switch (step & 3) {
        case 0:
        case 1:
            step_arrive(&in, step);
            break;
        case 2:
            step_read(&in, step);
            break;
        default:
            if (step & 128) {
                step_fork();
            }
            else {
                step_error(step);
            }
        }
    }
    drain();
    return 0;
}
