/* gather.h - from a list of Message to what the kernel takes, and back.
 *
 * Locking: see message.h (pins) and conn.h. The scratch arrays belong to the call while it runs.
 */
#ifndef IPV4B_GATHER_H
#define IPV4B_GATHER_H

#include "python/io/turn.h"

/* The same for other sequences. */
PyObject *ipv4b_gather_copy(PyObject *msgs);

/* The argument msgs as a list or tuple. With the GIL a list may change while it is used: see
 * ipv4b_gather_next. New, or NULL with TypeError or what a sequence raised. */
static inline PyObject *
ipv4b_gather_list(PyObject *msgs)
{
#ifndef Py_GIL_DISABLED /* without the GIL another thread may change a list at any moment */
    if (PyList_CheckExact(msgs)) {
        return Py_NewRef(msgs);
    }
#endif
    return ipv4b_gather_copy(msgs);
}

/* Takes memory for the call, looks at all messages of a list that needs more than one turn, and pins
 * those of the first turn. With `cancel` the messages of later turns get the errno ECANCELED. Returns
 * 0, or -1 with an exception that names the message or is a signal handler's, and nothing changed;
 * ipv4b_gather_end is due in both cases. */
int ipv4b_gather_begin(ipv4b_batch *b, PyObject *list, bool cancel);

/* Pins the messages of the next turn, once those of the last one are let go. Returns 0, or -1 with an
 * exception for a message that is no longer what it was when the call began. No Python code runs in
 * here. */
int ipv4b_gather_next(ipv4b_batch *b);

/* Writes the results into the next `done` messages, and lets them go. */
void ipv4b_gather_settle(ipv4b_batch *b, size_t done);

/* Lets the next `count` messages go: those that did not go keep their errno or get ECANCELED. */
void ipv4b_gather_drop(ipv4b_batch *b, size_t count, ipv4b_outcome outcome);

/* Lets go what is left of the turn, and leaves the memory for the connection's next call. */
void ipv4b_gather_end(ipv4b_batch *b, ipv4b_outcome outcome);

#endif
