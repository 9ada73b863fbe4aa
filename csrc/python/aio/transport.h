/* transport.h - the type TransportCore, with its attributes and methods.
 *
 * Locking: see core.h.
 */
#ifndef IPV4B_AIO_TRANSPORT_H
#define IPV4B_AIO_TRANSPORT_H

#include "python/base/state.h"

extern PyType_Spec ipv4b_core_spec;

#endif
