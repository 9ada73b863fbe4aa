/* test_wait.c - what ends a wait: the socket, a wake-up, the deadline or a signal. */
#include "signal_pipe.h"
#include "wait.h"

#include "loopback.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

enum { WAITERS = 8, NS_PER_MS = 1000000 };

/* Far enough to mean that something did not come, and near enough to end. */
static int64_t
limit(void)
{
    return ipv4b_now() + INT64_C(10000) * NS_PER_MS;
}

static ipv4b_wake
wake_new(void)
{
    ipv4b_wake wake;

    require(ipv4b_wake_open(&wake) == 0, "wake");
    return wake;
}

/* A connected socket whose peer has answered that nobody listens there. */
static int
refused_socket(void)
{
    struct sockaddr_in name, dead = dead_address();
    struct pollfd p = {.fd = loopback_socket(&name)};
    int on = 1;

    require(setsockopt(p.fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0 &&
                connect(p.fd, (struct sockaddr *)&dead, sizeof dead) == 0 &&
                send(p.fd, "x", 1, 0) == 1 && poll(&p, 1, 5000) == 1,
            "a refused datagram");
    CHECK_INT(p.revents, POLLERR);
    return p.fd;
}

/* No wait ends before its deadline, and one that is past is none at all. */
static void
test_deadline(void)
{
    static const int64_t ahead[] = {INT64_MIN / 2, -1,      0,       1,       1000,
                                    999999,        1000001, 5000001, 20000000};
    ipv4b_wake wake = wake_new();
    struct sockaddr_in name;
    int fd = loopback_socket(&name);

    for (size_t i = 0; i < COUNT_OF(ahead); i++) {
        int64_t start = ipv4b_now(), end = start + ahead[i];

        CHECK_INT(ipv4b_wait(fd, POLLIN, &wake, -1, end, false), IPV4B_WAIT_TIMEOUT);
        CHECK(ipv4b_now() >= end);
        CHECK(ipv4b_now() - start < INT64_C(5000) * NS_PER_MS);
        /* poll passes over a descriptor of -1: a pause. */
        CHECK_INT(ipv4b_wait(-1, 0, &wake, -1, end, false), IPV4B_WAIT_TIMEOUT);
        CHECK(ipv4b_now() >= end);
    }
    ipv4b_wake_close(&wake);
    (void)close(fd);
}

static void
test_socket(void)
{
    ipv4b_wake wake = wake_new();
    struct sockaddr_in name;
    int fd = loopback_socket(&name), refused = refused_socket();

    CHECK_INT(ipv4b_wait(fd, POLLOUT, &wake, -1, IPV4B_FOREVER, false), IPV4B_WAIT_READY);
    require(sendto(fd, "", 0, 0, (struct sockaddr *)&name, sizeof name) == 0, "sendto");
    CHECK_INT(ipv4b_wait(fd, POLLIN, &wake, -1, IPV4B_FOREVER, false), IPV4B_WAIT_READY);
    CHECK_INT(ipv4b_wait(fd, POLLIN, &wake, -1, IPV4B_FOREVER - 1, true),
              IPV4B_HAVE_EPOLL ? IPV4B_WAIT_READY : IPV4B_WAIT_ERROR);
    /* An error alone, with what was waited for, and where that is nothing else. */
    CHECK_INT(ipv4b_wait(refused, POLLIN, &wake, -1, IPV4B_FOREVER, false), IPV4B_WAIT_ERROR);
    CHECK_INT(ipv4b_wait(refused, POLLOUT, &wake, -1, IPV4B_FOREVER, false), IPV4B_WAIT_READY);
    CHECK_INT(ipv4b_wait(refused, 0, &wake, -1, IPV4B_FOREVER, false), IPV4B_WAIT_ERROR);
    (void)close(fd);
    CHECK_INT(ipv4b_wait(fd, POLLIN, &wake, -1, IPV4B_FOREVER, false), -EBADF);
    if (IPV4B_HAVE_EPOLL) {
        CHECK_INT(ipv4b_wait(fd, POLLIN, &wake, -1, IPV4B_FOREVER, true), -EBADF);
    }
    ipv4b_wake_close(&wake);
    (void)close(refused);
}

typedef struct {
    const ipv4b_wake *wake;
    int fd;
    bool fruitless;
    int result;
} waiter;

static bool
is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* Waits, and where that was short looks and waits again, as a caller does. */
static void *
waiter_run(void *arg)
{
    waiter *w = arg;
    int64_t end = limit();

    do {
        w->result = ipv4b_wait(w->fd, POLLIN, w->wake, -1, end, w->fruitless);
    } while (w->result == IPV4B_WAIT_ERROR && ipv4b_now() < end && !is_readable(w->wake->read_fd) &&
             !is_readable(w->fd));
    return NULL;
}

/* What comes ends all waits, now and later: a datagram those for its socket, a wake-up those that
 * share it. */
static void
test_threads(void)
{
    struct sockaddr_in name, other;
    int fd = loopback_socket(&name), tx = loopback_socket(&other), refused = refused_socket();
    int64_t start = ipv4b_now();
    ipv4b_wake wake = wake_new();

    CHECK(fcntl(wake.read_fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(wake.write_fd, F_GETFD) & FD_CLOEXEC);
    for (int by_wake = 0; by_wake < 2; by_wake++) {
        pthread_t threads[WAITERS];
        waiter waiters[WAITERS];

        for (int i = 0; i < WAITERS; i++) {
            bool fruitless = i % 2;
            int which = by_wake && fruitless ? refused : fd;

            waiters[i] = (waiter){.wake = &wake, .fd = which, .fruitless = fruitless};
            require(pthread_create(&threads[i], NULL, waiter_run, &waiters[i]) == 0, "thread");
        }
        if (by_wake) {
            ipv4b_wake_signal(&wake);
        }
        else {
            CHECK_INT(sendto(tx, "x", 1, 0, (struct sockaddr *)&name, sizeof name), 1);
        }
        for (int i = 0; i < WAITERS; i++) {
            require(pthread_join(threads[i], NULL) == 0, "join");
            CHECK(waiters[i].result == IPV4B_WAIT_READY ||
                  (waiters[i].fruitless && waiters[i].result == IPV4B_WAIT_ERROR));
        }
        CHECK_INT(ipv4b_wait(fd, POLLIN, &wake, -1, IPV4B_FOREVER, false), IPV4B_WAIT_READY);
        CHECK_INT(recv(fd, NULL, 0, MSG_DONTWAIT), by_wake ? -1 : 0);
    }
    CHECK(ipv4b_now() - start < INT64_C(5000) * NS_PER_MS);
    ipv4b_wake_close(&wake);
    (void)close(fd);
    (void)close(tx);
    (void)close(refused);
}

/* Who waits behind an error that stands there looks now and then, and does not spin. */
static void
test_no_spin(void)
{
    static const short events[] = {0, POLLIN};
    ipv4b_wake wake = wake_new();
    int fd = refused_socket();

    for (size_t i = 0; i < COUNT_OF(events); i++) {
        int64_t end = ipv4b_now() + 100 * NS_PER_MS;
        int looks = 0, r = IPV4B_WAIT_ERROR;

        CHECK_INT(ipv4b_wait(fd, events[i], &wake, -1, end, false), IPV4B_WAIT_ERROR);
        for (; ipv4b_now() < end && r >= 0; looks++) {
            r = ipv4b_wait(fd, events[i], &wake, -1, end, true);
        }
        CHECK(r >= 0);
        CHECK(looks >= 1 && looks <= 15);
    }
    ipv4b_wake_close(&wake);
    (void)close(fd);
}

static void
on_signal(int number)
{
    (void)number;
}

/* A signal that comes every few milliseconds, so that none comes too early for good. */
static void
test_signal(void)
{
    const struct sigaction action = {.sa_handler = on_signal};
    struct itimerval timer = {{.tv_usec = 3000}, {.tv_usec = 3000}};
    ipv4b_wake wake = wake_new();
    int fd = refused_socket(), r;

    require(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0,
            "timer");
    CHECK_INT(ipv4b_wait(-1, 0, &wake, -1, limit(), false), -EINTR);
    do {
        r = ipv4b_wait(fd, POLLIN, &wake, -1, limit(), true);
    } while (r == IPV4B_WAIT_ERROR);
    timer.it_value.tv_usec = 0;
    require(setitimer(ITIMER_REAL, &timer, NULL) == 0, "timer");
    CHECK_INT(r, -EINTR);
    ipv4b_wake_close(&wake);
    (void)close(fd);
}

/* A byte in the pipe of signals ends every kind of wait, and is taken out and passed on. */
static void
test_signal_pipe(void)
{
    ipv4b_wake wake = wake_new();
    ipv4b_signal_pipe pipe = {-1, -1}, other = {-1, -1};
    unsigned char bytes[100];
    int fd = refused_socket();

    CHECK_INT(ipv4b_signal_pipe_open(&pipe), 0);
    CHECK_INT(ipv4b_signal_pipe_open(&other), 0);
    CHECK_INT(fcntl(pipe.read_fd, F_GETFD) & fcntl(pipe.write_fd, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(pipe.read_fd, F_GETFL) & fcntl(pipe.write_fd, F_GETFL) & O_NONBLOCK);
    CHECK_INT(ipv4b_wait(-1, 0, &wake, pipe.read_fd, ipv4b_now() + NS_PER_MS, false),
              IPV4B_WAIT_TIMEOUT);
    memset(bytes, SIGALRM, sizeof bytes);
    CHECK_INT(write(pipe.write_fd, bytes, sizeof bytes), sizeof bytes);
    CHECK_INT(ipv4b_wait(-1, 0, &wake, pipe.read_fd, limit(), false), -EINTR);
    CHECK_INT(ipv4b_wait(fd, POLLIN, &wake, pipe.read_fd, limit(), true), -EINTR);
    ipv4b_signal_pipe_drain(&pipe, other.write_fd);
    CHECK_INT(read(pipe.read_fd, bytes, sizeof bytes), -1);
    memset(bytes, 0, sizeof bytes);
    CHECK_INT(read(other.read_fd, bytes, sizeof bytes), sizeof bytes);
    CHECK_INT(bytes[0], SIGALRM);
    CHECK_INT(bytes[99], SIGALRM);
    ipv4b_signal_pipe_drain(&pipe, -1);
    ipv4b_signal_pipe_close(&pipe);
    ipv4b_signal_pipe_close(&pipe);
    ipv4b_signal_pipe_close(&other);
    ipv4b_wake_close(&wake);
    (void)close(fd);
    CHECK(ipv4b_is_first_thread());
    CHECK_INT(ipv4b_signal_pipe_open(&pipe), 0);
    CHECK_INT(ipv4b_lead_nowhere(pipe.write_fd), 0);
    CHECK_INT(write(pipe.write_fd, "x", 1), 1);
    CHECK_INT(read(pipe.read_fd, bytes, 1), 0); /* no writer is left */
    CHECK_INT(fcntl(pipe.write_fd, F_GETFD), FD_CLOEXEC);
    ipv4b_signal_pipe_close(&pipe);
}

/* With no descriptor to be had. */
static void
test_no_descriptors(void)
{
    ipv4b_wake wake = wake_new(), second = {-7, -7};
    ipv4b_signal_pipe pipe = {-7, -7};

    descriptor_limit(true);
    CHECK_INT(ipv4b_signal_pipe_open(&pipe), -EMFILE);
    CHECK_INT(pipe.read_fd, -7);
    CHECK_INT(ipv4b_wake_open(&second), -EMFILE);
    CHECK_INT(second.read_fd, -7);
    if (IPV4B_HAVE_EPOLL) {
        CHECK_INT(ipv4b_wait(wake.read_fd, POLLIN, &wake, -1, limit(), true), -EMFILE);
    }
    descriptor_limit(false);
    ipv4b_wake_close(&wake);
}

int
main(void)
{
    int count = open_descriptors();

    test_deadline();
    test_socket();
    test_threads();
    test_no_spin();
    test_signal();
    test_signal_pipe();
    test_no_descriptors();
    CHECK_INT(open_descriptors(), count);
    return check_status();
}
