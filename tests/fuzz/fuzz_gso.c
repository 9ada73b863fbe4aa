/* fuzz_gso.c - segmentation offload: the runs of a plan are the messages, within the kernel's limits,
 * with their control data; and whatever the kernel answers, each message was sent once or not at all,
 * in the order of its path, and the plan's order tells which.
 *
 * Input: mode, answers of the kernel, control buffers, and rows of messages; see the functions that
 * read them.
 */
#include "send.h"

#include "cmsg.h"
#include "fuzz.h"

enum {
    MESSAGES = 140, /* two runs of the most segments, and some */
    IOVECS = 1400,  /* a run of the most, and some */
    PIECES = 41,    /* of which 25 make one more than that */
    CONTROLS = 3,
    ANSWERS = 16,
    UNSENT = 0xee0000, /* and the message's number: what the kernel gets tells whose it is */
};

/* Two copies of all that messages can share, since equal content counts and not the place. */
static struct {
    struct sockaddr_in names[2];
    unsigned char *control[CONTROLS];
    size_t control_len[CONTROLS];
} shared[2];

static ipv4b_slot slots[MESSAGES];
static size_t sizes[MESSAGES];
static struct iovec iovecs[IOVECS];
static size_t count, iovecs_used;
static ipv4b_gso_plan *kept; /* from one input to the next */

/* What the kernel says to each call: so many are taken, or none and an errno. */
static struct {
    unsigned int taken;
    int error;
} answers[ANSWERS];
static size_t answers_count, answers_used, sent, failures, cleared;
static enum { WAITING, SENT, SKIPPED } fate[MESSAGES];
static bool by_path;  /* the order is that of each path */
static bool reported; /* an error that did not come again, and so was an earlier datagram's */
static int suspect;   /* an error that may be one */
static int with_header, mtu_mode; /* of the socket */

static size_t
size_of(const struct msghdr *h)
{
    size_t size = 0;

    for (size_t i = 0; i < h->msg_iovlen; i++) {
        size += h->msg_iov[i].iov_len;
    }
    return size;
}

static bool
same_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static bool
same_path(const struct msghdr *a, const struct msghdr *b)
{
    /* The same place is the same; what else is, the bytes say. */
    return (a->msg_name == b->msg_name && a->msg_control == b->msg_control) ||
           (same_bytes(a->msg_name, a->msg_namelen, b->msg_name, b->msg_namelen) &&
            same_bytes(a->msg_control, a->msg_controllen, b->msg_control, b->msg_controllen));
}

static bool
is_segment_size(const ipv4b_cmsg_item *item)
{
    return item->level == IPPROTO_UDP && item->type == IPV4B_UDP_SEGMENT;
}

static bool
says_segment_size(const struct msghdr *h)
{
    ipv4b_cmsg_iter it = {.buf = h->msg_control, .len = h->msg_controllen};
    ipv4b_cmsg_item item;
    bool found = false;

    while (ipv4b_cmsg_next(&it, &item) > 0) {
        found = found || is_segment_size(&item);
    }
    return found;
}

/* Of a run: the items of its first message, and then its segment size, which is returned. */
static size_t
check_control(const struct msghdr *run, const struct msghdr *first)
{
    ipv4b_cmsg_iter it = {.buf = run->msg_control, .len = run->msg_controllen};
    ipv4b_cmsg_iter own = {.buf = first->msg_control, .len = first->msg_controllen};
    ipv4b_cmsg_item item, expected;
    uint16_t segment;

    HOLDS(!says_segment_size(first));
    while (ipv4b_cmsg_next(&own, &expected) > 0) {
        HOLDS(ipv4b_cmsg_next(&it, &item) == 1);
        HOLDS(item.level == expected.level && item.type == expected.type);
        HOLDS(same_bytes(item.data, item.len, expected.data, expected.len));
    }
    /* The last may have come without its padding. */
    HOLDS(fuzz_all((unsigned char *)run->msg_control + own.pos, it.pos - own.pos, 0));
    HOLDS(ipv4b_cmsg_next(&it, &item) == 1 && is_segment_size(&item) && item.len == sizeof segment);
    HOLDS(it.pos == it.len);
    memcpy(&segment, item.data, sizeof segment);
    HOLDS(fuzz_all(item.data + sizeof segment,
                   CMSG_SPACE(sizeof segment) - CMSG_LEN(sizeof segment), 0));
    return segment;
}

/* Whether a message stands in the way of those behind it on its path. */
static bool
counts(size_t i)
{
    return !by_path || sizes[i] <= IPV4B_GSO_BYTES;
}

/* The next message of message i's path, or `count`. */
static size_t
next_of_path(size_t i)
{
    size_t next = i + 1;

    while (by_path && next < count &&
           !(counts(next) && same_path(&slots[i].msg_hdr, &slots[next].msg_hdr))) {
        next++;
    }
    return next;
}

/* The iovecs of a run are the bytes of a message's, and then those of the others. Moves *at and *used
 * behind them. */
static void
check_iovecs(const struct msghdr *run, const struct msghdr *member, size_t *at, size_t *used)
{
    for (size_t k = 0; k < member->msg_iovlen; k++) {
        const struct iovec *part = &member->msg_iov[k];

        if (*at < run->msg_iovlen && *used == run->msg_iov[*at].iov_len && part->iov_len > 0) {
            ++*at;
            *used = 0;
        }
        if (part->iov_len > 0) {
            HOLDS(*at < run->msg_iovlen);
            HOLDS((char *)run->msg_iov[*at].iov_base + *used == part->iov_base);
            *used += part->iov_len;
            HOLDS(*used <= run->msg_iov[*at].iov_len);
        }
        while (*at < run->msg_iovlen && *used == run->msg_iov[*at].iov_len &&
               *at + 1 < run->msg_iovlen && run->msg_iov[*at + 1].iov_len == 0) {
            ++*at; /* empty, and adjoining nothing */
            *used = 0;
        }
    }
}

/* Of what goes to the kernel from message number `first` on: how many messages it is. The last is put
 * into *last. */
static size_t
check_slot(const struct msghdr *out, size_t first, size_t *last)
{
    const struct msghdr *h = &slots[first].msg_hdr;
    size_t total, segment, length, at = 0, used = 0, member = first;

    HOLDS(first < count);
    *last = first;
    HOLDS(out->msg_name == h->msg_name && out->msg_namelen == h->msg_namelen);
    if (out->msg_control == h->msg_control) {
        HOLDS(out->msg_controllen == h->msg_controllen);
        HOLDS(out->msg_iov == h->msg_iov && out->msg_iovlen == h->msg_iovlen);
        return 1;
    }
    total = size_of(out);
    segment = check_control(out, h);
    HOLDS(segment > 0 && total > segment);
    length = (total + segment - 1) / segment;
    HOLDS(length <= IPV4B_GSO_SEGMENTS);
    HOLDS(total <= IPV4B_GSO_BYTES && out->msg_iovlen <= IPV4B_IOV_MAX);
    for (size_t i = 0; i < length; i++, member = next_of_path(member)) {
        HOLDS(member < count);
        HOLDS(same_path(h, &slots[member].msg_hdr));
        HOLDS(i < length - 1 ? sizes[member] == segment : sizes[member] == total - segment * i);
        check_iovecs(out, &slots[member].msg_hdr, &at, &used);
        *last = member;
    }
    HOLDS(at + 1 == out->msg_iovlen && used == out->msg_iov[at].iov_len);
    return length;
}

static size_t
iovecs_of(size_t first, size_t length)
{
    size_t n = 0;

    for (size_t i = 0; i < length; i++, first = next_of_path(first)) {
        n += slots[first].msg_hdr.msg_iovlen;
    }
    return n;
}

/* Whether the run of `length` messages could have taken one more. */
static bool
could_grow(const struct msghdr *run, size_t first, size_t last, size_t length)
{
    const struct msghdr *h = &slots[first].msg_hdr;
    size_t next = next_of_path(last), size = sizes[first];

    return next < count && counts(first) && length < IPV4B_GSO_SEGMENTS && size != 0 &&
           size <= IPV4B_GSO_BYTES / 2 && sizes[last] == size && sizes[next] != 0 &&
           sizes[next] <= size && size_of(run) + sizes[next] <= IPV4B_GSO_BYTES &&
           iovecs_of(first, length) + slots[next].msg_hdr.msg_iovlen <= IPV4B_IOV_MAX &&
           same_path(h, &slots[next].msg_hdr) && h->msg_controllen <= IPV4B_GSO_CONTROL_MAX &&
           !says_segment_size(h);
}

static void
test_plan(size_t prefix)
{
    ipv4b_gso_plan *plan = ipv4b_gso_plan_new();
    bool seen[MESSAGES] = {false};
    size_t at = 0;

    HOLDS(plan != NULL);
    /* What a plan held before does not matter. */
    HOLDS(prefix == 0 || ipv4b_gso_plan_make(plan, slots, prefix, true, NULL, 0) == 0);
    HOLDS(ipv4b_gso_plan_make(plan, slots, count, by_path, NULL, 0) == 0);
    for (size_t k = 0; k < plan->count; k++) {
        size_t first = plan->order[at], last, member = first, length = plan->runs[k].length;

        HOLDS(length == check_slot(&plan->slots[k].msg_hdr, first, &last));
        HOLDS(plan->slots[k].msg_len == slots[first].msg_len);
        HOLDS(!could_grow(&plan->slots[k].msg_hdr, first, last, length));
        for (size_t i = 0; i < length; i++, at++, member = next_of_path(member)) {
            HOLDS(plan->order[at] == member && !seen[member]);
            HOLDS(plan->shuffled || member == at);
            seen[member] = true;
        }
    }
    HOLDS(at == count && !(plan->shuffled && !by_path));
    ipv4b_gso_plan_free(plan);
}

/* A message goes: those before it on its path are dealt with. */
static void
send_message(size_t i)
{
    HOLDS(fate[i] == WAITING);
    for (size_t k = 0; k < i; k++) {
        HOLDS(fate[k] != WAITING || !counts(k) || !counts(i) ||
              (by_path && !same_path(&slots[k].msg_hdr, &slots[i].msg_hdr)));
    }
    fate[i] = SENT;
    sent++;
}

/* The kernel: takes as many as its answer says, and tells of each how long it was. */
int
sendmmsg(int fd, struct mmsghdr *vec, unsigned int n, int flags)
{
    unsigned int taken = n;
    bool is_report, refused, again, is_run;

    HOLDS(fd == -1 && n > 0 && n <= IPV4B_SEND_MAX && (flags & MSG_DONTWAIT));
    if (answers_used < answers_count) {
        taken = answers[answers_used].taken < n ? answers[answers_used].taken : n;
        errno = answers[answers_used++].error;
    }
    is_run = vec[0].msg_hdr.msg_control != slots[vec[0].msg_len - UNSENT].msg_hdr.msg_control;
    is_report = errno == EMSGSIZE || errno == EOPNOTSUPP;
    refused = taken == 0 && is_run && (is_report || errno == EIO || errno == EINVAL);
    again = refused && suspect == errno;
    /* One that stopped others before it, one that may be of the network, and the message's own. What
     * can only be a report, or is of offload, may come as often as it likes. */
    failures = taken != 0 ? 0 : failures + (!refused && errno != ECONNREFUSED);
    HOLDS(failures <= 3);
    reported = reported || (suspect != 0 && !again);
    suspect = refused && is_report && !again ? errno : 0;
    for (unsigned int i = 0; i < taken; i++) {
        size_t first = vec[i].msg_len - UNSENT, last;
        size_t length = check_slot(&vec[i].msg_hdr, first, &last);

        HOLDS(length == 1 || !(flags & MSG_MORE));
        vec[i].msg_len = (unsigned int)(length == 1 ? sizes[first] : size_of(&vec[i].msg_hdr));
        for (; length > 0; length--, first = next_of_path(first)) {
            send_message(first);
        }
    }
    return taken == 0 ? -1 : (int)taken;
}

/* A slot of its own: the header is the first member of a struct mmsghdr. */
ssize_t
sendmsg(int fd, const struct msghdr *header, int flags)
{
    struct mmsghdr *slot = (struct mmsghdr *)(uintptr_t)header;

    return sendmmsg(fd, slot, 1, flags) < 0 ? -1 : (ssize_t)slot->msg_len;
}

/* The pending error, of which the answers have none, and what the socket does with long datagrams. */
int
getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
    static const int modes[] = {IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IP_PMTUDISC_DO};
    int answer = 0;

    HOLDS(fd == -1 && *len == sizeof answer);
    if (level == SOL_SOCKET) {
        HOLDS(option == SO_ERROR || option == SO_NO_CHECK);
        cleared += option == SO_ERROR;
    }
    else {
        HOLDS(level == IPPROTO_IP && (option == IP_MTU_DISCOVER || option == IP_HDRINCL));
        answer = option == IP_HDRINCL ? with_header : modes[mtu_mode];
    }
    memcpy(value, &answer, sizeof answer);
    return 0;
}

static void
test_send(bool gso, bool recv_errors, bool keep, int flags)
{
    ipv4b_sender s = {.gso = gso, .reorder = by_path, .recv_errors = recv_errors};
    size_t skipped = 0;

    if (keep) {
        s.plan = kept;
    }
    sent = answers_used = cleared = 0;
    memset(fate, 0, sizeof fate);
    reported = false;
    suspect = 0;
    ipv4b_send_plan(&s, slots, count, flags, NULL);
    by_path = by_path && s.planned;
    while (s.done < count) {
        size_t before = sent, was = s.done, done;

        failures = 0;
        reported = false;
        suspect = 0;
        done = ipv4b_send(-1, slots, count, flags, &s);
        HOLDS(done == sent - before && s.done == was + done && s.done == sent + skipped);
        /* Whoever sees nothing sent has to know why. */
        HOLDS(s.done == count ? s.error == 0 : done > 0 || s.error != 0);
        HOLDS(s.done == count || !recv_errors || s.error != 0);
        HOLDS(s.error == 0 || s.error == answers[answers_used - 1].error);
        HOLDS(s.refused == 0 || (s.planned && done > 0));
        HOLDS((s.pending != 0) == (reported && !recv_errors));
        if (s.error != 0) {
            size_t next = ipv4b_send_next(&s);

            HOLDS(fate[next] == WAITING);
            fate[next] = SKIPPED;
            skipped++;
            ipv4b_send_skip(&s);
        }
    }
    for (size_t i = 0; i < count; i++) {
        HOLDS(fate[i] == SENT ? slots[i].msg_len == sizes[i]
                              : fate[i] == SKIPPED && slots[i].msg_len == UNSENT + i);
    }
    HOLDS((cleared != 0) == (recv_errors && count != 0));
    if (keep) {
        kept = s.plan;
    }
    else {
        ipv4b_gso_plan_free(s.plan);
    }
}

static void
read_answers(fuzz_input *in)
{
    static const int errors[] = {EAGAIN, EIO,   EINVAL,     EMSGSIZE,     ECONNREFUSED, ENOBUFS,
                                 EPERM,  EINTR, EOPNOTSUPP, EHOSTUNREACH, ENOMEM};

    answers_count = fuzz_u8(in) % (ANSWERS + 1);
    for (size_t i = 0; i < answers_count; i++) {
        unsigned int b = fuzz_u8(in);

        answers[i].taken = b & 1 ? b >> 1 : 0;
        answers[i].error = errors[(b >> 1) % (sizeof errors / sizeof errors[0])];
    }
}

/* A buffer: bytes as they are (bit 7 of its length), or items, the last without some bytes. */
static void
read_controls(fuzz_input *in)
{
    static const int types[] = {IP_TTL, IP_PKTINFO, IP_TOS, IP_RECVOPTS};

    for (size_t c = 0; c < CONTROLS; c++) {
        unsigned char buf[512], data[UINT8_MAX] = {0};
        ipv4b_cmsg_encoder enc = {.buf = buf, .cap = sizeof buf};
        unsigned int shape = fuzz_u8(in);

        if (shape & 0x80) {
            enc.len = fuzz_bytes(in, buf, shape & 0x7f);
        }
        for (unsigned int i = 0; !(shape & 0x80) && i < (shape & 7); i++) {
            unsigned int kind = fuzz_u8(in);
            size_t len = kind >> 3;

            fuzz_bytes(in, data, kind & 4 ? 1 : 0);
            if (kind == 0xff) {
                (void)ipv4b_cmsg_put(&enc, IPPROTO_UDP, IPV4B_UDP_SEGMENT, data, sizeof(uint16_t));
            }
            else {
                (void)ipv4b_cmsg_put(&enc, IPPROTO_IP, types[kind & 3], data,
                                     kind & 4 ? 8 * len : len);
            }
        }
        if (!(shape & 0x80)) {
            size_t cut = shape >> 3 & 15;

            enc.len -= cut < enc.len ? cut : enc.len;
        }
        for (size_t copy = 0; copy < 2; copy++) {
            shared[copy].control[c] = fuzz_exact(buf, enc.len);
            shared[copy].control_len[c] = enc.len;
        }
    }
}

/* A size of messages, or one at which so many of them are as long as a run can be, or longer. */
static size_t
read_size(fuzz_input *in)
{
    static const uint16_t edges[] = {
        IPV4B_GSO_BYTES / 2,     IPV4B_GSO_BYTES / 2 + 1, IPV4B_GSO_BYTES / 3,
        IPV4B_GSO_BYTES / 3 + 1, IPV4B_GSO_BYTES / 64,    IPV4B_GSO_BYTES / 64 + 1,
        IPV4B_GSO_BYTES,         IPV4B_GSO_BYTES + 1,
    };
    unsigned int size = fuzz_u16(in);

    return size < 0xf000 ? size : edges[size % (sizeof edges / sizeof edges[0])];
}

/* A row: how many, size, how much shorter the last is, buffers of each, path. */
static void
read_row(fuzz_input *in)
{
    /* Addresses that nobody looks at, but which tell all bytes of all messages apart. */
    static const uintptr_t start = 1U << 20;
    static uintptr_t address;
    unsigned int b = fuzz_u8(in), n = (b < 192 ? b % 8 : b - 180) + 1;
    size_t size = read_size(in), shorter = fuzz_u8(in), pieces = fuzz_u8(in);
    unsigned int path = fuzz_u8(in);

    pieces = pieces < 224 ? pieces % 4 : (pieces - 223) * PIECES;
    address = count == 0 ? start : address;
    for (; n > 0 && count < MESSAGES && pieces <= IOVECS - iovecs_used; n--, count++) {
        struct msghdr *h = &slots[count].msg_hdr;
        size_t left = pieces == 0 ? 0 : n == 1 && shorter < size ? size - shorter : size;
        const size_t copy = n & 1, control = path & 3;

        sizes[count] = left;
        memset(&slots[count], 0, sizeof slots[count]);
        slots[count].msg_len = (unsigned int)(UNSENT + count);
        h->msg_iov = iovecs + iovecs_used;
        h->msg_iovlen = pieces;
        for (size_t i = 0; i < pieces; i++) {
            /* The last takes what is left; those before have some of it or nothing. */
            size_t part = i == pieces - 1 ? left : path & 0x80 ? left / pieces : left / 2;

            iovecs[iovecs_used].iov_base = (void *)address;
            iovecs[iovecs_used++].iov_len = part;
            address += part;
            left -= part;
        }
        if (path & 4) {
            h->msg_name = &shared[copy].names[path >> 3 & 1];
            h->msg_namelen = sizeof(struct sockaddr_in);
        }
        if (control < CONTROLS) {
            h->msg_control = shared[copy].control[control];
            h->msg_controllen = shared[copy].control_len[control];
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    unsigned int mode = fuzz_u8(&in);

    count = iovecs_used = 0;
    for (size_t copy = 0; copy < 2; copy++) {
        for (uint16_t i = 0; i < 2; i++) {
            shared[copy].names[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = i};
        }
    }
    read_answers(&in);
    read_controls(&in);
    while (in.left != 0 && count < MESSAGES) {
        read_row(&in);
    }
    by_path = !(mode & 128);
    if (mode & 4) {
        test_plan(count * (mode & 3) / 3);
    }
    else {
        with_header = (mode & 3) == 3;
        mtu_mode = with_header ? 0 : mode & 3;
        test_send(mode & 8, mode & 16, mode & 32, mode & 64 ? MSG_MORE : 0);
    }
    fuzz_forget();
    return 0;
}
