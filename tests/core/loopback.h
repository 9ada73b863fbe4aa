/* loopback.h - sockets on 127.0.0.1, slots with memory, and a lack of resources. */
#ifndef IPV4B_TESTS_LOOPBACK_H
#define IPV4B_TESTS_LOOPBACK_H

#include "check.h"

#include <endian.h>
#include <sys/resource.h>

enum { SLOTS = 2 * IPV4B_SEND_MAX + 100, SLOT_DATA = 32, SLOT_CONTROL = 128 };

/* Slot number i has the memory `of[i]`. */
static ipv4b_slot slots[SLOTS];
static struct {
    unsigned char data[SLOT_DATA];
    struct iovec iov;
    struct sockaddr_in name;
    unsigned char control[SLOT_CONTROL];
} of[SLOTS];

/* Makes the first n slots ready to receive, their memory full of 0xee. */
static inline void
prepare_receive(size_t n)
{
    memset(of, 0xee, n * sizeof of[0]);
    memset(slots, 0, n * sizeof slots[0]);
    for (size_t i = 0; i < n; i++) {
        struct msghdr *h = &slots[i].msg_hdr;

        of[i].iov = (struct iovec){.iov_base = of[i].data, .iov_len = SLOT_DATA};
        h->msg_iov = &of[i].iov;
        h->msg_iovlen = 1;
        h->msg_name = &of[i].name;
        h->msg_namelen = sizeof of[i].name;
        h->msg_control = of[i].control;
        h->msg_controllen = SLOT_CONTROL;
    }
}

/* Makes the first n slots ready to send their number, in 4 bytes, the lowest first. */
static inline void
prepare_send(size_t n, struct sockaddr_in to)
{
    prepare_receive(n);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(of[i].data, &(uint32_t){htole32(i)}, sizeof i);
        of[i].iov.iov_len = sizeof i;
        of[i].name = to;
        slots[i].msg_hdr.msg_controllen = 0;
    }
}

/* A UDP socket on a free port of 127.0.0.1. */
static inline int
loopback_socket(struct sockaddr_in *name)
{
    socklen_t len = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memset(name, 0, sizeof *name);
    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    require(fd >= 0 && bind(fd, (struct sockaddr *)name, sizeof *name) == 0 &&
                getsockname(fd, (struct sockaddr *)name, &len) == 0,
            "socket");
    return fd;
}

/* Waits until there is something to read or an error, 5 seconds at the most. */
static inline bool
wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return CHECK_INT(poll(&p, 1, 5000), 1);
}

/* The address of a port on 127.0.0.1 where nobody listens. */
static inline struct sockaddr_in
dead_address(void)
{
    struct sockaddr_in name;
    int fd = loopback_socket(&name);

    (void)close(fd);
    return name;
}

/* MemorySanitizer maps its shadow of what the program uses, and gives up where it cannot. */
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define MEMORY_IS_SHADOWED 1
#endif
#endif
#ifndef MEMORY_IS_SHADOWED
#define MEMORY_IS_SHADOWED 0
#endif

/* Takes away the memory that comes in large pieces, or gives it back. */
static inline void
memory_limit(bool on)
{
    struct rlimit limit;

    require(getrlimit(RLIMIT_AS, &limit) == 0, "getrlimit");
    limit.rlim_cur = on ? 0 : limit.rlim_max;
    require(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
}

/* How many descriptors are open. */
static inline int
open_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* Takes new descriptors away, or gives them back. */
static inline void
descriptor_limit(bool on)
{
    struct rlimit limit;

    require(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = on ? 0 : limit.rlim_max;
    require(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

#endif
