/* packetconn.h - the type PacketConn: datagrams through a SOCK_DGRAM or SOCK_RAW socket.
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_PACKETCONN_H
#define IPV4B_PACKETCONN_H

#include "python/base/state.h"

extern PyType_Spec ipv4b_packetconn_spec;

#endif
