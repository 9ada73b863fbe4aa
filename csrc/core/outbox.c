/* outbox.c - see outbox.h. */
#include "outbox.h"

enum { FIRST_BYTES = 4096, FIRST_ITEMS = 16, CONTROL_ALIGNMENT = _Alignof(struct cmsghdr) };

/* Enough for `need`, by doubling. */
static size_t
grown(size_t capacity, size_t first, size_t need)
{
    capacity = capacity == 0 ? first : capacity;
    while (capacity < need) {
        capacity *= 2;
    }
    return capacity;
}

/* Makes room for one more datagram and so many bytes. */
static int
reserve(ipv4b_outbox *box, size_t bytes)
{
    if (box->end == box->room) {
        size_t room = grown(box->room, FIRST_ITEMS, box->end + 1);
        ipv4b_outgoing *items = realloc(box->items, room * sizeof *items);

        if (items == NULL) {
            return -ENOMEM;
        }
        box->items = items;
        box->room = room;
    }
    if (box->memory == NULL || box->capacity - box->used < bytes) {
        size_t capacity = grown(box->capacity, FIRST_BYTES, box->used + bytes);
        unsigned char *memory = realloc(box->memory, capacity);

        if (memory == NULL) {
            return -ENOMEM;
        }
        box->memory = memory;
        box->capacity = capacity;
    }
    return 0;
}

int
ipv4b_outbox_append(ipv4b_outbox *box, const struct sockaddr_in *name, const void *control,
                    size_t control_len, const struct iovec *iov, size_t iov_len)
{
    ipv4b_outgoing *item;
    size_t len = 0, padding;

    for (size_t i = 0; i < iov_len; i++) {
        len += iov[i].iov_len;
    }
    if (len > UINT32_MAX || control_len > UINT32_MAX ||
        reserve(box, len + control_len + CONTROL_ALIGNMENT) < 0) {
        return -ENOMEM;
    }
    item = &box->items[box->end];
    *item = (ipv4b_outgoing){.len = (uint32_t)len, .control_len = (uint32_t)control_len};
    if (name != NULL) {
        item->name = *name;
        item->has_name = true;
    }
    if (control_len != 0) {
        padding = -box->used % CONTROL_ALIGNMENT;
        item->control_at = box->used + padding;
        memcpy(box->memory + item->control_at, control, control_len);
        box->used += padding + control_len;
    }
    item->at = box->used;
    for (size_t i = 0; i < iov_len; i++) {
        if (iov[i].iov_len != 0) {
            memcpy(box->memory + box->used, iov[i].iov_base, iov[i].iov_len);
        }
        box->used += iov[i].iov_len;
    }
    box->end++;
    box->count++;
    return 0;
}

size_t
ipv4b_outbox_slots(ipv4b_outbox *box, ipv4b_slot *slots, struct iovec *iov, size_t *places,
                   size_t n)
{
    size_t done = 0;

    for (size_t at = box->first; at < box->end && done < n; at++) {
        ipv4b_outgoing *item = &box->items[at];
        struct msghdr *h = &slots[done].msg_hdr;

        if (item->gone) {
            continue;
        }
        iov[done] = (struct iovec){box->memory + item->at, item->len};
        memset(&slots[done], 0, sizeof slots[done]);
        h->msg_iov = &iov[done];
        h->msg_iovlen = 1;
        if (item->has_name) {
            h->msg_name = &item->name;
            h->msg_namelen = sizeof item->name;
        }
        if (item->control_len != 0) {
            h->msg_control = box->memory + item->control_at;
            h->msg_controllen = item->control_len;
        }
        places[done++] = at;
    }
    return done;
}

size_t
ipv4b_outbox_remove(ipv4b_outbox *box, size_t place)
{
    size_t len = box->items[place].len;

    box->items[place].gone = true;
    box->count--;
    while (box->first < box->end && box->items[box->first].gone) {
        box->first++;
    }
    if (box->count == 0) {
        ipv4b_outbox_clear(box);
    }
    return len;
}

void
ipv4b_outbox_clear(ipv4b_outbox *box)
{
    box->first = box->end = box->used = box->count = 0;
}

int
ipv4b_outbox_join(ipv4b_outbox *to, ipv4b_outbox *from)
{
    if (to->count == 0 && from->count > 0) {
        ipv4b_outbox old = *to;

        *to = *from;
        *from = old;
        return 0;
    }
    while (from->count > 0) {
        const ipv4b_outgoing *item = &from->items[from->first];
        struct iovec iov = {from->memory + item->at, item->len};
        int r = ipv4b_outbox_append(to, item->has_name ? &item->name : NULL,
                                    from->memory + item->control_at, item->control_len, &iov, 1);

        if (r < 0) {
            return r;
        }
        (void)ipv4b_outbox_remove(from, from->first);
    }
    return 0;
}

void
ipv4b_outbox_free(ipv4b_outbox *box)
{
    free(box->memory);
    free(box->items);
    *box = (ipv4b_outbox){0};
}
