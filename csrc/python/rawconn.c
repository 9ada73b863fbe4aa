/* rawconn.c - the type RawConn: see rawconn.h. */
#include "rawconn.h"

#include "datagram.h"
#include "sockopt.h"

static PyMethodDef rawconn_methods[] = {
    {"read_from", IPV4B_METHOD(ipv4b_rawconn_read_from), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_rawconn_read_from_doc},
    {"write_to", IPV4B_METHOD(ipv4b_rawconn_write_to), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_rawconn_write_to_doc},
    {0},
};

static int
rawconn_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    ipv4b_conn_object *self = (ipv4b_conn_object *)op;
    int on = 1;

    if (ipv4b_conn_init(op, args, kwargs, 1U << SOCK_RAW, "an AF_INET socket of type SOCK_RAW") <
        0) {
        return -1;
    }
    return ipv4b_setsockopt(self, "setsockopt IP_HDRINCL", IPPROTO_IP, IP_HDRINCL, &on, sizeof on);
}

PyDoc_STRVAR(rawconn_doc,
             "RawConn(sock)\n--\n\n"
             "Batches of whole IPv4 packets through an AF_INET socket of type SOCK_RAW.\n\n"
             "IP_HDRINCL is set (raw(7)): every message starts with an IPv4 header, written by the\n"
             "caller (Header.marshal) and read as it arrived. The kernel fills in total length and\n"
             "checksum, and id and source where they are 0. sock is as in PacketConn. Raises\n"
             "TypeError or ValueError that says what the argument is instead, and OSError.");

static PyType_Slot rawconn_slots[] = {
    {Py_tp_doc, (void *)rawconn_doc},
    IPV4B_SLOT(Py_tp_init, rawconn_init),
    {Py_tp_methods, rawconn_methods},
    {0, NULL},
};

PyType_Spec ipv4b_rawconn_spec = {
    .name = "ipv4batch.RawConn",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rawconn_slots,
};
