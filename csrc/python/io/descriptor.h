/* descriptor.h - a connection's descriptor: its look-up at every call, and the errors that name it.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_DESCRIPTOR_H
#define IPV4B_DESCRIPTOR_H

#include "python/io/conn.h"

/* The descriptor, or -1 with OSError EBADF if the connection or its socket is closed. May run
 * Python code. */
int ipv4b_conn_fileno(ipv4b_conn_object *self, const char *operation);

/* The same without an exception: -1 if it is closed; but -2 with an exception that the socket's
 * fileno() raised. */
int ipv4b_conn_peek_fileno(ipv4b_conn_object *self);

/* Raises OSError `err` with "operation network local-address". Returns -1. */
int ipv4b_conn_raise(ipv4b_conn_object *self, const char *operation, int err);

/* Raises the OSError of a connection that is closed (EBADF), or the TimeoutError of a call whose time is
 * over. Return -1. */
int ipv4b_conn_raise_closed(ipv4b_conn_object *self, const char *operation);
int ipv4b_conn_raise_timeout(ipv4b_conn_object *self, ipv4b_direction direction);

/* The local or the remote endpoint of the descriptor. Returns 0 or -errno. */
int ipv4b_conn_endpoint(const ipv4b_conn_object *self, int fd, bool remote,
                        struct sockaddr_in *out);

/* "udp4 127.0.0.1:40001", "ip4:1 127.0.0.1", with "->" and the peer if it is asked for; the network
 * alone when fd is negative. New, or NULL with MemoryError. */
PyObject *ipv4b_conn_describe(const ipv4b_conn_object *self, int fd, bool remote);

#endif
