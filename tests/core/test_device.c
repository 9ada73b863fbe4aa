/* test_device.c - the question whether a device stamps, put to devices of the test's own. */
#include "device.h"

#include "loopback.h"

#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>

/* What every device says, how often one was asked, and the last one. */
static uint32_t answer;
static int asked, refused;
static char last[IF_NAMESIZE];

/* In the place of the C library's. */
int
ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    const struct ifreq *r;
    struct ethtool_ts_info *info;

    va_start(arguments, request);
    r = va_arg(arguments, const struct ifreq *);
    va_end(arguments);
    info = (struct ethtool_ts_info *)(void *)r->ifr_data;
    CHECK(fd >= 0);
    CHECK_INT(request, SIOCETHTOOL);
    CHECK_INT(info->cmd, ETHTOOL_GET_TS_INFO);
    memcpy(last, r->ifr_name, IF_NAMESIZE);
    asked++;
    if (refused != 0) {
        errno = refused;
        return -1;
    }
    info->so_timestamping = answer;
    return 0;
}

static void
check(int fd, uint32_t says, int expected, const char *device)
{
    char name[IF_NAMESIZE];

    answer = says;
    asked = 0;
    CHECK_INT(ipv4b_device_stamps(fd, name), expected);
    if (device != NULL) {
        CHECK_INT(asked, 1);
        CHECK_STR(name, device);
        CHECK_STR(last, device);
    }
}

int
main(void)
{
    struct sockaddr_in name;
    int fd = loopback_socket(&name), any = socket(AF_INET, SOCK_DGRAM, 0);
    char none[IF_NAMESIZE];

    require(any >= 0, "socket");
    if (emulator_lacks("the list of devices")) {
        return check_status();
    }
    check(fd, IPV4B_TX_HARDWARE | IPV4B_TX_RAW_HARDWARE | 2, 1, "lo");
    check(fd, IPV4B_TX_HARDWARE, 0, "lo");
    check(fd, IPV4B_TX_RAW_HARDWARE, 0, "lo");
    check(fd, 2 | 16, 0, "lo");
    /* A socket without an address may send by any device, of which the first that stamps will do. */
    check(any, IPV4B_TX_HARDWARE | IPV4B_TX_RAW_HARDWARE, 1, NULL);
    CHECK_INT(asked, 1);
    check(any, 0, 0, NULL);
    CHECK(asked >= 1);
    if (setsockopt(any, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) == 0) {
        check(any, IPV4B_TX_HARDWARE | IPV4B_TX_RAW_HARDWARE, 1, "lo");
    }
    refused = EOPNOTSUPP;
    check(fd, IPV4B_TX_HARDWARE | IPV4B_TX_RAW_HARDWARE, 0, "lo");
    (void)close(fd);
    (void)close(any);
    CHECK_INT(ipv4b_device_stamps(-1, none), -EBADF);
    CHECK_STR(none, "");
    return check_status();
}
