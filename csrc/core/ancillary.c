/* ancillary.c - see ancillary.h. */
#include "ancillary.h"

#include "cmsg.h"
#include "timespec.h"

typedef struct {
    unsigned int flags; /* the public flags that ask for this item */
    int level;
    int type;     /* of the control message when received */
    int sent;     /* and when sent, if that is another; or 0 */
    int option;   /* the socket option, at the same level, that turns its delivery on */
    size_t space; /* the most that its data takes when received */
    int (*parse)(ipv4b_ancillary *out, const unsigned char *data, size_t len);
    int (*marshal)(const ipv4b_ancillary *in, ipv4b_cmsg_encoder *enc);
} row;

/* Decodes a number by the length that the item has: the same item is an int in one direction or
 * kernel and a byte in another. Returns 0 or -EPROTO. */
static int
decode_int(const unsigned char *data, size_t len, int *out)
{
    if (len == sizeof *out) {
        memcpy(out, data, sizeof *out);
        return 0;
    }
    if (len == 1) {
        *out = data[0];
        return 0;
    }
    return -EPROTO;
}

/* Notes whether the item is present. Its value 0 means that it is not. */
static void
note(ipv4b_ancillary *out, unsigned int bit, bool there)
{
    out->present = there ? out->present | bit : out->present & ~bit;
}

static int
ttl_parse(ipv4b_ancillary *out, const unsigned char *data, size_t len)
{
    int ttl;

    if (decode_int(data, len, &ttl) < 0 || ttl < 0 || ttl > UINT8_MAX) {
        return -EPROTO;
    }
    out->ttl = ttl;
    note(out, IPV4B_CM_TTL, ttl != 0);
    return 0;
}

static int
ttl_marshal(const ipv4b_ancillary *in, ipv4b_cmsg_encoder *enc)
{
    if (!(in->present & IPV4B_CM_TTL)) {
        return 0;
    }
    /* ip_cmsg_send takes a 4-byte int only (net/ipv4/ip_sockglue.c). */
    return ipv4b_cmsg_put(enc, IPPROTO_IP, IP_TTL, &in->ttl, sizeof in->ttl);
}

static int
pktinfo_parse(ipv4b_ancillary *out, const unsigned char *data, size_t len)
{
    ipv4b_pktinfo info;

    if (len < sizeof info) {
        return -EPROTO;
    }
    memcpy(&info, data, sizeof info);
    if ((int)info.ipi_ifindex < 0) {
        return -EPROTO;
    }
    out->dst = info.ipi_addr;
    out->local = info.ipi_spec_dst;
    out->ifindex = (int)info.ipi_ifindex;
    out->present |= IPV4B_CM_DST;
    note(out, IPV4B_CM_INTERFACE, out->ifindex != 0);
    return 0;
}

static int
pktinfo_marshal(const ipv4b_ancillary *in, ipv4b_cmsg_encoder *enc)
{
    ipv4b_pktinfo info;

    if (!(in->present & (IPV4B_CM_SRC | IPV4B_CM_INTERFACE))) {
        return 0;
    }
    memset(&info, 0, sizeof info);
    if (in->present & IPV4B_CM_SRC) {
        info.ipi_spec_dst = in->src;
    }
    if (in->present & IPV4B_CM_INTERFACE) {
        info.ipi_ifindex = in->ifindex;
    }
    return ipv4b_cmsg_put(enc, IPPROTO_IP, IPV4B_IP_PKTINFO, &info, sizeof info);
}

static int
tos_parse(ipv4b_ancillary *out, const unsigned char *data, size_t len)
{
    int tos;

    if (decode_int(data, len, &tos) < 0 || tos < 0 || tos > UINT8_MAX) {
        return -EPROTO;
    }
    out->tos = tos;
    out->present |= IPV4B_CM_TOS;
    return 0;
}

static int
tos_marshal(const ipv4b_ancillary *in, ipv4b_cmsg_encoder *enc)
{
    if (!(in->present & IPV4B_CM_TOS)) {
        return 0;
    }
    return ipv4b_cmsg_put(enc, IPPROTO_IP, IP_TOS, &in->tos, sizeof in->tos);
}

static int
timestamp_parse(ipv4b_ancillary *out, const unsigned char *data, size_t len)
{
    if (!ipv4b_timespec_parse(data, len, &out->timestamp_ns)) {
        return -EPROTO;
    }
    out->present |= IPV4B_CM_TIMESTAMP;
    return 0;
}

static int
drops_parse(ipv4b_ancillary *out, const unsigned char *data, size_t len)
{
    if (len != sizeof out->drops) {
        return -EPROTO;
    }
    memcpy(&out->drops, data, sizeof out->drops);
    out->present |= IPV4B_CM_DROPS;
    return 0;
}

static int
segment_parse(ipv4b_ancillary *out, const unsigned char *data, size_t len)
{
    uint16_t narrow;
    int size;

    /* UDP_GRO gives an int, UDP_SEGMENT takes a u16 (net/ipv4/udp.c). */
    if (len == sizeof narrow) {
        memcpy(&narrow, data, sizeof narrow);
        size = narrow;
    }
    else if (len != sizeof size || decode_int(data, len, &size) < 0) {
        return -EPROTO;
    }
    if (size < 0 || size > UINT16_MAX) {
        return -EPROTO;
    }
    out->segment_size = size;
    note(out, IPV4B_CM_SEGMENT, size != 0);
    return 0;
}

static int
segment_marshal(const ipv4b_ancillary *in, ipv4b_cmsg_encoder *enc)
{
    uint16_t size = (uint16_t)in->segment_size;

    if (!(in->present & IPV4B_CM_SEGMENT)) {
        return 0;
    }
    return ipv4b_cmsg_put(enc, IPPROTO_UDP, IPV4B_UDP_SEGMENT, &size, sizeof size);
}

/* In the order in which they are asked for and written. */
static const row rows[] = {
    {
        .flags = IPV4B_CM_TTL,
        .level = IPPROTO_IP,
        .type = IPV4B_CMSG_TTL,
        .option = IPV4B_IP_RECVTTL,
        .space = sizeof(int),
        .parse = ttl_parse,
        .marshal = ttl_marshal,
    },
    {
        .flags = IPV4B_CM_SRC | IPV4B_CM_DST | IPV4B_CM_INTERFACE,
        .level = IPPROTO_IP,
        .type = IPV4B_IP_PKTINFO,
        .option = IPV4B_IP_PKTINFO,
        .space = sizeof(ipv4b_pktinfo),
        .parse = pktinfo_parse,
        .marshal = pktinfo_marshal,
    },
    {
        .flags = IPV4B_CM_TOS,
        .level = IPPROTO_IP,
        .type = IPV4B_CMSG_TOS,
        .option = IPV4B_IP_RECVTOS,
        .space = sizeof(uint8_t),
        .parse = tos_parse,
        .marshal = tos_marshal,
    },
    {
        .flags = IPV4B_CM_TIMESTAMP,
        .level = SOL_SOCKET,
        .type = IPV4B_SCM_TIMESTAMPNS,
        .option = IPV4B_SO_TIMESTAMPNS,
        .space = 2 * sizeof(int64_t),
        .parse = timestamp_parse,
    },
    {
        .flags = IPV4B_CM_DROPS,
        .level = SOL_SOCKET,
        .type = IPV4B_SO_RXQ_OVFL,
        .option = IPV4B_SO_RXQ_OVFL,
        .space = sizeof(uint32_t),
        .parse = drops_parse,
    },
    {
        .flags = IPV4B_CM_SEGMENT,
        .level = IPPROTO_UDP,
        .type = IPV4B_UDP_GRO,
        .sent = IPV4B_UDP_SEGMENT,
        .option = IPV4B_UDP_GRO,
        .space = sizeof(int),
        .parse = segment_parse,
        .marshal = segment_marshal,
    },
};

enum { ROWS = sizeof rows / sizeof rows[0] };

size_t
ipv4b_ancillary_space(unsigned int flags)
{
    size_t space = 0;

    for (size_t i = 0; i < ROWS; i++) {
        if (flags & rows[i].flags) {
            space += CMSG_SPACE(rows[i].space);
        }
    }
    return space;
}

static const row *
row_of(const ipv4b_cmsg_item *item)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].level == item->level &&
            (rows[i].type == item->type || (rows[i].sent != 0 && rows[i].sent == item->type))) {
            return &rows[i];
        }
    }
    return NULL;
}

int
ipv4b_ancillary_parse(ipv4b_ancillary *out, const void *buf, size_t len, size_t *where)
{
    ipv4b_ancillary parsed = *out;
    ipv4b_cmsg_iter it = {.buf = buf, .len = len};
    ipv4b_cmsg_item item;
    size_t start = 0;
    int r;

    while ((r = ipv4b_cmsg_next(&it, &item)) > 0) {
        const row *known = row_of(&item);

        if (known != NULL && (r = known->parse(&parsed, item.data, item.len)) < 0) {
            break;
        }
        start = it.pos;
    }
    if (r < 0) {
        if (where != NULL) {
            *where = start;
        }
        return r;
    }
    *out = parsed;
    return 0;
}

int
ipv4b_ancillary_marshal(const ipv4b_ancillary *in, void *buf, size_t cap)
{
    ipv4b_cmsg_encoder enc = {.buf = buf, .cap = cap};

    for (size_t i = 0; i < ROWS; i++) {
        int r = rows[i].marshal == NULL ? 0 : rows[i].marshal(in, &enc);

        if (r < 0) {
            return r;
        }
    }
    return (int)enc.len;
}

int
ipv4b_ancillary_request(int fd, unsigned int flags, unsigned int changed, unsigned int *current)
{
    for (size_t i = 0; i < ROWS; i++) {
        unsigned int wanted = flags & rows[i].flags;
        int on = wanted != 0;

        if (!(changed & rows[i].flags)) {
            continue;
        }
        if (rows[i].option < 0) {
            if (on) {
                return -ENOPROTOOPT;
            }
        }
        else if (setsockopt(fd, rows[i].level, rows[i].option, &on, sizeof on) < 0) {
            return -errno;
        }
        *current = (*current & ~rows[i].flags) | wanted;
    }
    return 0;
}

int
ipv4b_ancillary_found(int fd, unsigned int *flags)
{
    *flags = 0;
    for (size_t i = 0; i < ROWS; i++) {
        int on = 0;
        socklen_t len = sizeof on;

        if (rows[i].option < 0) {
            continue;
        }
        if (getsockopt(fd, rows[i].level, rows[i].option, &on, &len) < 0) {
            if (errno != ENOPROTOOPT && errno != EOPNOTSUPP && errno != EINVAL) {
                return -errno;
            }
        }
        else if (on != 0) {
            *flags |= rows[i].flags;
        }
    }
    return 0;
}
