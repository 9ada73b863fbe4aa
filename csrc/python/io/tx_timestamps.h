/* tx_timestamps.h - the times at which messages have left: the type TxTimestamp, the method
 * read_tx_timestamps, and what a write asks the kernel for.
 *
 * Locking: see conn.h. The request of a write belongs to its call.
 */
#ifndef IPV4B_IO_TX_TIMESTAMPS_H
#define IPV4B_IO_TX_TIMESTAMPS_H

#include "python/io/turn.h"

extern PyStructSequence_Desc ipv4b_tx_timestamp_desc;

PyObject *ipv4b_read_tx_timestamps(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames);
extern const char ipv4b_read_tx_timestamps_doc[];

/* Has the messages of a turn, which are gathered, ask for their times. Returns 0, or -1 with
 * MemoryError. */
int ipv4b_tx_begin(ipv4b_batch *b);

/* Tells the next `done` messages of the turn their ids. */
void ipv4b_tx_note(const ipv4b_batch *b, size_t done);

/* Leaves the memory of a call for the next one. */
void ipv4b_tx_end(ipv4b_batch *b);

#endif
