/* threads.c - the bare C loop of lane.h in several threads, each with a connection of its own.
 *
 * Arguments: THREADS READERS OFFLOAD MILLISECONDS. So many threads write batches of 64 datagrams of 1200
 * bytes to as many sockets that share a port. With READERS as many threads read them; without, a filter
 * drops what comes. Prints how many datagrams were written, how many read, and in how many
 * nanoseconds.
 */
#include "lane.h"

#include <linux/filter.h>
#include <pthread.h>
#include <stdatomic.h>

enum { BATCH = 64, SIZE = 1200 };

struct worker {
    pthread_t thread;
    struct lane *lane;
    int fd;
    int offload;
    int reads;
    long long moved;
};

static atomic_int over;

static void
drop_all(int fd)
{
    struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &none};

    check(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0, "filter");
}

/* A reader looks up now and then, to see that it is over. */
static void
wait_shortly(int fd)
{
    struct timeval tenth = {.tv_usec = 100000};

    check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tenth, sizeof tenth) != 0, "SO_RCVTIMEO");
}

static void *
work(void *argument)
{
    struct worker *w = argument;

    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        int moved = BATCH;

        if (w->reads) {
            moved = w->offload ? receive_offload(w->lane, w->fd, 0, BATCH, MSG_WAITFORONE)
                               : receive_plain(w->lane, w->fd, 0, BATCH, MSG_WAITFORONE);
            check(moved < 0 && errno != EAGAIN && errno != EINTR, "recvmmsg");
        }
        else if (w->offload) {
            send_offload(w->lane, w->fd, 0, BATCH);
        }
        else {
            send_plain(w->lane, w->fd, 0, BATCH);
        }
        w->moved += moved > 0 ? moved : 0;
    }
    return NULL;
}

static struct worker
worker_new(int fd, int offload, int reads, struct sockaddr_in *to)
{
    struct worker w = {.lane = lane_new(), .fd = fd, .offload = offload, .reads = reads};

    lane_prepare(w.lane, SIZE, 0, to);
    return w;
}

int
main(int argc, char **argv)
{
    int threads, readers, offload, milliseconds, count = 0;
    long long written = 0, read_ = 0, start;
    struct sockaddr_in to = {0}, from;
    struct worker *workers;

    check(argc != 5, "arguments");
    threads = atoi(argv[1]);
    readers = atoi(argv[2]);
    offload = atoi(argv[3]);
    milliseconds = atoi(argv[4]);
    workers = calloc(2 * (size_t)threads, sizeof *workers);
    check(workers == NULL, "memory");
    for (int i = 0; i < threads; i++) {
        int receiver = bound(&to, 1);

        if (offload) {
            switch_on(receiver, IPPROTO_UDP, UDP_GRO_OPTION, "UDP_GRO");
        }
        if (readers) {
            wait_shortly(receiver);
            workers[count++] = worker_new(receiver, offload, 1, &to);
        }
        else {
            drop_all(receiver);
        }
        workers[count++] = worker_new(bound(&from, 0), offload, 0, &to);
    }
    start = now();
    for (int i = 0; i < count; i++) {
        check(pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0, "pthread_create");
    }
    usleep((useconds_t)milliseconds * 1000);
    atomic_store(&over, 1);
    for (int i = 0; i < count; i++) {
        check(pthread_join(workers[i].thread, NULL) != 0, "pthread_join");
        *(workers[i].reads ? &read_ : &written) += workers[i].moved;
    }
    printf("%lld %lld %lld\n", written, read_, now() - start);
    return 0;
}
