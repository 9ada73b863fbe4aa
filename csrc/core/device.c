/* device.c - see device.h. */
#include "device.h"

#if defined(__linux__)

#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

/* Asks one device. One that cannot be asked stamps nothing. */
static bool
device_stamps(int fd, const char *name)
{
    const uint32_t needed = IPV4B_TX_HARDWARE | IPV4B_TX_RAW_HARDWARE;
    struct ethtool_ts_info info = {.cmd = ETHTOOL_GET_TS_INFO};
    struct ifreq request = {.ifr_data = (char *)&info};

    memcpy(request.ifr_name, name, IF_NAMESIZE);
    return ioctl(fd, SIOCETHTOOL, &request) == 0 && (info.so_timestamping & needed) == needed;
}

/* Whether the device has the socket's address; it has no matter which for a socket without one. */
static bool
device_fits(const struct ifaddrs *device, struct in_addr address)
{
    return device->ifa_addr != NULL && device->ifa_addr->sa_family == AF_INET &&
           (address.s_addr == htonl(INADDR_ANY) ||
            ((const struct sockaddr_in *)(const void *)device->ifa_addr)->sin_addr.s_addr ==
                address.s_addr);
}

int
ipv4b_device_stamps(int fd, char name[IF_NAMESIZE])
{
    struct sockaddr_in own = {0};
    struct ifaddrs *devices, *device;
    socklen_t len = IF_NAMESIZE;
    bool stamps = false;

    memset(name, 0, IF_NAMESIZE);
    if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len) == 0 && len > 0 && name[0] != 0) {
        return device_stamps(fd, name);
    }
    len = sizeof own;
    if (getsockname(fd, (struct sockaddr *)&own, &len) < 0 || getifaddrs(&devices) < 0) {
        return -errno;
    }
    for (device = devices; device != NULL && !stamps; device = device->ifa_next) {
        if (device_fits(device, own.sin_addr)) {
            memset(name, 0, IF_NAMESIZE);
            memcpy(name, device->ifa_name, strnlen(device->ifa_name, IF_NAMESIZE - 1));
            stamps = device_stamps(fd, name);
        }
    }
    freeifaddrs(devices);
    return stamps;
}

#else

int
ipv4b_device_stamps(int fd, char name[IF_NAMESIZE])
{
    (void)fd;
    name[0] = 0;
    return 0;
}

#endif
