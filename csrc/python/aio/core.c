/* core.c - see core.h. */
#include "python/aio/core.h"

#include "python/base/locks.h"

void
ipv4b_core_release_inbox(ipv4b_core_object *self)
{
    ipv4b_inbox *box = self->inbox;

    self->inbox = NULL;
    if (box != NULL) {
        ipv4b_inbox_free(__atomic_exchange_n(&self->state->spare_inbox, box, __ATOMIC_ACQ_REL));
    }
}

PyObject *
ipv4b_core_take_exception(void)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

int
ipv4b_core_tell(ipv4b_core_object *self, const char *method, PyObject *argument)
{
    PyObject *transport, *result;

    Py_BEGIN_CRITICAL_SECTION(self);
    transport = Py_XNewRef(self->transport);
    Py_END_CRITICAL_SECTION();
    if (transport == NULL) {
        return 0;
    }
    result = PyObject_CallMethod(transport, method, "(O)", argument);
    Py_DECREF(transport);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}
