/* packetconn.c - the type PacketConn: see packetconn.h. */
#include "packetconn.h"

#include "datagram.h"

static PyMethodDef packetconn_methods[] = {
    {"read_from", IPV4B_METHOD(ipv4b_packetconn_read_from), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_packetconn_read_from_doc},
    {"write_to", IPV4B_METHOD(ipv4b_packetconn_write_to), METH_FASTCALL | METH_KEYWORDS,
     ipv4b_packetconn_write_to_doc},
    {0},
};

PyDoc_STRVAR(packetconn_doc,
             "PacketConn(sock)\n--\n\n"
             "Batches of datagrams through an AF_INET socket of type SOCK_DGRAM or SOCK_RAW.\n\n"
             "sock is a socket.socket or another object with fileno(), which is kept and asked at\n"
             "every call; or an int, a descriptor that is borrowed and never closed. Raises\n"
             "TypeError or ValueError that says what the argument is instead. On a raw socket\n"
             "read_from takes the IPv4 header off; read_batch gives whole packets, as Go's ReadBatch.");

static PyType_Slot packetconn_slots[] = {
    {Py_tp_doc, (void *)packetconn_doc},
    {Py_tp_methods, packetconn_methods},
    {0, NULL},
};

PyType_Spec ipv4b_packetconn_spec = {
    .name = "ipv4batch.PacketConn",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = packetconn_slots,
};
