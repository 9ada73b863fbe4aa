/* signal_pipe.h - a pipe that signal handlers write to, so that a wait sees a signal that came just
 * before it.
 *
 * A look at the signals and the sleep that follows are two steps, and a signal can come between them. A
 * mask (ppoll, epoll_pwait) closes that gap only for signals that this thread takes: while it blocks one,
 * the kernel gives a signal of the process to another thread. A byte in a pipe stays, whichever thread
 * took the signal.
 *
 * Locking: none; the thread that waits owns it. The write end is used by signal handlers of any thread.
 */
#ifndef IPV4B_SIGNAL_PIPE_H
#define IPV4B_SIGNAL_PIPE_H

#include "sysdep.h"

typedef struct {
    int read_fd; /* -1 before it is opened */
    int write_fd;
} ipv4b_signal_pipe;

/* Opens both ends non-blocking and close-on-exec. Returns 0 or -errno. */
int ipv4b_signal_pipe_open(ipv4b_signal_pipe *p);
void ipv4b_signal_pipe_close(ipv4b_signal_pipe *p);

/* Reads all bytes and writes them to the descriptor `to`, if that is not -1. A byte is lost if
 * there is no room, as a signal handler's own byte would be. */
void ipv4b_signal_pipe_drain(const ipv4b_signal_pipe *p, int to);

/* Replaces the file of the descriptor by /dev/null; async-signal-safe. Returns 0 or -errno. */
int ipv4b_lead_nowhere(int fd);

/* Whether the calling thread is the one that the process began with. */
bool ipv4b_is_first_thread(void);

#endif
