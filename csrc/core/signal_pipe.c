/* signal_pipe.c - see signal_pipe.h. */
#include "signal_pipe.h"

#if defined(__linux__)
#include <sys/syscall.h>
#else
#include <pthread.h>
#endif

#if defined(__linux__)

static int
open_pipe(int fds[2])
{
    return pipe2(fds, O_NONBLOCK | O_CLOEXEC);
}

#else

static int
open_pipe(int fds[2])
{
    if (pipe(fds) < 0) {
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        (void)fcntl(fds[i], F_SETFL, O_NONBLOCK);
        (void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    }
    return 0;
}

#endif

int
ipv4b_signal_pipe_open(ipv4b_signal_pipe *p)
{
    int fds[2];

    if (open_pipe(fds) < 0) {
        return -errno;
    }
    p->read_fd = fds[0];
    p->write_fd = fds[1];
    return 0;
}

void
ipv4b_signal_pipe_close(ipv4b_signal_pipe *p)
{
    if (p->read_fd >= 0) {
        (void)close(p->read_fd);
        (void)close(p->write_fd);
        p->read_fd = p->write_fd = -1;
    }
}

void
ipv4b_signal_pipe_drain(const ipv4b_signal_pipe *p, int to)
{
    unsigned char bytes[64];
    ssize_t n;

    do {
        n = read(p->read_fd, bytes, sizeof bytes);
        if (n > 0 && to >= 0) {
            ssize_t r;

            do {
                r = write(to, bytes, (size_t)n);
            } while (r < 0 && errno == EINTR);
        }
    } while (n == (ssize_t)sizeof bytes || (n < 0 && errno == EINTR));
}

int
ipv4b_lead_nowhere(int fd)
{
    int null = open("/dev/null", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    int r;

    if (null < 0) {
        return -errno;
    }
    r = dup2(null, fd) < 0 ? -errno : 0;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)close(null);
    return r;
}

bool
ipv4b_is_first_thread(void)
{
#if defined(__linux__)
    return syscall(SYS_gettid) == getpid();
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
    return pthread_main_np() != 0;
#else
    return false;
#endif
}
