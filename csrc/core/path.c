/* path.c - see path.h. */
#include "path.h"

/* Only this much control data goes into the number of a path, in bytes. */
enum { HASHED_CONTROL = 256 };

/* Multiplies and folds: every bit of both reaches the low half. */
static inline uint64_t
path_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 32);
}

uint64_t
ipv4b_path_hash(const struct msghdr *h)
{
    static const char place = 0;
    size_t len = (size_t)h->msg_controllen;
    const unsigned char *control = h->msg_control;
    uint64_t hash = path_mix((uintptr_t)&place, len), word;

    if (h->msg_namelen == sizeof(struct sockaddr_in)) {
        memcpy(&word, h->msg_name, sizeof word); /* family, port, address; the rest is padding */
        hash = path_mix(hash, word);
    }
    len = len < HASHED_CONTROL ? len : HASHED_CONTROL;
    for (; len >= sizeof word; len -= sizeof word, control += sizeof word) {
        memcpy(&word, control, sizeof word);
        hash = path_mix(hash, word);
    }
    if (len > 0) {
        word = 0;
        memcpy(&word, control, len);
        hash = path_mix(hash, word);
    }
    return path_mix(hash, 0);
}
