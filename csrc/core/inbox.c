/* inbox.c - see inbox.h. */
#include "inbox.h"

#include "gro.h"

/* The kernel copies fastest to the start of a page. Buffers that all start at a multiple of 64
 * KiB compete for a few cache lines, so one more page separates them. */
enum { PAGE = 4096, STRIDE = 65536 + PAGE };

ipv4b_inbox *
ipv4b_inbox_new(void)
{
    ipv4b_inbox *box = calloc(1, sizeof *box);

    if (box != NULL) {
        box->memory = aligned_alloc(PAGE, (size_t)IPV4B_INBOX_SLOTS * STRIDE);
    }
    if (box == NULL || box->memory == NULL) {
        free(box);
        return NULL;
    }
    for (size_t i = 0; i < IPV4B_INBOX_SLOTS; i++) {
        struct msghdr *h = &box->slots[i].msg_hdr;

        box->iov[i] = (struct iovec){box->memory + i * STRIDE, STRIDE};
        h->msg_name = &box->names[i];
        h->msg_iov = &box->iov[i];
        h->msg_iovlen = 1;
    }
    return box;
}

void
ipv4b_inbox_free(ipv4b_inbox *box)
{
    if (box != NULL) {
        free(box->memory);
        free(box);
    }
}

void
ipv4b_inbox_prime(ipv4b_inbox *box, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct msghdr *h = &box->slots[i].msg_hdr;

        h->msg_namelen = sizeof box->names[i];
        h->msg_control = box->control[i];
        h->msg_controllen = sizeof box->control[i];
    }
}

/* Makes `next` the current slot. */
static void
begin_slot(ipv4b_inbox *box)
{
    box->offset = 0;
    box->segment_size =
        ipv4b_inbox_is_empty(box) ? 0 : ipv4b_gro_segment_size(&box->slots[box->next]);
}

void
ipv4b_inbox_fill(ipv4b_inbox *box, size_t count)
{
    box->next = 0;
    box->count = count;
    begin_slot(box);
}

const unsigned char *
ipv4b_inbox_peek(const ipv4b_inbox *box, size_t *len, const struct sockaddr_in **name)
{
    const ipv4b_slot *slot = &box->slots[box->next];

    *len = ipv4b_gro_segment(slot->msg_len, box->offset, box->segment_size);
    *name = &box->names[box->next];
    return (const unsigned char *)box->iov[box->next].iov_base + box->offset;
}

void
ipv4b_inbox_advance(ipv4b_inbox *box, size_t len)
{
    box->offset += len;
    if (box->offset >= box->slots[box->next].msg_len) {
        box->next++;
        begin_slot(box);
    }
}

int
ipv4b_inbox_give_back(const ipv4b_inbox *box, ipv4b_unread_list *list)
{
    size_t offset = box->offset;

    for (size_t i = box->next; i < box->count; i++) {
        ipv4b_slot rest = box->slots[i];
        struct iovec iov = {box->memory + i * STRIDE + offset, STRIDE - offset};
        ipv4b_unread *unread;

        rest.msg_len -= (unsigned int)offset;
        rest.msg_hdr.msg_iov = &iov;
        unread = ipv4b_unread_new(rest.msg_len);
        if (unread == NULL) {
            return -ENOMEM;
        }
        ipv4b_unread_append(list, unread, &rest);
        offset = 0;
    }
    return 0;
}
