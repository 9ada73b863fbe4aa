/* tx_timestamps.c - see tx_timestamps.h. */
#include "tx_timestamps.h"

#include "cmsg.h"
#include "timespec.h"

enum { FIRST_CAPACITY = 64 };

int
ipv4b_tx_queue_reserve(ipv4b_tx_queue *q)
{
    size_t capacity = q->capacity == 0 ? FIRST_CAPACITY : 2 * q->capacity;
    ipv4b_tx_timestamp *items;

    if (q->count + 2 <= q->capacity || q->capacity == IPV4B_TX_KEPT_MAX) {
        return 0;
    }
    items = calloc(capacity, sizeof *items);
    if (items == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < q->count; i++) {
        items[i] = q->items[(q->first + i) & (q->capacity - 1)];
    }
    free(q->items);
    q->items = items;
    q->first = 0;
    q->capacity = capacity;
    return 0;
}

void
ipv4b_tx_queue_push(ipv4b_tx_queue *q, const ipv4b_tx_timestamp *stamp)
{
    if (q->count < q->capacity) {
        q->items[(q->first + q->count++) & (q->capacity - 1)] = *stamp;
    }
}

void
ipv4b_tx_queue_pop(ipv4b_tx_queue *q)
{
    q->first = (q->first + 1) & (q->capacity - 1);
    q->count--;
}

void
ipv4b_tx_queue_clear(ipv4b_tx_queue *q)
{
    free(q->items);
    *q = (ipv4b_tx_queue){0};
}

uint32_t
ipv4b_tx_kinds(unsigned int kinds)
{
    return (kinds & IPV4B_STAMP_SCHED ? (uint32_t)IPV4B_TX_SCHED : 0) |
           (kinds & IPV4B_STAMP_SOFTWARE ? (uint32_t)IPV4B_TX_SOFTWARE : 0) |
           (kinds & IPV4B_STAMP_HARDWARE ? (uint32_t)IPV4B_TX_HARDWARE : 0);
}

/* One of the three times of a struct scm_timestamping (linux/errqueue.h), in ns: 0 if it is not given. */
static int64_t
time_at(const ipv4b_cmsg_item *item, size_t index)
{
    int64_t ns = 0;
    size_t size = item->len / 3;

    return ipv4b_timespec_parse(item->data + index * size, size, &ns) ? ns : 0;
}

bool
ipv4b_tx_parse(const ipv4b_slot *slot, uint64_t newest, ipv4b_tx_timestamp stamps[2], size_t *count)
{
    const struct msghdr *h = &slot->msg_hdr;
    ipv4b_cmsg_iter it = {.buf = h->msg_control, .len = (size_t)h->msg_controllen};
    ipv4b_cmsg_item item;
    ipv4b_extended_error e = {0};
    int64_t software = 0, hardware = 0;
    bool found = false;
    uint64_t id;

    while (ipv4b_cmsg_next(&it, &item) > 0) {
        if (item.level == SOL_SOCKET && item.type == IPV4B_SO_TIMESTAMPING) {
            software = time_at(&item, 0);
            hardware = time_at(&item, 2);
        }
        else if (item.level == IPPROTO_IP && item.type == IPV4B_IP_RECVERR &&
                 item.len >= sizeof e) {
            memcpy(&e, item.data, sizeof e);
            found = true;
        }
    }
    *count = 0;
    if (!found || e.ee_origin != IPV4B_ORIGIN_TIMESTAMPING) {
        return false;
    }
    id = newest - (uint32_t)((uint32_t)newest - e.ee_data);
    if (id == 0 || id > newest) {
        return true; /* of what somebody else has sent: ids begin with 1 */
    }
    if (e.ee_info == IPV4B_TSTAMP_SCHED && software != 0) {
        stamps[(*count)++] = (ipv4b_tx_timestamp){id, software, IPV4B_STAMP_SCHED};
    }
    if (e.ee_info == IPV4B_TSTAMP_SND && software != 0) {
        stamps[(*count)++] = (ipv4b_tx_timestamp){id, software, IPV4B_STAMP_SOFTWARE};
    }
    if (e.ee_info == IPV4B_TSTAMP_SND && hardware != 0) {
        stamps[(*count)++] = (ipv4b_tx_timestamp){id, hardware, IPV4B_STAMP_HARDWARE};
    }
    return true;
}
