/* held.c - see held.h. */
#include "held.h"

#include "cmsg.h"
#include "gro.h"
#include "scatter.h"

enum { CONTROL_MAX = 512 /* more than any item that the kernel gives, all together */ };

struct ipv4b_held {
    ipv4b_held *next;
    size_t size;         /* of the room */
    size_t len;          /* bytes that are here */
    size_t total;        /* what the kernel said: with MSG_TRUNC more than are here */
    size_t offset;       /* bytes that were given already, of a bundle */
    size_t segment_size; /* of a bundle, or 0 */
    int flags;
    socklen_t name_len;
    struct sockaddr_in name;
    size_t control_len;
    unsigned char control[CONTROL_MAX];
    unsigned char bytes[];
};

ipv4b_held *
ipv4b_held_new(size_t size)
{
    ipv4b_held *held = size > SIZE_MAX - sizeof *held ? NULL : malloc(sizeof *held + size);

    if (held != NULL) {
        held->size = size;
    }
    return held;
}

void
ipv4b_held_free(ipv4b_held *held)
{
    free(held);
}

bool
ipv4b_held_fits(const ipv4b_held *held, size_t size)
{
    return held != NULL && held->size >= size;
}

/* Bytes from a message's buffers, from the first on; returns how many. */
static size_t
gather(unsigned char *to, size_t room, const struct msghdr *h)
{
    size_t done = 0;

    for (size_t i = 0; i < (size_t)h->msg_iovlen && done < room; i++) {
        size_t part = h->msg_iov[i].iov_len < room - done ? h->msg_iov[i].iov_len : room - done;

        if (part != 0) {
            memcpy(to + done, h->msg_iov[i].iov_base, part);
        }
        done += part;
    }
    return done;
}

void
ipv4b_held_append(ipv4b_held_list *list, ipv4b_held *held, const ipv4b_slot *from)
{
    const struct msghdr *h = &from->msg_hdr;
    size_t control_len = (size_t)h->msg_controllen;

    held->next = NULL;
    held->total = from->msg_len;
    held->len = gather(held->bytes, held->total < held->size ? held->total : held->size, h);
    held->offset = 0;
    held->segment_size = ipv4b_gro_segment_size(from);
    held->flags = h->msg_flags;
    held->name_len = h->msg_namelen;
    if (h->msg_namelen == sizeof held->name) {
        memcpy(&held->name, h->msg_name, sizeof held->name);
    }
    held->control_len = control_len < CONTROL_MAX ? control_len : CONTROL_MAX;
    if (control_len != 0) {
        memcpy(held->control, h->msg_control, held->control_len);
    }
    if (list->first == NULL) {
        list->first = held;
    }
    else {
        list->last->next = held;
    }
    list->last = held;
    list->count++;
}

/* Bytes of what comes next. */
static size_t
next_len(const ipv4b_held *held, bool apart)
{
    return ipv4b_gro_segment(held->len, held->offset, apart ? held->segment_size : 0);
}

static void
deliver(const ipv4b_held *from, ipv4b_slot *to, int flags, bool apart)
{
    struct msghdr *h = &to->msg_hdr;
    size_t len = next_len(from, apart);
    size_t fitted = ipv4b_scatter(h, from->bytes + from->offset, len);
    /* What did not fit into the room was at the end. */
    bool last = from->offset + len == from->len;
    bool cut = false;

    h->msg_controllen =
        from->control_len == 0
            ? 0
            : ipv4b_cmsg_deliver(h->msg_control, (size_t)h->msg_controllen, from->control,
                                 from->control_len, apart ? IPPROTO_UDP : -1,
                                 apart ? IPV4B_UDP_GRO : -1, &cut);
    h->msg_flags = (last ? from->flags : from->flags & ~MSG_TRUNC) |
                   (fitted < len ? MSG_TRUNC : 0) | (cut ? MSG_CTRUNC : 0);
    if (h->msg_name != NULL && from->name_len == sizeof from->name) {
        memcpy(h->msg_name, &from->name, sizeof from->name);
    }
    h->msg_namelen = from->name_len;
    if (flags & MSG_TRUNC) {
        fitted = last ? from->total - from->offset : len;
    }
    to->msg_len = (unsigned int)fitted;
}

static void
drop_first(ipv4b_held_list *list)
{
    ipv4b_held *held = list->first;

    list->first = held->next;
    list->count--;
    free(held);
}

size_t
ipv4b_held_take(ipv4b_held_list *list, ipv4b_slot *slots, size_t n, int flags, bool apart)
{
    size_t done = 0;

    while (done < n && list->first != NULL) {
        ipv4b_held *held = list->first;

        deliver(held, &slots[done++], flags, apart);
        if (flags & MSG_PEEK) {
            continue;
        }
        held->offset += next_len(held, apart);
        if (held->offset == held->len) {
            drop_first(list);
        }
    }
    return done;
}

size_t
ipv4b_held_pending(const ipv4b_held_list *list, bool apart)
{
    size_t pending = 0;

    for (const ipv4b_held *held = list->first; held != NULL; held = held->next) {
        pending += ipv4b_gro_segments(held->len - held->offset, apart ? held->segment_size : 0);
    }
    return pending;
}

void
ipv4b_held_clear(ipv4b_held_list *list)
{
    while (list->first != NULL) {
        drop_first(list);
    }
}
