/* test_readable.c - a descriptor that is readable for the socket's sake or its owner's. */
#include "readable.h"

#include "loopback.h"

static bool
is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r = poll(&p, 1, 0);

    require(r >= 0, "poll");
    return r == 1;
}

static void
test_socket_and_owner(void)
{
    struct sockaddr_in name, other_name;
    int socket = loopback_socket(&name), other = loopback_socket(&other_name);
    ipv4b_readable *r = NULL;
    char byte;
    int fd;

    CHECK_INT(ipv4b_readable_new(&r), 0);
    fd = ipv4b_readable_fd(r, socket);
    CHECK(fd >= 0);
    CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK(!is_readable(fd));
    ipv4b_readable_set(r, true);
    CHECK(is_readable(fd));
    ipv4b_readable_set(r, true);
    ipv4b_readable_set(r, false);
    CHECK(!is_readable(fd));
    ipv4b_readable_set(r, false);
    CHECK(!is_readable(fd));
    require(sendto(other, "x", 1, 0, (struct sockaddr *)&name, sizeof name) == 1, "sendto");
    CHECK(is_readable(fd));
    CHECK_INT(ipv4b_readable_fd(r, socket), fd);
    /* Another socket takes its place. */
    CHECK_INT(ipv4b_readable_fd(r, other), fd);
    CHECK(!is_readable(fd));
    CHECK_INT(ipv4b_readable_fd(r, socket), fd);
    CHECK(is_readable(fd));
    require(recv(socket, &byte, 1, 0) == 1, "recv");
    CHECK(!is_readable(fd));
    /* So does one under the same number. */
    require(dup2(other, socket) == socket, "dup2");
    CHECK_INT(ipv4b_readable_fd(r, socket), fd);
    require(sendto(other, "x", 1, 0, (struct sockaddr *)&other_name, sizeof other_name) == 1,
            "sendto");
    CHECK(is_readable(fd));
    (void)close(socket);
    (void)close(other);
    CHECK(!is_readable(fd));
    CHECK_INT(ipv4b_readable_fd(r, socket), -EBADF);
    ipv4b_readable_free(r);
    ipv4b_readable_free(NULL);
}

static void
test_no_descriptors(void)
{
    ipv4b_readable *r = NULL;

    descriptor_limit(true);
    CHECK_INT(ipv4b_readable_new(&r), -EMFILE);
    descriptor_limit(false);
    CHECK(r == NULL);
}

int
main(void)
{
    int count = open_descriptors();

    test_socket_and_owner();
    test_no_descriptors();
    CHECK_INT(open_descriptors(), count);
    return check_status();
}
