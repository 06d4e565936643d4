/* Locks for data that several processors share.
 * A zeroed lock is free. Nestor takes no interrupt but NMI, and the NMI handler takes no lock.
 * Anyone may use them; a lock's place in the lock order is said where it is declared. */
#ifndef KERNEL_SPINLOCK_H
#define KERNEL_SPINLOCK_H

#include "kernel/base.h"

/* A ticket lock: processors get it in the order in which they asked. */
struct spinlock {
    uint32_t next;  /* ticket of who comes next */
    uint32_t owner; /* ticket that holds the lock now; equal to next when it is free */
};

static inline void spinlock_lock(struct spinlock *lock)
{
    uint32_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&lock->owner, __ATOMIC_ACQUIRE) != ticket)
        __builtin_ia32_pause();
}

static inline void spinlock_unlock(struct spinlock *lock)
{
    __atomic_store_n(&lock->owner, lock->owner + 1, __ATOMIC_RELEASE);
}

/* Whether somebody holds it: for ASSERTs. */
static inline bool spinlock_is_locked(const struct spinlock *lock)
{
    return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) != __atomic_load_n(&lock->next, __ATOMIC_RELAXED);
}

#endif
