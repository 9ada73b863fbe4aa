/* test_pace.c - when the messages of a schedule are due, and the wait for them. */
#include "pace.h"
#include "wait.h"

#include "check.h"

static void
test_due(void)
{
    static const int64_t offsets[] = {0, 5, 5, 900};
    ipv4b_pace pace = {.start = 1000, .interval = 10, .burst = 3};

    for (size_t i = 0; i < 12; i++) {
        CHECK_INT(ipv4b_pace_due(&pace, i), 1000 + (int64_t)(i / 3) * 10);
        CHECK_INT(ipv4b_pace_tick_end(&pace, i), (i / 3 + 1) * 3);
    }
    pace.offsets = offsets;
    pace.count = COUNT_OF(offsets);
    for (size_t i = 0; i < 9; i++) {
        CHECK_INT(ipv4b_pace_due(&pace, i), 1000 + offsets[i < 3 ? i : 3]);
    }
}

/* What no clock reaches is due last of all. */
static void
test_overflow(void)
{
    static const int64_t far[] = {INT64_MAX};
    ipv4b_pace pace = {.start = INT64_MAX - 5, .interval = 10, .burst = 1};

    CHECK_INT(ipv4b_pace_due(&pace, 0), INT64_MAX - 5);
    CHECK_INT(ipv4b_pace_due(&pace, 1), IPV4B_FOREVER - 1);
    pace.interval = INT64_MAX;
    CHECK_INT(ipv4b_pace_due(&pace, 2), IPV4B_FOREVER - 1);
    pace.offsets = far;
    pace.count = 1;
    CHECK_INT(ipv4b_pace_due(&pace, 0), IPV4B_FOREVER - 1);
}

static void
test_wait(void)
{
    static const int64_t ahead[] = {-1000000, 0, 1000, 100000, 500000, 2000000};

    for (size_t i = 0; i < COUNT_OF(ahead); i++) {
        int64_t due = ipv4b_now() + ahead[i];
        int64_t late = ipv4b_pace_wait(due);

        CHECK(late >= 0);
        CHECK(ipv4b_now() >= due + late);
    }
}

int
main(void)
{
    test_due();
    test_overflow();
    test_wait();
    return check_status();
}
