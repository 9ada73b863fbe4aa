/* faults.c - loaded before the C library, it makes chosen system calls fail when it is told to.
 *
 * faults_arm() names a call, an errno, how many messages or calls pass before it fails and how often
 * it fails then; after that it works again. A batch that reaches the place in its middle stops short
 * of it, and the next call fails there: so does the kernel (sendmmsg(2), recvmmsg(2)).
 *
 * Locking: none. The process that uses it has one thread.
 */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

typedef struct {
    const char *name;
    int error;   /* what it fails with; 0 of poll: it announces an error, and nothing else */
    long before; /* messages or calls that still pass */
    long times;  /* how often it still fails, -1 for ever */
    long hits;   /* how often it has failed */
    void *next;  /* the C library's own */
} fault;

enum {
    RECVMMSG,
    SENDMMSG,
    RECVMSG,
    SENDMSG,
    POLL,
    SETSOCKOPT,
    GETSOCKOPT,
    GETSOCKNAME,
    GETPEERNAME,
    EVENTFD,
    PIPE,
    PIPE2,
    FCNTL,
    WRITE,
    CLOSE,
    EPOLL_CREATE1,
    EPOLL_CTL,
    EPOLL_WAIT,
    CALLS
};

static fault faults[CALLS] = {
    [RECVMMSG] = {.name = "recvmmsg"},
    [SENDMMSG] = {.name = "sendmmsg"},
    [RECVMSG] = {.name = "recvmsg"},
    [SENDMSG] = {.name = "sendmsg"},
    [POLL] = {.name = "poll"},
    [SETSOCKOPT] = {.name = "setsockopt"},
    [GETSOCKOPT] = {.name = "getsockopt"},
    [GETSOCKNAME] = {.name = "getsockname"},
    [GETPEERNAME] = {.name = "getpeername"},
    [EVENTFD] = {.name = "eventfd"},
    [PIPE] = {.name = "pipe"},
    [PIPE2] = {.name = "pipe2"},
    [FCNTL] = {.name = "fcntl"},
    [WRITE] = {.name = "write"},
    [CLOSE] = {.name = "close"},
    [EPOLL_CREATE1] = {.name = "epoll_create1"},
    [EPOLL_CTL] = {.name = "epoll_ctl"},
    [EPOLL_WAIT] = {.name = "epoll_wait"},
};

static fault *
find(const char *name)
{
    for (int i = 0; i < CALLS; i++) {
        if (strcmp(faults[i].name, name) == 0) {
            return &faults[i];
        }
    }
    return NULL;
}

/* Returns 0, or -1 for a call that is not known. */
int
faults_arm(const char *name, int error, long before, long times)
{
    fault *f = find(name);

    if (f == NULL) {
        return -1;
    }
    f->error = error;
    f->before = before;
    f->times = times;
    f->hits = 0;
    return 0;
}

/* Lets the call work again; returns how often it has failed. */
long
faults_disarm(const char *name)
{
    fault *f = find(name);

    if (f == NULL) {
        return -1;
    }
    f->times = 0;
    return f->hits;
}

/* How many of n messages may pass; 0 if the call fails, with errno set. */
static unsigned int
pass(int call, unsigned int n)
{
    fault *f = &faults[call];

    if (f->next == NULL) {
        f->next = dlsym(RTLD_NEXT, f->name);
    }
    if (f->times == 0 || n == 0) {
        return n;
    }
    if (f->before > 0) {
        return f->before < (long)n ? (unsigned int)f->before : n;
    }
    f->times -= f->times > 0;
    f->hits++;
    errno = f->error;
    return 0;
}

/* Counts what has passed. */
static int
moved(int call, int r)
{
    fault *f = &faults[call];

    if (f->times != 0 && r > 0) {
        f->before -= f->before < r ? f->before : r;
    }
    return r;
}

/* The next function of that name, as the type of the one that stands here. */
#define NEXT(call, function) ((__typeof__(&function))faults[call].next)

/* A call that fails or passes as a whole. */
#define WHOLE(call, expression)                                                                    \
    if (pass(call, 1) == 0) {                                                                      \
        return -1;                                                                                 \
    }                                                                                              \
    (void)moved(call, 1);                                                                          \
    return (expression)

int
recvmmsg(int fd, struct mmsghdr *slots, unsigned int n, int flags, struct timespec *timeout)
{
    unsigned int some = pass(RECVMMSG, n);

    return some < 1 && n > 0
               ? -1
               : moved(RECVMMSG, NEXT(RECVMMSG, recvmmsg)(fd, slots, some, flags, timeout));
}

int
sendmmsg(int fd, struct mmsghdr *slots, unsigned int n, int flags)
{
    unsigned int some = pass(SENDMMSG, n);

    return some < 1 && n > 0 ? -1
                             : moved(SENDMMSG, NEXT(SENDMMSG, sendmmsg)(fd, slots, some, flags));
}

ssize_t
recvmsg(int fd, struct msghdr *header, int flags)
{
    WHOLE(RECVMSG, NEXT(RECVMSG, recvmsg)(fd, header, flags));
}

ssize_t
sendmsg(int fd, const struct msghdr *header, int flags)
{
    /* A write of one message is a sendmmsg of one to the tests. */
    if (faults[SENDMMSG].times != 0) {
        if (pass(SENDMMSG, 1) == 0) {
            return -1;
        }
        (void)moved(SENDMMSG, 1);
    }
    WHOLE(SENDMSG, NEXT(SENDMSG, sendmsg)(fd, header, flags));
}

int
poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (pass(POLL, 1) == 0) {
        if (faults[POLL].error != 0) {
            return -1;
        }
        fds[0].revents = POLLERR;
        return 1;
    }
    (void)moved(POLL, 1);
    return NEXT(POLL, poll)(fds, n, timeout);
}

int
setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    WHOLE(SETSOCKOPT, NEXT(SETSOCKOPT, setsockopt)(fd, level, name, value, len));
}

int
getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    WHOLE(GETSOCKOPT, NEXT(GETSOCKOPT, getsockopt)(fd, level, name, value, len));
}

int
getsockname(int fd, struct sockaddr *name, socklen_t *len)
{
    WHOLE(GETSOCKNAME, NEXT(GETSOCKNAME, getsockname)(fd, name, len));
}

int
getpeername(int fd, struct sockaddr *name, socklen_t *len)
{
    WHOLE(GETPEERNAME, NEXT(GETPEERNAME, getpeername)(fd, name, len));
}

int
eventfd(unsigned int count, int flags)
{
    WHOLE(EVENTFD, NEXT(EVENTFD, eventfd)(count, flags));
}

int
pipe(int fds[2])
{
    WHOLE(PIPE, NEXT(PIPE, pipe)(fds));
}

int
pipe2(int fds[2], int flags)
{
    WHOLE(PIPE2, NEXT(PIPE2, pipe2)(fds, flags));
}

int
fcntl(int fd, int command, ...)
{
    va_list rest;
    void *value; /* an int comes in the same register */

    va_start(rest, command);
    value = va_arg(rest, void *);
    va_end(rest);
    WHOLE(FCNTL, NEXT(FCNTL, fcntl)(fd, command, value));
}

/* Of the eight bytes that wake a call, and no others. */
ssize_t
write(int fd, const void *bytes, size_t n)
{
    if (n != sizeof(uint64_t)) {
        return syscall(SYS_write, fd, bytes, n);
    }
    WHOLE(WRITE, NEXT(WRITE, write)(fd, bytes, n));
}

/* The descriptor is gone, whatever the kernel says (close(2)). */
int
close(int fd)
{
    bool passes = pass(CLOSE, 1) == 1;
    int r = NEXT(CLOSE, close)(fd);

    if (passes) {
        (void)moved(CLOSE, 1);
        return r;
    }
    errno = faults[CLOSE].error;
    return -1;
}

int
epoll_create1(int flags)
{
    WHOLE(EPOLL_CREATE1, NEXT(EPOLL_CREATE1, epoll_create1)(flags));
}

int
epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    WHOLE(EPOLL_CTL, NEXT(EPOLL_CTL, epoll_ctl)(epoll, operation, fd, event));
}

int
epoll_wait(int epoll, struct epoll_event *events, int n, int timeout)
{
    WHOLE(EPOLL_WAIT, NEXT(EPOLL_WAIT, epoll_wait)(epoll, events, n, timeout));
}
