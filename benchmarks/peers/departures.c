/* departures.c - what write_all with tx_timestamps does, in C: batches by sendmmsg, each datagram with the
 * control items that ask for its departure times.
 *
 * Arguments: PORT BATCHES N SIZE. Prints the processor's time in ns for a datagram; reading the times off the
 * error queue, between the batches, does not count.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST = 1024, OPT_ID = 81, KINDS = 2 | 256, REPORT = 16 | 64 | 128 | 2048 };

static long long
processor_time(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* Reads all times that are there. */
static void
drain(int fd)
{
    unsigned char control[512];
    struct msghdr h = {.msg_control = control};

    do {
        h.msg_controllen = sizeof control;
    } while (recvmsg(fd, &h, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0);
}

static void
put(struct cmsghdr *c, int type, uint32_t value)
{
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(c), &value, sizeof value);
}

int
main(int argc, char **argv)
{
    static struct mmsghdr slots[MOST];
    static _Alignas(struct cmsghdr) unsigned char control[MOST][2 * CMSG_SPACE(4)];
    static char data[65536];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct iovec iov = {.iov_base = data};
    const uint32_t report = REPORT;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    long long batches, n, used = 0;
    uint32_t id = 0;

    if (argc != 5 || fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &report, sizeof report) < 0) {
        return 2;
    }
    to.sin_port = htons((unsigned short)atoi(argv[1]));
    batches = atoll(argv[2]);
    n = atoll(argv[3]);
    iov.iov_len = (size_t)atoll(argv[4]);
    if (n < 1 || n > MOST || iov.iov_len > sizeof data) {
        return 2;
    }
    for (long long batch = 0; batch < batches; batch++) {
        long long before = processor_time();

        for (long long i = 0; i < n; i++) {
            struct msghdr *h = &slots[i].msg_hdr;

            *h = (struct msghdr){.msg_name = &to,
                                 .msg_namelen = sizeof to,
                                 .msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = control[i],
                                 .msg_controllen = sizeof control[i]};
            put(CMSG_FIRSTHDR(h), SO_TIMESTAMPING, KINDS);
            put((struct cmsghdr *)(control[i] + CMSG_SPACE(4)), OPT_ID, ++id);
        }
        if (sendmmsg(fd, slots, (unsigned int)n, 0) != n) {
            perror("sendmmsg");
            return 1;
        }
        used += processor_time() - before;
        drain(fd);
    }
    printf("%.1f\n", (double)used / (double)(batches * n));
    return 0;
}
