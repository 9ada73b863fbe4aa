/* readable.c - see readable.h. */
#include "readable.h"

/* Also in a build without recvmmsg, which has a queue too. */
#if defined(__linux__)

#include <sys/epoll.h>
#include <sys/eventfd.h>

struct ipv4b_readable {
    int epoll;
    int event;  /* an eventfd: its count is 1 while the owner has something */
    int socket; /* the number that is watched, or -1 */
    bool has;
};

static int
watch(int epoll, int fd)
{
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted) < 0 ? -errno : 0;
}

int
ipv4b_readable_new(ipv4b_readable **out)
{
    ipv4b_readable *r = malloc(sizeof *r);
    int error;

    if (r == NULL) {
        return -ENOMEM;
    }
    *r = (ipv4b_readable){.epoll = epoll_create1(EPOLL_CLOEXEC), .event = -1, .socket = -1};
    error = r->epoll < 0 ? -errno : 0;
    if (error == 0) {
        r->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        error = r->event < 0 ? -errno : watch(r->epoll, r->event);
    }
    if (error < 0) {
        ipv4b_readable_free(r);
        return error;
    }
    *out = r;
    return 0;
}

void
ipv4b_readable_free(ipv4b_readable *r)
{
    if (r == NULL) {
        return;
    }
    if (r->event >= 0) {
        (void)close(r->event);
    }
    if (r->epoll >= 0) {
        (void)close(r->epoll);
    }
    free(r);
}

int
ipv4b_readable_fd(ipv4b_readable *r, int socket)
{
    int error;

    if (r->socket >= 0 && r->socket != socket) {
        /* A closed one is gone already. */
        (void)epoll_ctl(r->epoll, EPOLL_CTL_DEL, r->socket, NULL);
        r->socket = -1;
    }
    /* Added again each time, because the number may belong to another socket now. */
    error = watch(r->epoll, socket);
    if (error < 0 && error != -EEXIST) {
        return error;
    }
    r->socket = socket;
    return r->epoll;
}

void
ipv4b_readable_set(ipv4b_readable *r, bool has)
{
    uint64_t count = 1;
    ssize_t done;

    if (r->has == has) {
        return;
    }
    /* Neither call can block, because the count is 0 or 1 (eventfd(2)). */
    do {
        done = has ? write(r->event, &count, sizeof count) : read(r->event, &count, sizeof count);
    } while (done < 0 && errno == EINTR);
    r->has = has;
}

#else

struct ipv4b_readable {
    char unused;
};

int
ipv4b_readable_new(ipv4b_readable **out)
{
    (void)out;
    return -ENOSYS;
}

void
ipv4b_readable_free(ipv4b_readable *r)
{
    free(r);
}

int
ipv4b_readable_fd(ipv4b_readable *r, int socket)
{
    (void)r;
    (void)socket;
    return -ENOSYS;
}

void
ipv4b_readable_set(ipv4b_readable *r, bool has)
{
    (void)r;
    (void)has;
}

#endif
