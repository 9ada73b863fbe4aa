/* sockopt.h - socket options as attributes, and the errors of getsockopt and setsockopt.
 *
 * Locking: the connection's lock from the look-up of the descriptor to the end of the system call,
 * which does not wait: close() cannot come in between and give the number to another file.
 */
#ifndef IPV4B_SOCKOPT_H
#define IPV4B_SOCKOPT_H

#include "python/io/conn.h"

/* An option whose value is an int: the closure of ipv4b_sockopt_get and ipv4b_sockopt_set. */
typedef struct {
    const char *name; /* the attribute */
    int level;
    int option;   /* negative where the platform lacks it */
    int min, max; /* 0 and 1 with `boolean` */
    bool boolean;
} ipv4b_sockopt;

extern const ipv4b_sockopt ipv4b_opt_tos;
extern const ipv4b_sockopt ipv4b_opt_ttl;
extern const ipv4b_sockopt ipv4b_opt_mtu_discover;
extern const ipv4b_sockopt ipv4b_opt_mtu;
extern const ipv4b_sockopt ipv4b_opt_multicast_ttl;
extern const ipv4b_sockopt ipv4b_opt_multicast_loopback;
extern const ipv4b_sockopt ipv4b_opt_multicast_all;

/* A getter and a setter for attributes. */
PyObject *ipv4b_sockopt_get(PyObject *self, void *option);
int ipv4b_sockopt_set(PyObject *self, PyObject *value, void *option);

/* Returns 0, or -1 with OSError EBADF if the connection is closed. */
int ipv4b_check_open(ipv4b_conn_object *self, const char *operation);

/* The system calls with errors that name `operation`. Return 0, or -1 with NotImplementedError for
 * a negative option, or OSError. The last is for callers that hold the connection's lock, to
 * remember what they set. */
int ipv4b_getsockopt(ipv4b_conn_object *self, const char *operation, int level, int option,
                     void *value, socklen_t *len);
int ipv4b_setsockopt(ipv4b_conn_object *self, const char *operation, int level, int option,
                     const void *value, size_t len);
int ipv4b_setsockopt_locked(ipv4b_conn_object *self, const char *operation, int level, int option,
                            const void *value, size_t len);

#endif
