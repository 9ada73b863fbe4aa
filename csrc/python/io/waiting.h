/* waiting.h - how long a connection's calls wait (timeout, and the deadlines of reads and writes), and
 * the wait itself.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_WAITING_H
#define IPV4B_WAITING_H

#include "python/io/conn.h"

/* Waits once, without the GIL. Returns 0 to try again, a positive errno, or -1 with a signal
 * handler's exception. *fruitless says that nothing but an error was announced, and is given back for
 * the next wait. */
int ipv4b_conn_wait(ipv4b_conn_object *self, int fd, short events, int64_t deadline,
                    bool *fruitless);

/* Seconds as Python gives them, not below `least` -> ns, rounded up; None is IPV4B_FOREVER. `field` names
 * the value. Returns 0, or -1 with TypeError or ValueError. */
int ipv4b_seconds_parse(PyObject *value, const char *field, double least, int64_t *out);

PyObject *ipv4b_conn_get_timeout(PyObject *self, void *closure);
int ipv4b_conn_set_timeout(PyObject *self, PyObject *value, void *closure);

PyObject *ipv4b_conn_get_busy_poll(PyObject *self, void *closure);
int ipv4b_conn_set_busy_poll(PyObject *self, PyObject *value, void *closure);

PyObject *ipv4b_conn_set_deadline(PyObject *self, PyObject *value);
PyObject *ipv4b_conn_set_read_deadline(PyObject *self, PyObject *value);
PyObject *ipv4b_conn_set_write_deadline(PyObject *self, PyObject *value);
extern const char ipv4b_set_deadline_doc[];
extern const char ipv4b_set_read_deadline_doc[];
extern const char ipv4b_set_write_deadline_doc[];

#endif
