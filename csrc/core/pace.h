/* pace.h - a schedule of departures, and the wait for the next one.
 *
 * Locking: none; a schedule belongs to one call.
 */
#ifndef IPV4B_PACE_H
#define IPV4B_PACE_H

#include "sysdep.h"

typedef struct {
    int64_t start;    /* of the schedule, on the clock of ipv4b_now() */
    int64_t interval; /* ns between two ticks */
    const int64_t
        *offsets;  /* ns from the start, one for each message in place of interval; or NULL */
    size_t count;  /* of offsets */
    size_t burst;  /* messages of a tick */
    bool catch_up; /* a late tick does not delay the later ones */
    int64_t late[IPV4B_SEND_MAX]; /* of the messages of a turn: ns that each went after its time */
} ipv4b_pace;

/* When message number `index` is due, on the clock of ipv4b_now(). */
int64_t ipv4b_pace_due(const ipv4b_pace *pace, size_t index);

/* The number of the first message of the next tick. */
static inline size_t
ipv4b_pace_tick_end(const ipv4b_pace *pace, size_t index)
{
    return index - index % pace->burst + pace->burst;
}

/* A departure that is due within this time is waited for by ipv4b_pace_wait. A longer wait has to see close() and
 * deadlines, and is the caller's. */
#define IPV4B_PACE_NEAR INT64_C(3000000)

/* Sleeps, and then spins, until a time that is near. Returns how many ns it is past that time, or -EINTR. */
int64_t ipv4b_pace_wait(int64_t due);

#endif
