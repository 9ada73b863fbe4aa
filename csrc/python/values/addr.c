/* addr.c - see addr.h. */
#include "python/values/addr.h"

#include "python/base/args.h"
#include "python/base/locks.h"

static int
parse_text(PyObject *value, const char *field, struct in_addr *out)
{
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(value, &len);

    if (text == NULL) {
        /* A text with lone surrogates is no address. */
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s: %R is no IPv4 address", field, value);
        return -1;
    }
    if ((size_t)len == strlen(text) && inet_pton(AF_INET, text, out) == 1) {
        return 0;
    }
    if (strspn(text, "0123456789.") == (size_t)len || strchr(text, ':') != NULL) {
        PyErr_Format(PyExc_ValueError, "%s: %R is no IPv4 address", field, value);
    }
    else {
        PyErr_Format(PyExc_ValueError,
                     "%s: %R is no IPv4 address; resolve a name first (socket.getaddrinfo)", field,
                     value);
    }
    return -1;
}

static int
parse_packed(PyObject *value, const char *field, struct in_addr *out)
{
    Py_buffer view;

    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    if (view.len != sizeof out->s_addr) {
        PyErr_Format(PyExc_ValueError, "%s: a packed IPv4 address has 4 bytes, not %zd", field,
                     view.len);
        PyBuffer_Release(&view);
        return -1;
    }
    memcpy(&out->s_addr, view.buf, sizeof out->s_addr);
    PyBuffer_Release(&view);
    return 0;
}

/* A number from 0 to 255 without leading zeros; moves *at behind it. Returns it, or more than 255. */
static inline unsigned int
parse_octet(const unsigned char **at)
{
    const unsigned char *p = *at;
    unsigned int octet = p[0] - (unsigned int)'0', next = p[1] - (unsigned int)'0';

    p++;
    if (octet > 9) {
        return 256;
    }
    if (octet != 0 && next <= 9) {
        octet = octet * 10 + next;
        next = p[1] - (unsigned int)'0';
        p++;
        if (next <= 9) {
            octet = octet * 10 + next;
            p++;
        }
    }
    *at = p;
    return octet;
}

/* The usual text, in a fraction of inet_pton's time. Returns false for all that needs a closer look. */
static bool
parse_digits(PyObject *text, struct in_addr *out)
{
    unsigned char octets[sizeof out->s_addr];
    const unsigned char *at, *end;

    if (!PyUnicode_IS_COMPACT_ASCII(text)) {
        return false;
    }
    at = PyUnicode_1BYTE_DATA(text); /* a NUL ends it */
    end = at + PyUnicode_GET_LENGTH(text);
    for (size_t i = 0; i < sizeof octets; i++) {
        unsigned int octet;

        if (i > 0) {
            if (at == end || *at != '.') {
                return false;
            }
            at++;
        }
        octet = at == end ? 256 : parse_octet(&at);
        if (octet > 255) {
            return false;
        }
        octets[i] = (unsigned char)octet;
    }
    memcpy(&out->s_addr, octets, sizeof octets);
    return at == end;
}

/* A port that is a plain int in range, or -1 for all others, which ipv4b_parse_int looks at. */
static long
small_port(PyObject *value)
{
    long port = -1;

    if (PyLong_CheckExact(value)) {
        port = PyLong_AsLong(value);
        if (port == -1) {
            PyErr_Clear();
        }
    }
    return port >= 0 && port <= 65535 ? port : -1;
}

int
ipv4b_addr_parse(ipv4b_state *state, PyObject *value, const char *field, struct in_addr *out)
{
    int is_address;

    if (PyUnicode_Check(value)) {
        return parse_digits(value, out) ? 0 : parse_text(value, field, out);
    }
    /* Not any buffer: the bytes of a number, as a numpy int32, are no address. */
    if (PyBytes_Check(value) || PyByteArray_Check(value)) {
        return parse_packed(value, field, out);
    }
    is_address = PyObject_IsInstance(value, state->ipv4address);
    if (is_address < 0) {
        return -1;
    }
    if (is_address) {
        PyObject *packed = PyObject_GetAttr(value, state->str_packed);
        int r;

        if (packed == NULL) {
            return -1;
        }
        r = parse_packed(packed, field, out);
        Py_DECREF(packed);
        return r;
    }
    PyErr_Format(PyExc_TypeError,
                 "%s: an address is a str, an ipaddress.IPv4Address or 4 packed bytes, not %.100s",
                 field, Py_TYPE(value)->tp_name);
    return -1;
}

bool
ipv4b_endpoint_parse_usual(PyObject *value, struct sockaddr_in *out)
{
    PyObject *host;
    struct in_addr addr;
    long port;

    if (!PyTuple_CheckExact(value) || PyTuple_GET_SIZE(value) != 2) {
        return false;
    }
    host = PyTuple_GET_ITEM(value, 0);
    if (!PyUnicode_CheckExact(host) || !parse_digits(host, &addr) ||
        (port = small_port(PyTuple_GET_ITEM(value, 1))) < 0) {
        return false;
    }
    memset(out, 0, sizeof *out);
    out->sin_family = AF_INET;
    out->sin_port = htons((uint16_t)port);
    out->sin_addr = addr;
    return true;
}

int
ipv4b_endpoint_parse(ipv4b_state *state, PyObject *value, const char *field,
                     struct sockaddr_in *out)
{
    struct in_addr host;
    long long port;
    PyObject *host_object, *port_object;
    int r = -1;

    if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 2) {
        PyErr_Format(PyExc_TypeError, "%s: a (host, port) tuple is required, not %R", field, value);
        return -1;
    }
    host_object = Py_NewRef(PyTuple_GET_ITEM(value, 0));
    port_object = Py_NewRef(PyTuple_GET_ITEM(value, 1));
    if (ipv4b_addr_parse(state, host_object, field, &host) == 0) {
        char port_field[64];

        PyOS_snprintf(port_field, sizeof port_field, "%.50s: port", field);
        r = ipv4b_parse_int(port_object, port_field, 0, 65535, &port);
    }
    if (r == 0) {
        memset(out, 0, sizeof *out);
        out->sin_family = AF_INET;
        out->sin_port = htons((uint16_t)port);
        out->sin_addr = host;
    }
    Py_DECREF(host_object);
    Py_DECREF(port_object);
    return r;
}

size_t
ipv4b_addr_text(struct in_addr addr, char *out)
{
    /* inet_ntop goes through printf and takes several times as long as the rest of building an
     * address. */
    unsigned char octets[4];
    char *at = out;

    memcpy(octets, &addr.s_addr, sizeof octets);
    for (int i = 0; i < 4; i++) {
        unsigned int octet = octets[i];

        if (octet >= 100) {
            *at++ = (char)('0' + octet / 100);
        }
        if (octet >= 10) {
            *at++ = (char)('0' + octet / 10 % 10);
        }
        *at++ = (char)('0' + octet % 10);
        *at++ = '.';
    }
    *--at = '\0';
    return (size_t)(at - out);
}

PyObject *
ipv4b_addr_str(struct in_addr addr)
{
    char text[INET_ADDRSTRLEN];
    size_t len = ipv4b_addr_text(addr, text);
    PyObject *str = PyUnicode_New((Py_ssize_t)len, 127);

    if (str != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(str), text, len);
    }
    return str;
}

PyObject *
ipv4b_endpoint_tuple(const struct sockaddr_in *endpoint)
{
    PyObject *host = ipv4b_addr_str(endpoint->sin_addr);
    PyObject *port = host == NULL ? NULL : PyLong_FromLong(ntohs(endpoint->sin_port));
    PyObject *tuple = port == NULL ? NULL : PyTuple_New(2);

    if (tuple == NULL) {
        Py_XDECREF(host);
        Py_XDECREF(port);
        return NULL;
    }
    PyTuple_SET_ITEM(tuple, 0, host);
    PyTuple_SET_ITEM(tuple, 1, port);
    return tuple;
}

/* A table of tuples. Each endpoint has one place in it, which it shares with others; the last
 * one stays. The tuples hold a str and an int, so the garbage collector need not see them. */
enum { CACHE_BITS = 12 };

struct ipv4b_endpoint_cache {
    struct {
        uint32_t host;
        uint16_t port;
        ipv4b_lock lock;
        PyObject *tuple; /* or NULL */
    } places[1 << CACHE_BITS];
};

/* The table, which is made when the first tuple is; or NULL with MemoryError. */
static struct ipv4b_endpoint_cache *
endpoint_cache(ipv4b_state *state)
{
    struct ipv4b_endpoint_cache *cache = __atomic_load_n(&state->endpoints, __ATOMIC_ACQUIRE);
    struct ipv4b_endpoint_cache *fresh;

    if (cache != NULL) {
        return cache;
    }
    fresh = PyMem_Calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (!__atomic_compare_exchange_n(&state->endpoints, &cache, fresh, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        PyMem_Free(fresh); /* another thread was faster */
        return cache;
    }
    return fresh;
}

PyObject *
ipv4b_endpoint_cached(ipv4b_state *state, const struct sockaddr_in *endpoint)
{
    uint32_t host = endpoint->sin_addr.s_addr;
    uint16_t port = endpoint->sin_port;
    uint64_t key = (uint64_t)host << 16 | port;
    /* The factor is 2**64 over the golden ratio, which spreads neighbouring keys. */
    size_t place = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - CACHE_BITS));
    struct ipv4b_endpoint_cache *cache = endpoint_cache(state);
    PyObject *tuple = NULL, *former;

    if (cache == NULL) {
        return NULL;
    }
    ipv4b_lock_acquire(&cache->places[place].lock);
    if (cache->places[place].host == host && cache->places[place].port == port) {
        tuple = Py_XNewRef(cache->places[place].tuple);
    }
    ipv4b_lock_release(&cache->places[place].lock);
    if (tuple != NULL) {
        return tuple;
    }
    tuple = ipv4b_endpoint_tuple(endpoint);
    if (tuple != NULL) {
        ipv4b_lock_acquire(&cache->places[place].lock);
        former = cache->places[place].tuple;
        cache->places[place].host = host;
        cache->places[place].port = port;
        cache->places[place].tuple = Py_NewRef(tuple);
        ipv4b_lock_release(&cache->places[place].lock);
        Py_XDECREF(former);
    }
    return tuple;
}

void
ipv4b_endpoint_cache_free(ipv4b_state *state)
{
    struct ipv4b_endpoint_cache *cache = state->endpoints;

    state->endpoints = NULL;
    for (size_t i = 0; cache != NULL && i < (size_t)1 << CACHE_BITS; i++) {
        Py_XDECREF(cache->places[i].tuple);
    }
    PyMem_Free(cache);
}
