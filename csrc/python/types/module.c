/* module.c - the module ipv4batch._ipv4batch: its functions, its types and its state (PEP 489, PEP
 * 630).
 *
 * Locking: the import lock while it is executed; what it made is only read afterwards.
 */
#include "python/base/state.h"

#include "core/capability.h"
#include "core/fork.h"
#include "core/inbox.h"
#include "python/aio/transport.h"
#include "python/io/error_queue.h"
#include "python/io/signals.h"
#include "python/io/tx_timestamps.h"
#include "python/message/message_type.h"
#include "python/message/slab.h"
#include "python/options/icmp.h"
#include "python/types/conn.h"
#include "python/types/datagramconn.h"
#include "python/types/packetconn.h"
#include "python/types/rawconn.h"
#include "python/values/addr.h"
#include "python/values/control.h"
#include "python/values/header.h"

PyDoc_STRVAR(capabilities_doc,
             "capabilities($module, /)\n--\n\n"
             "What this kernel and process can do, as a dict of bools: 'recvmmsg', 'sendmmsg',\n"
             "'gso' (UDP_SEGMENT), 'gro' (UDP_GRO), 'raw_sockets', 'tx_timestamps' (SCM_TS_OPT_ID),\n"
             "'txtime' (SO_TXTIME), 'max_pacing_rate' (SO_MAX_PACING_RATE). It is found out by trying.\n"
             "Raises OSError if not even a UDP socket can be opened.");

static PyObject *
capabilities(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    ipv4b_capabilities c;
    int r = ipv4b_capabilities_probe(&c);

    if (r < 0) {
        errno = -r;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("{sNsNsNsNsNsNsNsN}", "recvmmsg", PyBool_FromLong(c.recvmmsg), "sendmmsg",
                         PyBool_FromLong(c.sendmmsg), "gso", PyBool_FromLong(c.gso), "gro",
                         PyBool_FromLong(c.gro), "raw_sockets", PyBool_FromLong(c.raw_sockets),
                         "tx_timestamps", PyBool_FromLong(c.tx_timestamps), "txtime",
                         PyBool_FromLong(c.txtime), "max_pacing_rate",
                         PyBool_FromLong(c.max_pacing_rate));
}

static PyMethodDef module_methods[] = {
    {"capabilities", capabilities, METH_NOARGS, capabilities_doc},
    {"checksum", IPV4B_METHOD(ipv4b_checksum_function), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_checksum_doc},
    {"new_control_message", ipv4b_new_control_message, METH_O, ipv4b_new_control_message_doc},
    {"new_messages", IPV4B_METHOD(ipv4b_new_messages), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_new_messages_doc},
    {"parse_header", ipv4b_parse_header, METH_O, ipv4b_parse_header_doc},
    {0},
};

/* Makes a type and adds it to the module. Returns 0 with *out set, or -1. */
static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **out)
{
    *out = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    return *out == NULL ? -1 : PyModule_AddType(module, *out);
}

static int
add_types(PyObject *module, ipv4b_state *s)
{
    if (add_type(module, &ipv4b_message_spec, NULL, &s->message_type) < 0 ||
        add_type(module, &ipv4b_control_spec, NULL, &s->control_type) < 0 ||
        add_type(module, &ipv4b_header_spec, NULL, &s->header_type) < 0 ||
        add_type(module, &ipv4b_icmpfilter_spec, NULL, &s->icmpfilter_type) < 0 ||
        add_type(module, &ipv4b_conn_spec, NULL, &s->conn_type) < 0 ||
        add_type(module, &ipv4b_dgram_spec, s->conn_type, &s->dgram_type) < 0 ||
        add_type(module, &ipv4b_packetconn_spec, s->dgram_type, &s->packetconn_type) < 0 ||
        add_type(module, &ipv4b_rawconn_spec, s->dgram_type, &s->rawconn_type) < 0 ||
        add_type(module, &ipv4b_core_spec, NULL, &s->core_type) < 0) {
        return -1;
    }
    s->message_type->tp_vectorcall = ipv4b_message_call;
    s->slab_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ipv4b_slab_spec, NULL);
    if (s->slab_type == NULL) {
        return -1;
    }
    s->queued_error_type = PyStructSequence_NewType(&ipv4b_queued_error_desc);
    if (s->queued_error_type == NULL || PyModule_AddType(module, s->queued_error_type) < 0) {
        return -1;
    }
    s->tx_timestamp_type = PyStructSequence_NewType(&ipv4b_tx_timestamp_desc);
    return s->tx_timestamp_type == NULL ? -1 : PyModule_AddType(module, s->tx_timestamp_type);
}

static int
module_exec(PyObject *module)
{
    ipv4b_state *s = PyModule_GetState(module);
    PyObject *ipaddress;

    if (add_types(module, s) < 0) {
        /* Some of CPython's functions that make types forget to say that memory ran out. */
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    }
    ipaddress = PyImport_ImportModule("ipaddress");
    if (ipaddress == NULL) {
        return -1;
    }
    s->ipv4address = PyObject_GetAttrString(ipaddress, "IPv4Address");
    Py_DECREF(ipaddress);
    s->str_fileno = PyUnicode_InternFromString("fileno");
    s->str_close = PyUnicode_InternFromString("close");
    s->str_gettimeout = PyUnicode_InternFromString("gettimeout");
    s->str_packed = PyUnicode_InternFromString("packed");
    s->str_datagram_received = PyUnicode_InternFromString("datagram_received");
    if (s->ipv4address == NULL || s->str_datagram_received == NULL || s->str_fileno == NULL ||
        s->str_close == NULL || s->str_gettimeout == NULL || s->str_packed == NULL) {
        return -1;
    }
    if (ipv4b_fork_watch() < 0 || ipv4b_signals_init() < 0) {
        PyErr_NoMemory(); /* its one error (pthread_atfork(3)) */
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    ipv4b_state *s = PyModule_GetState(module);

    Py_VISIT(s->message_type);
    Py_VISIT(s->slab_type);
    Py_VISIT(s->control_type);
    Py_VISIT(s->header_type);
    Py_VISIT(s->icmpfilter_type);
    Py_VISIT(s->queued_error_type);
    Py_VISIT(s->tx_timestamp_type);
    Py_VISIT(s->conn_type);
    Py_VISIT(s->dgram_type);
    Py_VISIT(s->packetconn_type);
    Py_VISIT(s->rawconn_type);
    Py_VISIT(s->core_type);
    Py_VISIT(s->ipv4address);
    Py_VISIT(s->str_fileno);
    Py_VISIT(s->str_close);
    Py_VISIT(s->str_gettimeout);
    Py_VISIT(s->str_packed);
    Py_VISIT(s->set_wakeup_fd);
    Py_VISIT(s->wakeup_fd_names);
    Py_VISIT(s->minus_one);
    Py_VISIT(s->counts);
    Py_VISIT(s->str_datagram_received);
    return 0;
}

static int
module_clear(PyObject *module)
{
    ipv4b_state *s = PyModule_GetState(module);

    Py_CLEAR(s->message_type);
    Py_CLEAR(s->slab_type);
    Py_CLEAR(s->control_type);
    Py_CLEAR(s->header_type);
    Py_CLEAR(s->icmpfilter_type);
    Py_CLEAR(s->queued_error_type);
    Py_CLEAR(s->tx_timestamp_type);
    Py_CLEAR(s->conn_type);
    Py_CLEAR(s->dgram_type);
    Py_CLEAR(s->packetconn_type);
    Py_CLEAR(s->rawconn_type);
    Py_CLEAR(s->core_type);
    Py_CLEAR(s->ipv4address);
    Py_CLEAR(s->str_fileno);
    Py_CLEAR(s->str_close);
    Py_CLEAR(s->str_gettimeout);
    Py_CLEAR(s->str_packed);
    Py_CLEAR(s->set_wakeup_fd);
    Py_CLEAR(s->wakeup_fd_names);
    Py_CLEAR(s->minus_one);
    Py_CLEAR(s->counts);
    Py_CLEAR(s->str_datagram_received);
    ipv4b_endpoint_cache_free(s);
    ipv4b_inbox_free(s->spare_inbox);
    s->spare_inbox = NULL;
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear(module);
    /* Last, since connections that the collector has yet to free look at it. */
}

static PyModuleDef_Slot module_slots[] = {
    IPV4B_SLOT(Py_mod_exec, module_exec),
#ifdef Py_mod_multiple_interpreters
    /* No state is shared between interpreters: every object hangs on the module's own state. */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    /* What threads share is locked: see locks.h, and make tsan. */
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

PyDoc_STRVAR(module_doc, "Batch datagram I/O on IPv4 sockets. Import ipv4batch, not this module.");

struct PyModuleDef ipv4b_module = {
    PyModuleDef_HEAD_INIT,         .m_name = "ipv4batch._ipv4batch", .m_doc = module_doc,
    .m_size = sizeof(ipv4b_state), .m_methods = module_methods,      .m_slots = module_slots,
    .m_traverse = module_traverse, .m_clear = module_clear,          .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__ipv4batch(void) /* CPython finds it by its name: NOLINT(misc-use-internal-linkage) */
{
    return PyModuleDef_Init(&ipv4b_module);
}
