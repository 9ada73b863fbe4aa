/* readable.h - a descriptor for pollers that is readable while a socket has something to read, or its owner
 * has something that came from there: an epoll descriptor over the socket and an eventfd.
 *
 * It is never writable, and stands for no socket: options and system calls of sockets do not work on it.
 * Locking: none; the owner guards it.
 */
#ifndef IPV4B_READABLE_H
#define IPV4B_READABLE_H

#include "sysdep.h"

typedef struct ipv4b_readable ipv4b_readable;

/* Both descriptors are close-on-exec. Returns 0 with *out set; -errno, or -ENOSYS where there is no epoll. */
int ipv4b_readable_new(ipv4b_readable **out);

/* Closes both; NULL is allowed. In the child of a fork the parent's go on unchanged. */
void ipv4b_readable_free(ipv4b_readable *r);

/* The descriptor to poll, with this socket watched in place of an earlier one. Returns it, or -errno. */
int ipv4b_readable_fd(ipv4b_readable *r, int socket);

/* Says whether the owner has something. Makes a system call only when that changes. */
void ipv4b_readable_set(ipv4b_readable *r, bool has);

#endif
