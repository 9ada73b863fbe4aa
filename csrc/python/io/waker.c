/* waker.c - see waker.h. */
#include "python/io/waker.h"

#include "python/io/signals.h"

static void
waker_free(ipv4b_waker *waker)
{
    ipv4b_wake_close(&waker->wake);
    ipv4b_signals_close(&waker->signals);
    PyMem_Free(waker);
}

void
ipv4b_waker_release(ipv4b_waker *waker)
{
    if (waker != NULL && --waker->refs == 0) {
        waker_free(waker);
    }
}

int
ipv4b_waker_acquire(ipv4b_conn_object *self, ipv4b_waker **out)
{
    if (self->waiting.waker == NULL) {
        ipv4b_waker *fresh = PyMem_Malloc(sizeof *fresh);
        int r;

        if (fresh == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        r = ipv4b_wake_open(&fresh->wake);
        if (r < 0) {
            PyMem_Free(fresh);
            return -r;
        }
        fresh->signals.read_fd = fresh->signals.write_fd = -1;
        fresh->refs = 1; /* the connection's own */
        self->waiting.waker = fresh;
    }
    self->waiting.waker->refs++;
    *out = self->waiting.waker;
    return 0;
}

void
ipv4b_waker_drop(ipv4b_conn_object *self)
{
    ipv4b_waker *waker = self->waiting.waker;

    self->waiting.waker = NULL;
    if (waker != NULL && waker->refs > 1) {
        ipv4b_wake_signal(&waker->wake);
    }
    ipv4b_waker_release(waker);
}

void
ipv4b_waker_wake(ipv4b_conn_object *self)
{
    /* If no call waits, the descriptor stays for the next ones. */
    if (self->waiting.waker != NULL && self->waiting.waker->refs > 1) {
        ipv4b_waker_drop(self);
    }
}

void
ipv4b_waker_forget(ipv4b_conn_object *self)
{
    /* It must not be signalled: the parent has the same file, and its threads would wake for
     * ever. */
    if (self->waiting.waker != NULL) {
        waker_free(self->waiting.waker);
        self->waiting.waker = NULL;
    }
}
