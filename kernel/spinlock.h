/* Locks for data that several processors share.
 * A zeroed lock is free. Nestor takes no interrupt but NMI, and the NMI handler takes no lock.
 * Anyone may use them; a lock has its place in the order of enum lock_rank, which the build CHECKED=1 asserts. */
#ifndef KERNEL_SPINLOCK_H
#define KERNEL_SPINLOCK_H

#include "kernel/base.h"

/* A processor that holds a lock takes only locks of higher ranks. */
enum lock_rank {
    LOCK_UNRANKED,
    LOCK_MSR_POLICY, /* vmx/msr_guest */
    LOCK_MERGED,     /* nested/bitmap/merged_cache */
    LOCK_WATCH,      /* mm/ept_watch */
    LOCK_EPT12_LIST, /* nested/ept02/ept02: the list of all processors' EPT02s */
    LOCK_EPT12,      /* and one processor's trees; never two of them */
    LOCK_EPT01,      /* mm/ept */
    LOCK_PAGES,      /* mm/page */
    LOCK_LOG,        /* kernel/log */
    LOCK_FORBIDDEN = 31,
};

/* A ticket lock: processors get it in the order in which they asked. */
struct spinlock {
    uint32_t next;  /* ticket of who comes next */
    uint32_t owner; /* ticket that holds the lock now; equal to next when it is free */
#ifdef CHECKED
    enum lock_rank rank;
#endif
};

#ifdef CHECKED
#define SPINLOCK(lock_rank)                                                                                            \
    {                                                                                                                  \
        .rank = (lock_rank)                                                                                            \
    }
void spinlock_init(struct spinlock *lock, enum lock_rank rank);
/* The processor is about to take it, or gives it back. */
void spinlock_note(const struct spinlock *lock);
void spinlock_forget(const struct spinlock *lock);
/* No lock may be held here. */
void spinlock_expect_none(void);
/* None may be taken between the two. */
void spinlock_forbid(void);
void spinlock_allow(void);
#else
#define SPINLOCK(lock_rank)                                                                                            \
    {                                                                                                                  \
        0                                                                                                              \
    }
static inline void spinlock_init(struct spinlock *lock, enum lock_rank rank)
{
    (void)lock;
    (void)rank;
}
static inline void spinlock_note(const struct spinlock *lock)
{
    (void)lock;
}
static inline void spinlock_forget(const struct spinlock *lock)
{
    (void)lock;
}
static inline void spinlock_expect_none(void)
{
}
static inline void spinlock_forbid(void)
{
}
static inline void spinlock_allow(void)
{
}
#endif

static inline void spinlock_lock(struct spinlock *lock)
{
    spinlock_note(lock);
    uint32_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&lock->owner, __ATOMIC_ACQUIRE) != ticket)
        __builtin_ia32_pause();
}

static inline void spinlock_unlock(struct spinlock *lock)
{
    spinlock_forget(lock);
    __atomic_store_n(&lock->owner, lock->owner + 1, __ATOMIC_RELEASE);
}

/* True if somebody holds it: for ASSERTs. */
static inline bool spinlock_is_locked(const struct spinlock *lock)
{
    return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) != __atomic_load_n(&lock->next, __ATOMIC_RELAXED);
}

#endif
