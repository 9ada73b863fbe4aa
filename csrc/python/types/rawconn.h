/* rawconn.h - the type RawConn: whole IPv4 packets, headers written by the caller.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_RAWCONN_H
#define IPV4B_RAWCONN_H

#include "python/base/state.h"

extern PyType_Spec ipv4b_rawconn_spec;

#endif
