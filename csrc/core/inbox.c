/* inbox.c - see inbox.h. */
#include "inbox.h"

/* The kernel copies fastest to the start of a page. Where all buffers start at the same place of 64
 * KiB, they share a few lines of the cache: one more page sets them apart. */
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
ipv4b_inbox_prime(ipv4b_inbox *box)
{
    box->next = box->count = 0;
    for (size_t i = 0; i < IPV4B_INBOX_SLOTS; i++) {
        box->slots[i].msg_hdr.msg_namelen = sizeof box->names[i];
        box->slots[i].msg_hdr.msg_controllen = 0;
    }
}
