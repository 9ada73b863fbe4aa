/* state.h - what one import of the module owns: its types and the objects that they look up.
 *
 * Every .c file of this folder includes this header first, since Python.h must come before the
 * system's. Locking: the members are set while the module is executed and only read afterwards.
 */
#ifndef IPV4B_STATE_H
#define IPV4B_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* The traverse and clear functions in module.c list the members in this order. */
typedef struct {
    PyTypeObject *message_type;
    PyTypeObject *slab_type;
    PyTypeObject *control_type;
    PyTypeObject *header_type;
    PyTypeObject *icmpfilter_type;
    PyTypeObject *queued_error_type;
    PyTypeObject *tx_timestamp_type;
    PyTypeObject *conn_type;
    PyTypeObject *dgram_type;
    PyTypeObject *packetconn_type;
    PyTypeObject *rawconn_type;
    PyTypeObject *core_type;
    PyObject *ipv4address; /* ipaddress.IPv4Address */
    PyObject *str_fileno;
    PyObject *str_close;
    PyObject *str_gettimeout;
    PyObject *str_packed;
    PyObject *counts; /* the ints that a batch can return, or NULL before the first (count.c) */
    PyObject *str_datagram_received;
    /* Of the main thread; NULL before its first long wait (signals.c). */
    PyObject *set_wakeup_fd;   /* signal.set_wakeup_fd */
    PyObject *wakeup_fd_names; /* ("warn_on_full_buffer",) */
    PyObject *minus_one;       /* -1 */
    unsigned long
        main_thread;         /* the thread that runs signal handlers, 0 while unknown (signals.c) */
    unsigned int main_forks; /* ipv4b_forks() when main_thread was set */
    struct ipv4b_endpoint_cache
        *endpoints;                  /* tuples that were made for addresses, or NULL (addr.h) */
    struct ipv4b_inbox *spare_inbox; /* the asyncio transports' in common, or NULL; atomic */
} ipv4b_state;

/* A slot that holds a function, and a method of another signature than PyCFunction's: ISO C has no
 * implicit conversion for either. */
#define IPV4B_SLOT(id, function) {id, (void *)(uintptr_t)(function)}
#define IPV4B_METHOD(function) ((PyCFunction)(void (*)(void))(function))

extern struct PyModuleDef ipv4b_module;

/* BORROWED. The state of the module that `type`, or a base of it, belongs to; NULL with an
 * exception set. */
static inline ipv4b_state *
ipv4b_state_of(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &ipv4b_module);

    return module == NULL ? NULL : PyModule_GetState(module);
}

/* BORROWED. A type's name without its module, for a repr. */
static inline const char *
ipv4b_type_name(PyTypeObject *type)
{
    const char *dot = strrchr(type->tp_name, '.');

    return dot == NULL ? type->tp_name : dot + 1;
}

#endif
