/* loop.c - the bare C loop of lane.h, timed and counted.
 *
 * It reads a measurement a line, "batch size control offload bursts burst", and answers with a line of
 * the nanoseconds of each burst's sending and one of its receiving. Both sockets are its own, on
 * loopback; a burst is sent, and then received from a full queue.
 *
 * With the arguments "fixed|list FEW MANY" it makes calls to be counted by callgrind, in the way of
 * counted.py: a line for each row, and a mark around FEW calls and around MANY.
 */
#include "lane.h"

enum { MOST_BURSTS = 100000 };

static long long sent_ns[MOST_BURSTS], received_ns[MOST_BURSTS];

static int
least(int a, int b)
{
    return a < b ? a : b;
}

static void
measure(struct lane *lane, int batch, int size, int control, int offload, int bursts, int burst)
{
    struct sockaddr_in to, from;
    int receiver = bound(&to, 0), sender = bound(&from, 0);

    if (control) {
        want_control(receiver);
    }
    if (offload) {
        switch_on(receiver, IPPROTO_UDP, UDP_GRO_OPTION, "UDP_GRO");
    }
    lane_prepare(lane, size, control, &to);
    for (int b = 0; b < bursts; b++) {
        long long start = now();

        for (int i = 0; i < burst; i += batch) {
            if (offload) {
                send_offload(lane, sender, i, least(batch, burst - i));
            }
            else {
                send_plain(lane, sender, i, least(batch, burst - i));
            }
        }
        sent_ns[b] = now() - start;
        start = now();
        for (int done = 0; done < burst;) {
            int want = least(batch, burst - done);
            int got = offload ? receive_offload(lane, receiver, done, want, MSG_DONTWAIT)
                              : receive_plain(lane, receiver, done, want, MSG_DONTWAIT);

            check(got <= 0, "recvmmsg");
            done += got;
        }
        received_ns[b] = now() - start;
    }
    close(receiver);
    close(sender);
}

/* What a program has that keeps its messages in a list of its own: the slots of a call are filled from
 * them, and the results go back to them. It is what read_batch and write_batch do for any list. */
struct message {
    void *base;
    size_t len;
    struct sockaddr_in *name;
    void *control;
    size_t controllen;
    unsigned n;
    size_t nn;
    int flags;
};

static void
fill_slots(struct mmsghdr *slots, struct iovec *iov, struct message *const *list, int count)
{
    for (int i = 0; i < count; i++) {
        const struct message *m = list[i];
        struct msghdr *h = &slots[i].msg_hdr;

        iov[i].iov_base = m->base;
        iov[i].iov_len = m->len;
        h->msg_iov = &iov[i];
        h->msg_iovlen = 1;
        h->msg_name = m->name;
        h->msg_namelen = sizeof *m->name;
        h->msg_control = m->control;
        h->msg_controllen = m->controllen;
        h->msg_flags = 0;
    }
}

static void
keep_results(const struct mmsghdr *slots, struct message *const *list, int count)
{
    for (int i = 0; i < count; i++) {
        struct message *m = list[i];

        m->n = slots[i].msg_len;
        m->nn = slots[i].msg_hdr.msg_controllen;
        m->flags = slots[i].msg_hdr.msg_flags;
    }
}

static void
make_list(struct message *messages, struct message **list, const struct mmsghdr *like, size_t room)
{
    for (int i = 0; i < MOST; i++) {
        const struct msghdr *h = &like[i].msg_hdr;

        messages[i] = (struct message){.base = h->msg_iov->iov_base,
                                       .len = h->msg_iov->iov_len,
                                       .name = h->msg_name,
                                       .control = h->msg_control,
                                       .controllen = room ? room : h->msg_controllen};
        list[i] = &messages[i];
    }
}

/* Where callgrind dumps. */
__attribute__((noinline)) void
mark(void)
{
    __asm__ volatile("");
}

/* Writes, and reads what was written if that is wanted, from fixed slots. */
static void
call_fixed(struct lane *lane, int sender, int receiver, int reading, int batch, int calls)
{
    for (int i = 0; i < calls; i++) {
        send_plain(lane, sender, 0, batch);
        if (reading) {
            check(receive_plain(lane, receiver, 0, batch, MSG_DONTWAIT) != batch, "recvmmsg");
        }
    }
}

/* The same for lists of messages. */
static void
call_list(struct lane *lane, int sender, int receiver, int reading, int batch, int calls)
{
    static struct message outgoing[MOST], incoming[MOST];
    static struct message *out_list[MOST], *in_list[MOST];

    make_list(outgoing, out_list, lane->out, 0);
    make_list(incoming, in_list, lane->in, lane->control ? CONTROL : 0);
    for (int i = 0; i < calls; i++) {
        fill_slots(lane->out, lane->out_iov, out_list, batch);
        check(sendmmsg(sender, lane->out, (unsigned)batch, 0) != batch, "sendmmsg");
        keep_results(lane->out, out_list, batch);
        if (reading) {
            fill_slots(lane->in, lane->in_iov, in_list, batch);
            check(recvmmsg(receiver, lane->in, (unsigned)batch, MSG_DONTWAIT, NULL) != batch,
                  "recvmmsg");
            keep_results(lane->in, in_list, batch);
        }
    }
}

static void
count_row(struct lane *lane, int from_list, int reading, int batch, int control, const int times[2])
{
    struct sockaddr_in to, from;
    int receiver = bound(&to, 0), sender = bound(&from, 0);
    const char *more = control ? ", TTL and PKTINFO" : "";

    lane_prepare(lane, 64, control, &to);
    if (control) {
        want_control(receiver);
    }
    mark();
    for (int i = 0; i < 2; i++) {
        (from_list ? call_list : call_fixed)(lane, sender, receiver, reading, batch, times[i]);
        mark();
    }
    if (reading) {
        printf("read_batch of %d%s\t%d\twrite_batch of %d%s\n", batch, more, batch, batch, more);
    }
    else {
        printf("write_batch of %d%s\t%d\t\n", batch, more, batch);
    }
    close(receiver);
    close(sender);
}

static void
count(struct lane *lane, int from_list, const int times[2])
{
    static const int batches[] = {1, 8, 64};

    for (int control = 0; control < 2; control++) {
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            count_row(lane, from_list, 1, batches[i], control, times);
            count_row(lane, from_list, 0, batches[i], control, times);
        }
    }
}

static void
print_times(const long long *times, int count)
{
    for (int i = 0; i < count; i++) {
        printf("%lld%c", times[i], i + 1 < count ? ' ' : '\n');
    }
}

int
main(int argc, char **argv)
{
    struct lane *lane = lane_new();
    int batch, size, control, offload, bursts, burst;

    if (argc == 4) {
        count(lane, strcmp(argv[1], "list") == 0, (int[]){atoi(argv[2]), atoi(argv[3])});
        lane_free(lane);
        return 0;
    }
    while (scanf("%d %d %d %d %d %d", &batch, &size, &control, &offload, &bursts, &burst) == 6) {
        measure(lane, batch, size, control, offload, bursts, burst);
        print_times(sent_ns, bursts);
        print_times(received_ns, bursts);
        fflush(stdout);
    }
    lane_free(lane);
    return 0;
}
