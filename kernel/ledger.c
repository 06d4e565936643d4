#include "kernel/ledger.h"

#ifdef CHECKED
#include "kernel/panic.h"
#include "kernel/percpu.h"

#define DEBTS                                                                                                          \
    256u /* a tag that takes another's place loses that one's debt: nothing is found then, and nothing is invented */
#define VPIDS 256u
#define UNTOLD 16u
#define PAGE_NUMBER BITS(51, 12)

/* The last debt of an EP4TA that a processor has incurred. */
struct debt {
    uint64_t tag, stamp;
    const char *who;
};

/* What a processor has incurred and paid. Written by it alone. */
struct account {
    struct debt debt[DEBTS];
    struct debt untold[UNTOLD]; /* the last of those that concern others */
    unsigned incurred;
    uint64_t paid_all;            /* what was owed by then */
    const char *vpid_owed[VPIDS]; /* by whom; NULL: not */
    unsigned serves[VPIDS];
    uint64_t used[DEBTS]; /* EP4TAs that it has entered guests with */
};

static struct account account[MAX_CPUS];
static uint64_t stamp;

static unsigned place_of(uint64_t tag)
{
    return (unsigned)(tag / PAGE_SIZE % DEBTS);
}

void ledger_owe_ept(uint64_t ep4ta, const char *who)
{
    struct account *own = &account[this_cpu()->id];
    uint64_t tag = ep4ta & PAGE_NUMBER;

    own->debt[place_of(tag)] = (struct debt){tag, __atomic_add_fetch(&stamp, 1, __ATOMIC_SEQ_CST), who};
}

void ledger_owe_others(uint64_t ep4ta, const char *who)
{
    struct account *own = &account[this_cpu()->id];

    ledger_owe_ept(ep4ta, who);
    own->untold[own->incurred++ % UNTOLD] = own->debt[place_of(ep4ta & PAGE_NUMBER)];
}

void ledger_owe_vpid(unsigned vpid, const char *who)
{
    account[this_cpu()->id].vpid_owed[vpid % VPIDS] = who;
}

void ledger_serve_vpid(unsigned vpid, unsigned whom)
{
    struct account *own = &account[this_cpu()->id];

    if (own->serves[vpid % VPIDS] != whom)
        ledger_owe_vpid(vpid, "the VPID of L1's that it served before");
    own->serves[vpid % VPIDS] = whom;
}

void ledger_owe_served(unsigned whom, const char *who)
{
    struct account *own = &account[this_cpu()->id];

    for (unsigned vpid = 0; vpid < VPIDS; vpid++)
        if (own->serves[vpid] && (!whom || own->serves[vpid] == whom))
            ledger_owe_vpid(vpid, who);
}

uint64_t ledger_now(void)
{
    return __atomic_load_n(&stamp, __ATOMIC_SEQ_CST);
}

void ledger_pay_ept(uint64_t now, bool all, uint64_t ep4ta)
{
    struct account *own = &account[this_cpu()->id];
    uint64_t tag = ep4ta & PAGE_NUMBER;

    if (all) { /* an NMI may have paid more meanwhile */
        __atomic_store_n(&own->paid_all, MAX(now, own->paid_all), __ATOMIC_SEQ_CST);
        return;
    }
    if (own->debt[place_of(tag)].tag == tag && own->debt[place_of(tag)].stamp <= now)
        own->debt[place_of(tag)].tag = 0;
}

void ledger_pay_vpid(bool all, unsigned vpid)
{
    struct account *own = &account[this_cpu()->id];

    for (unsigned i = 0; i < VPIDS; i++)
        if (all || i == vpid % VPIDS)
            own->vpid_owed[i] = NULL;
}

static bool is_paid(const struct debt *d, unsigned cpu)
{
    return d->stamp <= __atomic_load_n(&account[cpu].paid_all, __ATOMIC_SEQ_CST);
}

void ledger_told(unsigned other)
{
    const struct account *own = &account[this_cpu()->id];

    for (unsigned i = 0; i < MIN(own->incurred, UNTOLD); i++) {
        const struct debt *d = &own->untold[i];
        if (account[other].used[place_of(d->tag)] == d->tag && !is_paid(d, other))
            panic("ledger: processor %u was told, and has not flushed EP4TA %lx, which processor %u owes for %s", other,
                  d->tag, this_cpu()->id, d->who);
    }
}

void ledger_enter(uint64_t ep4ta, unsigned vpid)
{
    unsigned self = this_cpu()->id;
    struct account *own = &account[self];
    uint64_t tag = ep4ta & PAGE_NUMBER;
    const struct debt *d = &own->debt[place_of(tag)];

    if (d->tag == tag && !is_paid(d, self))
        panic("ledger: processor %u enters a guest without the INVEPT of EP4TA %lx that it owes for %s", self, tag,
              d->who);
    own->used[place_of(tag)] = tag;
    if (own->vpid_owed[vpid % VPIDS])
        panic("ledger: processor %u enters a guest without the INVVPID of VPID %u that it owes for %s", self, vpid,
              own->vpid_owed[vpid % VPIDS]);
}
#endif
