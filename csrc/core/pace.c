/* pace.c - see pace.h. */
#include "pace.h"

#include <time.h>

#include "wait.h"

enum { NS_PER_S = 1000000000 };

/* A sleep ends up to the timer slack of a thread late (50 us: prctl(2), PR_SET_TIMERSLACK), and the processor
 * takes a while to wake. The last part of a wait spins. */
enum { SPIN_NS = 120000 };

int64_t
ipv4b_pace_due(const ipv4b_pace *pace, size_t index)
{
    int64_t offset, due;

    if (pace->offsets != NULL) {
        offset = pace->offsets[index < pace->count ? index : pace->count - 1];
    }
    else if (__builtin_mul_overflow((int64_t)(index / pace->burst), pace->interval, &offset)) {
        return IPV4B_FOREVER - 1;
    }
    return __builtin_add_overflow(pace->start, offset, &due) ? IPV4B_FOREVER - 1 : due;
}

/* Sleeps until `until`, which is ahead of `now`. Returns 0 or -errno. */
static int
sleep_until(int64_t until, int64_t now)
{
#if IPV4B_HAVE_CLOCK_NANOSLEEP
    struct timespec ts = {.tv_sec = (time_t)(until / NS_PER_S),
                          .tv_nsec = (long)(until % NS_PER_S)};

    (void)now;
    return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
#else
    int64_t left = until - now;
    struct timespec ts = {.tv_sec = (time_t)(left / NS_PER_S), .tv_nsec = (long)(left % NS_PER_S)};

    return nanosleep(&ts, NULL) < 0 ? -errno : 0;
#endif
}

int64_t
ipv4b_pace_wait(int64_t due)
{
    int64_t now = ipv4b_now();

    if (due - now > SPIN_NS) {
        int r = sleep_until(due - SPIN_NS, now);

        if (r < 0) {
            return r;
        }
        now = ipv4b_now();
    }
    while (now < due) {
        now = ipv4b_now();
    }
    return now - due;
}
