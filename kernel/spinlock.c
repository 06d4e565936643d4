#include "kernel/spinlock.h"

#ifdef CHECKED
#include "kernel/panic.h"
#include "kernel/percpu.h"

void spinlock_init(struct spinlock *lock, enum lock_rank rank)
{
    *lock = (struct spinlock){.rank = rank};
}

void spinlock_note(const struct spinlock *lock)
{
    ASSERT(lock->rank != LOCK_UNRANKED);
    ASSERT(!(this_cpu()->locks_held >> lock->rank));
    this_cpu()->locks_held |= 1u << lock->rank;
}

void spinlock_forget(const struct spinlock *lock)
{
    ASSERT(this_cpu()->locks_held & 1u << lock->rank);
    this_cpu()->locks_held &= ~(1u << lock->rank);
}

void spinlock_expect_none(void)
{
    ASSERT(!this_cpu()->locks_held);
}

/* An NMI may come while locks are held. */
void spinlock_forbid(void)
{
    this_cpu()->locks_held |= 1u << LOCK_FORBIDDEN;
}

void spinlock_allow(void)
{
    this_cpu()->locks_held &= ~(1u << LOCK_FORBIDDEN);
}
#endif
