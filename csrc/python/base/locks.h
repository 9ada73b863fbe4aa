/* locks.h - the lock of an object, for a Python without a GIL.
 *
 * Locking: a critical section guards copying in and out of an object's fields, never a system call.
 * Like the GIL it is let go of where the thread is detached (a wait, a switch of threads), and also
 * where a section on another object begins: what must hold over a call into Python is looked at
 * again after it. No return and no goto leaves a section. With the GIL, a section is a pair of
 * braces.
 *
 * Fields that are read without the object's lock are stored with IPV4B_STORE_RELAXED: such a reader
 * may see an old value, but none that was never there.
 */
#ifndef IPV4B_LOCKS_H
#define IPV4B_LOCKS_H

#include "python/base/state.h"

#ifndef Py_BEGIN_CRITICAL_SECTION /* Python 3.12 and earlier */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#define Py_BEGIN_CRITICAL_SECTION2(a, b) {
#define Py_END_CRITICAL_SECTION2() }
#endif

/* A lock that belongs to no object, held for a few instructions. With the GIL it is empty. */
#ifdef Py_GIL_DISABLED
typedef PyMutex ipv4b_lock;
#define ipv4b_lock_acquire(lock) PyMutex_Lock(lock)
#define ipv4b_lock_release(lock) PyMutex_Unlock(lock)
#else
typedef char ipv4b_lock;
#define ipv4b_lock_acquire(lock) ((void)(lock))
#define ipv4b_lock_release(lock) ((void)(lock))
#endif

#define IPV4B_STORE_RELAXED(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#define IPV4B_LOAD_RELAXED(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

#endif
