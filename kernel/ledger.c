#include "kernel/ledger.h"

#ifdef CHECKED
#include "kernel/panic.h"
#include "kernel/percpu.h"

#define DEBTS                                                                                                          \
    256u /* a tag that takes another's place loses that one's debt: nothing is found then, and nothing is invented */
#define VPIDS 256u
#define UNTOLD 16u
#define PAGE_NUMBER BITS(51, 12)
/* Types of INVVPID. */
enum { ADDRESS, SINGLE, ALL, SINGLE_NONGLOBAL };

/* The last debt of an EP4TA that a processor has incurred. */
struct debt {
    uint64_t tag, stamp;
    const char *who;
};

/* An EP4TA that the processor has entered guests with. */
struct use {
    uint64_t tag, apic_page;
    uint64_t entered, flushed; /* stamps of the last time */
};

/* A VPID of the processor's. */
struct vpid_account {
    unsigned serves;
    const char *who; /* owes; NULL: nobody */
    uint64_t type, address;
    uint64_t flushed; /* stamp of the last time, of all that it has */
};

/* The debts that a processor has incurred and paid. Written by it alone. */
struct account {
    struct debt debt[DEBTS];
    struct debt untold[UNTOLD]; /* the last of those that concern others */
    unsigned incurred;
    uint64_t paid_all; /* what was owed by then */
    struct vpid_account vpid[VPIDS];
    struct use used[DEBTS];
    struct {
        unsigned last, before; /* the VPID that was VPID 0000H at the last entry that had one, and at the one before */
        uint64_t entered;      /* its stamp */
    } zero;
};

static struct account account[MAX_CPUS];
static uint64_t stamp;

static unsigned place_of(uint64_t tag)
{
    return (unsigned)(tag / PAGE_SIZE % DEBTS);
}

static uint64_t next_stamp(void)
{
    return __atomic_add_fetch(&stamp, 1, __ATOMIC_SEQ_CST);
}

void ledger_owe_ept(uint64_t ep4ta, const char *who)
{
    struct account *own = &account[this_cpu()->id];
    uint64_t tag = ep4ta & PAGE_NUMBER;

    own->debt[place_of(tag)] = (struct debt){tag, next_stamp(), who};
}

void ledger_owe_others(uint64_t ep4ta, const char *who)
{
    struct account *own = &account[this_cpu()->id];

    ledger_owe_ept(ep4ta, who);
    own->untold[own->incurred++ % UNTOLD] = own->debt[place_of(ep4ta & PAGE_NUMBER)];
}

/* Two debts are one of all that the VPID has. */
static void owe(struct vpid_account *v, uint64_t type, uint64_t address, const char *who)
{
    v->type = v->who ? SINGLE : type;
    v->address = address;
    v->who = who;
}

void ledger_owe_vpid(unsigned vpid, const char *who)
{
    owe(&account[this_cpu()->id].vpid[vpid % VPIDS], SINGLE, 0, who);
}

void ledger_serve_vpid(unsigned vpid, unsigned whom)
{
    struct vpid_account *v = &account[this_cpu()->id].vpid[vpid % VPIDS];

    if (v->serves != whom)
        ledger_owe_vpid(vpid, "the VPID of L1's that it served before");
    v->serves = whom;
}

void ledger_owe_served(unsigned whom, uint64_t type, uint64_t address, const char *who)
{
    for (unsigned vpid = 0; vpid < VPIDS; vpid++) {
        struct vpid_account *v = &account[this_cpu()->id].vpid[vpid];
        if (v->serves && (!whom || v->serves == whom))
            owe(v, type == ALL ? SINGLE : type, address, who);
    }
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
    if (own->used[place_of(tag)].tag == tag)
        own->used[place_of(tag)].flushed = now;
}

static bool pays(const struct vpid_account *v, uint64_t type, uint64_t address)
{
    if (type == ADDRESS)
        return v->type == ADDRESS && v->address == address;
    return type != SINGLE_NONGLOBAL || v->type == SINGLE_NONGLOBAL;
}

void ledger_pay_vpid(uint64_t now, uint64_t type, unsigned vpid, uint64_t address)
{
    for (unsigned i = 0; i < VPIDS; i++) {
        struct vpid_account *v = &account[this_cpu()->id].vpid[i];
        if (type != ALL && i != vpid % VPIDS)
            continue;
        if (pays(v, type, address))
            v->who = NULL;
        if (type == SINGLE || type == ALL)
            v->flushed = now;
    }
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
        if (account[other].used[place_of(d->tag)].tag == d->tag && !is_paid(d, other))
            panic("ledger: processor %u was told, and has not flushed EP4TA %lx, which processor %u owes for %s", other,
                  d->tag, this_cpu()->id, d->who);
    }
}

static void enter_ep4ta(unsigned self, struct account *own, const struct ledger_entry *entry)
{
    uint64_t tag = entry->ep4ta & PAGE_NUMBER;
    const struct debt *d = &own->debt[place_of(tag)];
    struct use *use = &own->used[place_of(tag)];

    if (d->tag == tag && !is_paid(d, self))
        panic("ledger: processor %u enters a guest without the INVEPT of EP4TA %lx that it owes for %s", self, tag,
              d->who);
    if (use->tag == tag && entry->apic_page && entry->apic_page != use->apic_page &&
        MAX(use->flushed, own->paid_all) < use->entered)
        panic(
            "ledger: processor %u enters a guest without the INVEPT of EP4TA %lx that it owes for the APIC-access page "
            "%lx, which was ordinary memory there",
            self, tag, entry->apic_page);
    *use = (struct use){.tag = tag,
                        .apic_page = entry->apic_page,
                        .entered = next_stamp(),
                        .flushed = use->tag == tag ? use->flushed : 0};
}

static void enter_vpid(unsigned self, struct account *own, const struct ledger_entry *entry)
{
    const struct vpid_account *v = &own->vpid[entry->vpid % VPIDS];

    if (v->who)
        panic("ledger: processor %u enters a guest without the INVVPID of VPID %u that it owes for %s", self,
              entry->vpid, v->who);
    if (!entry->is_zero)
        return;
    if (own->zero.last && own->zero.last != entry->vpid && v->flushed < own->zero.entered)
        panic("ledger: processor %u enters a guest without the INVVPID of VPID %u that it owes for an entry or exit of "
              "an L2 without VPID",
              self, entry->vpid);
    own->zero.before = own->zero.last;
    own->zero.last = entry->vpid;
    own->zero.entered = next_stamp();
}

void ledger_enter(const struct ledger_entry *entry)
{
    unsigned self = this_cpu()->id;

    enter_ep4ta(self, &account[self], entry);
    enter_vpid(self, &account[self], entry);
}

void ledger_not_entered(void)
{
    struct account *own = &account[this_cpu()->id];

    own->zero.last = own->zero.before;
}
#endif
