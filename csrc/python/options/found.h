/* found.h - the options of a socket as the connection finds it: taken over as if they had been set here, or
 * refused.
 *
 * Locking: the connection's lock; see conn.h.
 */
#ifndef IPV4B_FOUND_H
#define IPV4B_FOUND_H

#include "python/io/conn.h"

/* Reads what a new connection relies on. With `own_header` the caller writes IPv4 headers, and IP_HDRINCL
 * is set; without, a socket that has it is refused. Returns 0; or -1 with ValueError that names an option
 * with which no call would mean what it says, OSError or MemoryError, and the connection closed. */
int ipv4b_found_take_over(PyObject *self, bool own_header);

#endif
