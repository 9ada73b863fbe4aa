/* life.h - the life of a connection: the calls inside it, close(), and forks.
 *
 * Locking: see conn.h. A call that moves datagrams counts itself from begin to end. close() ends the
 * waits and leaves the descriptor open until the last such call is out, so that a system call of ours
 * never meets a descriptor number that already belongs to another file.
 */
#ifndef IPV4B_LIFE_H
#define IPV4B_LIFE_H

#include "python/io/conn.h"

#include "core/fork.h"

/* In the child of a fork: forgets the parent's calls, which do not exist there, and the
 * datagrams that the parent reads. Every function that uses state that calls share begins with
 * ipv4b_conn_check_fork. */
void ipv4b_conn_forget_calls(ipv4b_conn_object *self);

static inline void
ipv4b_conn_check_fork(ipv4b_conn_object *self)
{
    unsigned int forks = ipv4b_forks();

    if (self->life.forks != forks) {
        self->life.forks = forks;
        ipv4b_conn_forget_calls(self);
    }
}

/* Closes the socket for a close() that came while calls were inside; an exception that is set stays. */
void ipv4b_conn_release_due(ipv4b_conn_object *self);

/* Counts a call; *forks is for ipv4b_conn_leave. */
static inline void
ipv4b_conn_enter(ipv4b_conn_object *self, unsigned int *forks)
{
    ipv4b_conn_check_fork(self); /* first, since it forgets what was counted */
    *forks = self->life.forks;
    self->life.calls++;
}

/* The last call to leave closes the socket, if that is due. */
static inline void
ipv4b_conn_leave(ipv4b_conn_object *self, unsigned int forks)
{
    ipv4b_conn_check_fork(self);
    self->life.calls -= forks == self->life.forks;
    if (self->life.calls == 0 && self->life.release_due) {
        ipv4b_conn_release_due(self);
    }
}

/* Closes the connection. Returns 0, or -1 with the exception of the socket's close(). */
int ipv4b_conn_close(ipv4b_conn_object *self);

#endif
