/* capability.h - what this kernel and process can do, found out by trying.
 *
 * Locking: none. The sockets that are tried on are closed before the return.
 */
#ifndef IPV4B_CAPABILITY_H
#define IPV4B_CAPABILITY_H

#include "sysdep.h"

typedef struct {
    bool recvmmsg; /* built in, and the kernel has it */
    bool sendmmsg;
    bool gso;             /* UDP_SEGMENT */
    bool gro;             /* UDP_GRO */
    bool tx_timestamps;   /* SCM_TS_OPT_ID */
    bool txtime;          /* SO_TXTIME */
    bool max_pacing_rate; /* SO_MAX_PACING_RATE */
    bool raw_sockets;     /* the process may open them (CAP_NET_RAW) */
} ipv4b_capabilities;

/* Returns 0, or -errno if even a UDP socket cannot be opened. */
int ipv4b_capabilities_probe(ipv4b_capabilities *out);

#endif
