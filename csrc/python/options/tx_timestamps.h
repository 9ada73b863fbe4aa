/* tx_timestamps.h - the times that are wanted of what is written: SO_TIMESTAMPING (socket(7)).
 *
 * Locking: see conn.h.
 */
#ifndef IPV4B_OPTIONS_TX_TIMESTAMPS_H
#define IPV4B_OPTIONS_TX_TIMESTAMPS_H

#include "python/io/conn.h"

PyObject *ipv4b_tx_timestamps_get(PyObject *self, void *closure);
int ipv4b_tx_timestamps_set(PyObject *self, PyObject *value, void *closure);

#endif
