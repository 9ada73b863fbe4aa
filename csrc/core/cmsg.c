/* cmsg.c - see cmsg.h. */
#include "cmsg.h"

int
ipv4b_cmsg_put(ipv4b_cmsg_encoder *enc, int level, int type, const void *data, size_t len)
{
    size_t space = CMSG_SPACE(len);
    unsigned char *at = enc->buf + enc->len;
    struct cmsghdr header;

    if (enc->cap - enc->len < space) {
        return -ENOBUFS;
    }
    /* The whole space is zeroed first: no byte of the caller's old memory goes to the kernel. */
    memset(at, 0, space);
    memset(&header, 0, sizeof header);
    header.cmsg_len = CMSG_LEN(len);
    header.cmsg_level = level;
    header.cmsg_type = type;
    memcpy(at, &header, sizeof header);
    memcpy(at + CMSG_LEN(0), data, len);
    enc->len += space;
    return 0;
}

int
ipv4b_cmsg_next(ipv4b_cmsg_iter *it, ipv4b_cmsg_item *out)
{
    size_t left = it->len - it->pos;
    struct cmsghdr header;
    size_t total, space;

    if (left < CMSG_LEN(0)) {
        return 0;
    }
    memcpy(&header, it->buf + it->pos, sizeof header);
    total = (size_t)header.cmsg_len;
    if (total == 0) {
        return -EINVAL;
    }
    if (total < CMSG_LEN(0)) {
        return -EBADMSG;
    }
    if (total > left) {
        return -ENOBUFS;
    }
    out->level = header.cmsg_level;
    out->type = header.cmsg_type;
    out->data = it->buf + it->pos + CMSG_LEN(0);
    out->len = total - CMSG_LEN(0);
    /* The last item may come without its padding, so the step is cut to what is left. */
    space = CMSG_SPACE(out->len);
    it->pos += space < left ? space : left;
    return 1;
}

size_t
ipv4b_cmsg_deliver(void *to, size_t cap, const void *from, size_t len, int skip_level,
                   int skip_type, bool *truncated)
{
    ipv4b_cmsg_iter it = {.buf = from, .len = len};
    ipv4b_cmsg_item item;
    size_t pos = 0;

    *truncated = false;
    while (ipv4b_cmsg_next(&it, &item) > 0) {
        size_t left = cap - pos;
        unsigned char *at;
        struct cmsghdr header;
        size_t whole = CMSG_LEN(item.len);

        if (item.level == skip_level && item.type == skip_type) {
            continue;
        }
        *truncated = *truncated || left < whole;
        if (left < sizeof header) {
            continue;
        }
        at = (unsigned char *)to + pos;
        whole = left < whole ? left : whole;
        memset(&header, 0, sizeof header);
        header.cmsg_len = whole;
        header.cmsg_level = item.level;
        header.cmsg_type = item.type;
        memcpy(at, &header, sizeof header);
        memcpy(at + CMSG_LEN(0), item.data, whole - CMSG_LEN(0));
        pos += CMSG_SPACE(item.len) < left ? CMSG_SPACE(item.len) : left;
    }
    return pos;
}

int
ipv4b_cmsg_check(const void *buf, size_t len, size_t *where)
{
    const unsigned char *at = buf;
    size_t left = len;
    ipv4b_cmsg_iter it = {.buf = buf, .len = len};
    ipv4b_cmsg_item item;
    int r;

    /* A quick check, because every write makes it: each length is at least that of a header and
     * at most what is left. */
    while (left >= CMSG_LEN(0)) {
        struct cmsghdr header;
        size_t space;

        memcpy(&header, at, sizeof header);
        if ((size_t)header.cmsg_len - CMSG_LEN(0) > left - CMSG_LEN(0)) {
            break;
        }
        space = CMSG_ALIGN((size_t)header.cmsg_len);
        if (space >= left) {
            return 0;
        }
        at += space;
        left -= space;
    }
    if (left < CMSG_LEN(0)) {
        return 0;
    }
    /* Something is wrong, and the iterator says what. */
    do {
        r = ipv4b_cmsg_next(&it, &item);
    } while (r > 0);
    *where = it.pos;
    return r;
}

const char *
ipv4b_cmsg_strerror(int err)
{
    switch (err) {
    case -EINVAL:
        return "invalid header length";
    case -EBADMSG:
        return "invalid message length";
    case -ENOBUFS:
        return "short buffer";
    default:
        return "invalid control message";
    }
}
