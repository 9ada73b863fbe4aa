/* datagramconn.h - the type DatagramConn: what PacketConn and RawConn have in common.
 *
 * It is a base to inherit from and no public name. Locking: see conn.h.
 */
#ifndef IPV4B_DATAGRAMCONN_H
#define IPV4B_DATAGRAMCONN_H

#include "python/base/state.h"

extern PyType_Spec ipv4b_dgram_spec;

#endif
