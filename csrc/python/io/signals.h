/* signals.h - a long wait of the main thread sees every signal that Python handles, whichever thread of the
 * process the kernel gave it to.
 *
 * A look at the signals and the sleep after it are two steps, and a signal can come in between. While a
 * wait is watched, Python's wake-up descriptor for signals (signal.set_wakeup_fd) is a pipe of the
 * connection's, so that such a signal ends the sleep; core/signal_pipe.h says why a mask does not do. The
 * descriptor that the program had set, an event loop's for instance, gets its bytes at the end.
 *
 * Locking: the main thread of the main interpreter alone, which runs the handlers, with the GIL (or attached,
 * without one).
 */
#ifndef IPV4B_SIGNALS_H
#define IPV4B_SIGNALS_H

#include "python/base/state.h"

#include "core/signal_pipe.h"

/* A watch, on the stack of its wait. */
typedef struct {
    int fd; /* what the wait looks at beside the rest, or -1 */
    PyObject
        *before; /* the descriptor that the program had set, an int; NULL if nothing is watched */
} ipv4b_signal_watch;

/* Registers for forks. Returns 0 or -errno. */
int ipv4b_signals_init(void);

/* Whether Python runs its handlers in this thread. */
bool ipv4b_signals_are_handled_here(ipv4b_state *state);

/* Starts a watch, and then runs the handlers of the signals that came before. Opens the pipe at its first
 * use. Returns 0, a positive errno, or -1 with an exception, a handler's or MemoryError; nothing is watched
 * after an error. */
int ipv4b_signals_begin(ipv4b_state *state, ipv4b_signal_pipe *p, ipv4b_signal_watch *watch);

/* Ends a watch; an exception that is set stays. */
void ipv4b_signals_end(ipv4b_state *state, const ipv4b_signal_pipe *p, ipv4b_signal_watch *watch);

/* Closes a pipe that is not watched, or that was at a fork, in the child. */
void ipv4b_signals_close(ipv4b_signal_pipe *p);

#endif
