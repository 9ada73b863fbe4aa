/* wait.c - see wait.h. */
#include "wait.h"

enum { NS_PER_S = 1000000000, NS_PER_MS = 1000000 };

#if IPV4B_HAVE_EVENTFD

int
ipv4b_wake_open(ipv4b_wake *w)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return -errno;
    }
    w->read_fd = w->write_fd = fd;
    return 0;
}

#else

int
ipv4b_wake_open(ipv4b_wake *w)
{
    int fds[2];

    if (pipe(fds) < 0) {
        return -errno;
    }
    /* One byte is ever written, so the pipe cannot be full and needs no O_NONBLOCK. */
    (void)fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    w->read_fd = fds[0];
    w->write_fd = fds[1];
    return 0;
}

#endif

void
ipv4b_wake_signal(const ipv4b_wake *w)
{
    uint64_t one = 1; /* an eventfd takes eight bytes */
    ssize_t r;

    do {
        r = write(w->write_fd, &one, sizeof one);
    } while (r < 0 && errno == EINTR);
}

void
ipv4b_wake_close(ipv4b_wake *w)
{
    (void)close(w->read_fd);
    if (w->write_fd != w->read_fd) {
        (void)close(w->write_fd);
    }
}

int64_t
ipv4b_now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* Milliseconds until the deadline for poll, rounded up so that poll never returns too early; -1
 * for no deadline. A wait that is too long for an int ends early. The caller looks at the clock
 * and waits again. */
static int
milliseconds_until(int64_t deadline)
{
    int64_t left;

    if (deadline == IPV4B_FOREVER) {
        return -1;
    }
    left = deadline - ipv4b_now();
    if (left <= 0) {
        return 0;
    }
    left = (left + NS_PER_MS - 1) / NS_PER_MS;
    return left > INT_MAX ? INT_MAX : (int)left;
}

enum { LOOK_AGAIN_NS = 50000000 };

/* Whether the events of poll or epoll make another attempt useful (EPOLLIN is POLLIN, and so on:
 * epoll_ctl(2)). A socket that was shut down is readable for ever, with nothing to read. */
static bool
is_useful(uint32_t found, short events)
{
    int bits = (int)found;

    return (bits & events) != 0 && !((bits & IPV4B_POLLRDHUP) && events == POLLIN);
}

#if IPV4B_HAVE_EPOLL

/* Waits for a change. Edge-triggered epoll reports the present state once, and then only
 * changes. A datagram that came after the caller's attempt and before our first look is part of
 * the present state. Therefore the wait is short, and the caller tries again. */
static int
wait_change(int fd, short events, const ipv4b_wake *wake, int signals, int64_t deadline)
{
    uint32_t wanted =
        (uint32_t)events; /* EPOLLIN is POLLIN and EPOLLOUT is POLLOUT (epoll_ctl(2)) */
    struct epoll_event on_socket = {.events = EPOLLET | EPOLLRDHUP | wanted, .data.fd = fd};
    struct epoll_event on_wake = {.events = EPOLLIN, .data.fd = -1};
    struct epoll_event on_signal = {.events = EPOLLIN, .data.fd = -2};
    struct epoll_event got = {0};
    bool only_error = false;
    int64_t soon = ipv4b_now() + LOOK_AGAIN_NS;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int r = -1;

    if (epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &on_socket) == 0 &&
        epoll_ctl(epoll, EPOLL_CTL_ADD, wake->read_fd, &on_wake) == 0 &&
        (signals < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &on_signal) == 0)) {
        r = epoll_wait(epoll, &got, 1, 0);
        only_error = r == 1 && got.data.fd == fd && !is_useful(got.events, events);
        if (r == 0 || only_error) {
            /* The caller knows this state. The next event is a change. */
            r = epoll_wait(epoll, &got, 1, milliseconds_until(soon < deadline ? soon : deadline));
            only_error = r == 1 && got.data.fd == fd && !is_useful(got.events, events);
        }
    }
    r = r < 0                         ? -errno
        : r == 1 && got.data.fd == -2 ? -EINTR
        : r == 0 || only_error        ? IPV4B_WAIT_ERROR
                                      : IPV4B_WAIT_READY;
    if (epoll >= 0) {
        (void)close(epoll);
    }
    /* If the socket was closed, the epoll may have got its number. */
    return epoll == fd ? -EBADF : r;
}

#else

/* poll always reports errors, so the caller tries the socket again after a while. */
static int
wait_change(int fd, short events, const ipv4b_wake *wake, int signals, int64_t deadline)
{
    struct pollfd fds[2] = {
        {.fd = wake->read_fd, .events = POLLIN},
        {.fd = signals, .events = POLLIN},
    };
    int64_t soon = ipv4b_now() + LOOK_AGAIN_NS;

    (void)fd;
    (void)events;
    if (poll(fds, 2, milliseconds_until(soon < deadline ? soon : deadline)) < 0) {
        return -errno;
    }
    return fds[1].revents != 0 ? -EINTR : IPV4B_WAIT_ERROR;
}

#endif

int
ipv4b_wait(int fd, short events, const ipv4b_wake *wake, int signals, int64_t deadline,
           bool fruitless)
{
    /* poll passes over a negative descriptor (poll(2)). */
    struct pollfd fds[3] = {
        {.fd = fd, .events = (short)(events | IPV4B_POLLRDHUP)},
        {.fd = wake->read_fd, .events = POLLIN},
        {.fd = signals, .events = POLLIN},
    };
    int r;

    if (fruitless) {
        return wait_change(fd, events, wake, signals, deadline);
    }
    r = poll(fds, signals < 0 ? 2 : 3, milliseconds_until(deadline));
    if (r <= 0) {
        return r < 0 ? -errno : IPV4B_WAIT_TIMEOUT;
    }
    if (fds[2].revents != 0) {
        return -EINTR;
    }
    if (fds[0].revents & POLLNVAL) {
        return -EBADF;
    }
    return fds[0].revents != 0 && !is_useful((uint32_t)fds[0].revents, events) ? IPV4B_WAIT_ERROR
                                                                               : IPV4B_WAIT_READY;
}
