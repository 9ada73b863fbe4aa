/* unread.c - see unread.h. */
#include "unread.h"

#include "cmsg.h"
#include "gro.h"
#include "iovec.h"

enum { CONTROL_MAX = 512 /* more than all items that the kernel gives */ };

struct ipv4b_unread {
    ipv4b_unread *next;
    size_t size;         /* of the room */
    size_t len;          /* bytes that are here */
    size_t total;        /* the kernel's length: with MSG_TRUNC more than `len` */
    size_t offset;       /* bytes of a coalesced datagram that were given already */
    size_t segment_size; /* of a coalesced datagram, or 0 */
    int flags;
    socklen_t name_len;
    struct sockaddr_in name;
    size_t control_len;
    unsigned char control[CONTROL_MAX];
    unsigned char bytes[];
};

ipv4b_unread *
ipv4b_unread_new(size_t size)
{
    ipv4b_unread *unread = size > SIZE_MAX - sizeof *unread ? NULL : malloc(sizeof *unread + size);

    if (unread != NULL) {
        unread->size = size;
    }
    return unread;
}

void
ipv4b_unread_free(ipv4b_unread *unread)
{
    free(unread);
}

void
ipv4b_unread_append(ipv4b_unread_list *list, ipv4b_unread *unread, const ipv4b_slot *from)
{
    const struct msghdr *h = &from->msg_hdr;
    size_t control_len = (size_t)h->msg_controllen;

    unread->next = NULL;
    unread->total = from->msg_len;
    unread->len = ipv4b_gather_bytes(
        unread->bytes, unread->total < unread->size ? unread->total : unread->size, h);
    unread->offset = 0;
    unread->segment_size = ipv4b_gro_segment_size(from);
    unread->flags = h->msg_flags;
    unread->name_len = h->msg_namelen;
    if (h->msg_namelen == sizeof unread->name) {
        memcpy(&unread->name, h->msg_name, sizeof unread->name);
    }
    unread->control_len = control_len < CONTROL_MAX ? control_len : CONTROL_MAX;
    if (control_len != 0) {
        memcpy(unread->control, h->msg_control, unread->control_len);
    }
    if (list->first == NULL) {
        list->first = unread;
    }
    else {
        list->last->next = unread;
    }
    list->last = unread;
    list->count++;
}

void
ipv4b_unread_prepend(ipv4b_unread_list *list, ipv4b_unread_list *front)
{
    if (front->first == NULL) {
        return;
    }
    front->last->next = list->first;
    if (list->first == NULL) {
        list->last = front->last;
    }
    list->first = front->first;
    list->count += front->count;
    *front = (ipv4b_unread_list){0};
}

/* Bytes of what comes next. */
static size_t
next_len(const ipv4b_unread *unread, bool split)
{
    return ipv4b_gro_segment(unread->len, unread->offset, split ? unread->segment_size : 0);
}

static void
deliver(const ipv4b_unread *from, ipv4b_slot *to, int flags, bool split)
{
    struct msghdr *h = &to->msg_hdr;
    size_t len = next_len(from, split);
    size_t fitted = ipv4b_scatter(h, from->bytes + from->offset, len);
    /* The end did not fit into the room. */
    bool last = from->offset + len == from->len;
    bool cut = false;

    h->msg_controllen =
        from->control_len == 0
            ? 0
            : ipv4b_cmsg_deliver(h->msg_control, (size_t)h->msg_controllen, from->control,
                                 from->control_len, split ? IPPROTO_UDP : -1,
                                 split ? IPV4B_UDP_GRO : -1, &cut);
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
drop_first(ipv4b_unread_list *list)
{
    ipv4b_unread *unread = list->first;

    list->first = unread->next;
    list->count--;
    free(unread);
}

size_t
ipv4b_unread_take(ipv4b_unread_list *list, ipv4b_slot *slots, size_t n, int flags, bool split)
{
    size_t done = 0;

    while (done < n && list->first != NULL) {
        ipv4b_unread *unread = list->first;

        deliver(unread, &slots[done++], flags, split);
        if (flags & MSG_PEEK) {
            continue;
        }
        unread->offset += next_len(unread, split);
        if (unread->offset == unread->len) {
            drop_first(list);
        }
    }
    return done;
}

size_t
ipv4b_unread_pending(const ipv4b_unread_list *list, bool split)
{
    size_t pending = 0;

    for (const ipv4b_unread *unread = list->first; unread != NULL; unread = unread->next) {
        pending +=
            ipv4b_gro_segments(unread->len - unread->offset, split ? unread->segment_size : 0);
    }
    return pending;
}

void
ipv4b_unread_clear(ipv4b_unread_list *list)
{
    while (list->first != NULL) {
        drop_first(list);
    }
}
