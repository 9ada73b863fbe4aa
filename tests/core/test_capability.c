/* test_capability.c - what the probe says, against what the calls themselves say. */
#include "capability.h"

#include "loopback.h"

#include <sys/wait.h>

enum { NOBODY = 65534 };

static bool
raw_is_allowed(void)
{
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);

    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

/* An offload is there if a segment size can be set as an option. */
static bool
option_works(int option)
{
    struct sockaddr_in name;
    int fd = loopback_socket(&name), value = 1;
    bool works = setsockopt(fd, IPPROTO_UDP, option, &value, sizeof value) == 0;

    (void)close(fd);
    return works;
}

/* Every field is set, whatever stood there, and no descriptor stays. */
static void
test_probe(void)
{
    static const unsigned char before[] = {0x00, 0x01};
    int count = open_descriptors();

    for (size_t i = 0; i < COUNT_OF(before); i++) {
        ipv4b_capabilities c;

        memset(&c, before[i], sizeof c);
        CHECK_INT(ipv4b_capabilities_probe(&c), 0);
        CHECK_INT(c.recvmmsg, IPV4B_HAVE_MMSG);
        CHECK_INT(c.sendmmsg, IPV4B_HAVE_MMSG);
        CHECK_INT(c.gso, option_works(IPV4B_UDP_SEGMENT));
        CHECK_INT(c.gro, option_works(IPV4B_UDP_GRO));
        CHECK_INT(c.raw_sockets, raw_is_allowed());
    }
    CHECK_INT(open_descriptors(), count);
}

/* A process without privileges: it is asked for itself, in a child. */
static void
test_unprivileged(void)
{
    pid_t child;
    int status = -1;

    if (!raw_is_allowed()) {
        return;
    }
    child = fork();
    require(child >= 0, "fork");
    if (child == 0) {
        ipv4b_capabilities c = {.raw_sockets = true};

        require(setuid(NOBODY) == 0, "setuid");
        CHECK_INT(ipv4b_capabilities_probe(&c), 0);
        CHECK_INT(c.raw_sockets, false);
        CHECK_INT(c.recvmmsg, IPV4B_HAVE_MMSG);
        _exit(check_status());
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
}

/* Without a descriptor there is an error, and nothing is said. */
static void
test_no_descriptors(void)
{
    ipv4b_capabilities c, before;

    memset(&before, 1, sizeof before);
    c = before;
    descriptor_limit(true);
    CHECK_INT(ipv4b_capabilities_probe(&c), -EMFILE);
    descriptor_limit(false);
    CHECK_BYTES(&c, &before, sizeof c);
    CHECK_INT(ipv4b_capabilities_probe(&c), 0);
}

int
main(void)
{
    if (!emulator_lacks("batches of no messages")) {
        test_probe();
        test_unprivileged();
    }
    test_no_descriptors();
    return check_status();
}
