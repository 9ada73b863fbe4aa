/* refusals.c - see refusals.h. */
#include "refusals.h"

#define NS_PER_S INT64_C(1000000000)

ipv4b_refusals *
ipv4b_refusals_new(void)
{
    return calloc(1, sizeof(ipv4b_refusals));
}

static uint16_t *
refusals_bucket(ipv4b_refusals *table, uint64_t hash)
{
    return &table->buckets[hash % IPV4B_REFUSALS_MAX];
}

static struct sockaddr_in
refusals_name(const struct msghdr *h)
{
    struct sockaddr_in name = {0};

    if (h->msg_namelen == sizeof name) {
        memcpy(&name, h->msg_name, sizeof name);
    }
    return name;
}

/* The number and 1 of a path's entry, or 0. */
static uint16_t
refusals_entry(const ipv4b_refusals *table, const struct msghdr *h, uint64_t hash)
{
    struct sockaddr_in name = refusals_name(h);
    uint16_t at = table->buckets[hash % IPV4B_REFUSALS_MAX];

    while (at != 0) {
        const ipv4b_refusal *entry = &table->entries[at - 1];

        if (entry->hash == hash && entry->name.sin_family == name.sin_family &&
            entry->name.sin_port == name.sin_port &&
            entry->name.sin_addr.s_addr == name.sin_addr.s_addr) {
            break;
        }
        at = entry->next;
    }
    return at;
}

int
ipv4b_refusals_find(const ipv4b_refusals *table, const struct msghdr *h, uint64_t hash, int64_t now)
{
    uint16_t at = refusals_entry(table, h, hash);

    return at != 0 && now < table->entries[at - 1].until ? table->entries[at - 1].error : 0;
}

/* Takes an entry out of its bucket. */
static void
refusals_unlink(ipv4b_refusals *table, size_t index)
{
    uint16_t *link = refusals_bucket(table, table->entries[index].hash);

    while (*link != index + 1) {
        link = &table->entries[*link - 1].next;
    }
    *link = table->entries[index].next;
}

void
ipv4b_refusals_add(ipv4b_refusals *table, const struct msghdr *h, uint64_t hash, int error,
                   int64_t now)
{
    uint16_t at = refusals_entry(table, h, hash);
    ipv4b_refusal *entry;
    uint16_t *bucket;

    if (at == 0) {
        size_t index = table->count;

        if (index < IPV4B_REFUSALS_MAX) {
            table->count++;
        }
        else {
            index = table->oldest;
            table->oldest = (index + 1) % IPV4B_REFUSALS_MAX;
            refusals_unlink(table, index);
        }
        entry = &table->entries[index];
        bucket = refusals_bucket(table, hash);
        entry->hash = hash;
        entry->name = refusals_name(h);
        entry->next = *bucket;
        *bucket = (uint16_t)(index + 1);
        at = *bucket;
    }
    entry = &table->entries[at - 1];
    entry->error = error;
    entry->until = now + IPV4B_REFUSAL_SECONDS * NS_PER_S;
}

size_t
ipv4b_refusals_list(const ipv4b_refusals *table, int64_t now, ipv4b_refusal *out)
{
    size_t found = 0;

    for (size_t i = 0; i < table->count; i++) {
        const ipv4b_refusal *entry = &table->entries[(table->oldest + i) % IPV4B_REFUSALS_MAX];

        if (now < entry->until) {
            out[found++] = *entry;
        }
    }
    return found;
}
