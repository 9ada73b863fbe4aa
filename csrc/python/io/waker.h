/* waker.h - wakes the calls of a connection that wait, so that they look again.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_WAKER_H
#define IPV4B_WAKER_H

#include "python/io/conn.h"

/* A new reference to the waker of the calls that wait now. Returns 0, a positive errno, or -1 with
 * MemoryError. */
int ipv4b_waker_acquire(ipv4b_conn_object *self, ipv4b_waker **out);

/* Gives a reference back; NULL is allowed. */
void ipv4b_waker_release(ipv4b_waker *waker);

/* Makes every waiting call look again. */
void ipv4b_waker_wake(ipv4b_conn_object *self);

/* The same at the end of the connection's life: the wake-up descriptor goes too. */
void ipv4b_waker_drop(ipv4b_conn_object *self);

/* In the child of a fork: closes the descriptor and wakes nobody. */
void ipv4b_waker_forget(ipv4b_conn_object *self);

#endif
