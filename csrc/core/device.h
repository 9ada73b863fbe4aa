/* device.h - what the network devices behind a socket can do (ethtool(8), -T; Linux).
 *
 * Locking: none.
 */
#ifndef IPV4B_DEVICE_H
#define IPV4B_DEVICE_H

#include "sysdep.h"

#include <net/if.h>

/* Whether a device by which the socket may send stamps what it sends by a clock of its own: the device that
 * the socket is bound to (SO_BINDTODEVICE), or that has its address, or else any. `name` becomes the device
 * that was asked last, or empty if there is none. Returns 1, 0, or -errno. */
int ipv4b_device_stamps(int fd, char name[IF_NAMESIZE]);

#endif
