/* pace.c - write_paced in C: sends datagrams to a port of loopback on a schedule.
 *
 * Arguments: PORT COUNT INTERVAL_NS BURST SIZE. A burst goes by sendmmsg. The wait is that of csrc/core/pace.c: a
 * sleep until shortly before the time, and then a spin.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST = 1024, SPIN_NS = 120000 };

static long long
now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void
wait_until(long long due)
{
    if (due - now() > SPIN_NS) {
        long long until = due - SPIN_NS;
        struct timespec ts = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
    }
    while (now() < due) {
    }
}

int
main(int argc, char **argv)
{
    static struct mmsghdr slots[MOST];
    static char data[65536];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct iovec iov = {.iov_base = data};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    long long count, interval, burst, start;

    if (argc != 6 || fd < 0) {
        return 2;
    }
    to.sin_port = htons((unsigned short)atoi(argv[1]));
    count = atoll(argv[2]);
    interval = atoll(argv[3]);
    burst = atoll(argv[4]);
    iov.iov_len = (size_t)atoll(argv[5]);
    if (burst < 1 || burst > MOST || iov.iov_len > sizeof data) {
        return 2;
    }
    for (int i = 0; i < burst; i++) {
        slots[i].msg_hdr = (struct msghdr){
            .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1};
    }
    start = now();
    for (long long i = 0; i < count; i += burst) {
        long long n = count - i < burst ? count - i : burst;

        wait_until(start + i / burst * interval);
        if (sendmmsg(fd, slots, (unsigned int)n, 0) != n) {
            perror("sendmmsg");
            return 1;
        }
    }
    return 0;
}
