/* pace.h - a turn of a write whose messages leave on a schedule (core/pace.h).
 *
 * Locking: see conn.h. The schedule belongs to the call.
 */
#ifndef IPV4B_IO_PACE_H
#define IPV4B_IO_PACE_H

#include "python/io/loop.h"
#include "python/io/turn.h"

/* How many messages a turn of a paced call has, and whether it goes with *gso. With gso a tick is a turn,
 * because a plan is made for a turn. */
size_t ipv4b_pace_turn(const ipv4b_pace *pace, bool *gso);

/* Waits until the next message is due soon. Returns 0, or -1 with an exception; io->foreign says that it is a
 * signal handler's. */
int ipv4b_pace_pause(ipv4b_batch *b, ipv4b_io *io);

/* The attempt of the loop: sends ticks that are due, and waits for those that are due soon. */
int ipv4b_pace_attempt(int fd, ipv4b_io *io);

/* Tells the next `done` messages how late they went. */
void ipv4b_pace_note(const ipv4b_batch *b, size_t done);

#endif
