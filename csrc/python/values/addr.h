/* addr.h - IPv4 addresses and endpoints between Python and struct in_addr, struct sockaddr_in.
 *
 * Addresses come in as str ("192.0.2.1"), ipaddress.IPv4Address or 4 packed bytes, and go out as
 * str; an endpoint is a (host, port) tuple. Names are never resolved. Locking: none, but for the
 * table of tuples, in which each place has a lock of its own.
 */
#ifndef IPV4B_ADDR_H
#define IPV4B_ADDR_H

#include "python/base/state.h"

#include "core/sysdep.h"

/* Both return 0, or -1 with TypeError or ValueError whose text starts with `field`. */
int ipv4b_addr_parse(ipv4b_state *state, PyObject *value, const char *field, struct in_addr *out);
int ipv4b_endpoint_parse(ipv4b_state *state, PyObject *value, const char *field,
                         struct sockaddr_in *out);

/* The same for the usual case alone, a tuple of a str and an int, in a fraction of the time. Returns false, with
 * no exception, for all that needs a closer look. */
bool ipv4b_endpoint_parse_usual(PyObject *value, struct sockaddr_in *out);

/* New references, or NULL with an exception. */
PyObject *ipv4b_addr_str(struct in_addr addr);
PyObject *ipv4b_endpoint_tuple(const struct sockaddr_in *endpoint);

/* The same from a small table of those made before: a peer that sends again costs no new tuple. The
 * table goes with the module's state. */
PyObject *ipv4b_endpoint_cached(ipv4b_state *state, const struct sockaddr_in *endpoint);
void ipv4b_endpoint_cache_free(ipv4b_state *state);

/* Writes "192.0.2.1" and a final NUL into at least INET_ADDRSTRLEN bytes; returns the length
 * without it. */
size_t ipv4b_addr_text(struct in_addr addr, char *out);

#endif
