/* life.c - see life.h. */
#include "python/io/life.h"

#include "python/io/waker.h"

/* Drops what was received and not read. */
static void
life_drop_unread(ipv4b_conn_object *self)
{
    ipv4b_unread_clear(&self->receiving.unread);
    while (self->receiving.unread_errors.first != NULL) {
        ipv4b_queued_error *e = self->receiving.unread_errors.first;

        self->receiving.unread_errors.first = e->next;
        free(e);
    }
    self->receiving.unread_errors = (ipv4b_error_list){0};
    ipv4b_tx_queue_clear(&self->stamping.queue);
}

void
ipv4b_conn_forget_calls(ipv4b_conn_object *self)
{
    self->life.calls = self->life.plain_reads = 0;
    self->receiving.waiting_for_errors = self->stamping.waiting = 0;
    self->batches.pending_error[IPV4B_READ] = self->batches.pending_error[IPV4B_WRITE] = 0;
    ipv4b_waker_forget(self);
    life_drop_unread(self);
    ipv4b_readable_free(self->receiving.readable); /* the eventfd is the parent's too */
    self->receiving.readable = NULL;
    if (self->receiving.queue != NULL) {
        ipv4b_gro_after_fork(self->receiving.queue);
    }
}

/* Closes the socket object; a borrowed descriptor stays open. Returns 0, or -1 with its exception. */
static int
life_release(ipv4b_conn_object *self)
{
    PyObject *close, *result;

    self->life.release_due = false;
    if (self->descriptor.sock != NULL) {
        close = PyObject_GetAttr(self->descriptor.sock, self->state->str_close);
        if (close == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear(); /* an object that only has a fileno() is borrowed, as an int is */
        result = close == NULL ? Py_NewRef(Py_None) : PyObject_CallNoArgs(close);
        Py_XDECREF(close);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    life_drop_unread(self);
    ipv4b_readable_free(self->receiving.readable);
    self->receiving.readable = NULL;
    ipv4b_gro_free(self->receiving.queue); /* what was not read is lost, as in the kernel */
    self->receiving.queue = NULL;
    return 0;
}

void
ipv4b_conn_release_due(ipv4b_conn_object *self)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (life_release(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    PyErr_Restore(type, value, traceback);
}

int
ipv4b_conn_close(ipv4b_conn_object *self)
{
    ipv4b_conn_check_fork(self);
    /* The calls that would close the socket may be the parent's. */
    if (!self->life.open && !(self->life.release_due && self->life.calls == 0)) {
        return 0;
    }
    self->life.open = false;
    ipv4b_waker_drop(self);
    if (self->life.calls > 0) {
        self->life.release_due = true;
        return 0;
    }
    if (life_release(self) < 0) {
        /* The socket may still be open: close() can be called again. For want of memory nothing was
         * done. */
        self->life.open = PyErr_ExceptionMatches(PyExc_MemoryError) != 0;
        self->life.release_due = !self->life.open;
        return -1;
    }
    return 0;
}
