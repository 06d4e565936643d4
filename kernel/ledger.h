/* Flushes that are owed to the processors' caches of translations, in the CHECKED build; else all of this is nothing.
 * Whoever takes a translation away owes a flush of its tag, an EP4TA or a VPID. INVEPT and INVVPID pay. A processor
 * that enters a guest with a debt of its own open, or that was told of another's and has not paid, stops the run, with
 * the tag and the name of who incurred it. No lock; the NMI handler pays as well.
 * Anyone may use it. */
#ifndef KERNEL_LEDGER_H
#define KERNEL_LEDGER_H

#include "kernel/base.h"

struct ledger_entry {
    uint64_t ep4ta;     /* EPTP */
    unsigned vpid;      /* 0: none */
    bool is_zero;       /* L1 knows it as VPID 0000H: root operation, or an L2 without VPID */
    uint64_t apic_page; /* that Nestor answers for; 0: none */
};

#ifdef CHECKED
/* A translation of this EP4TA, which this processor uses, has gone from the tables. After the store. */
void ledger_owe_ept(uint64_t ep4ta, const char *who);
/* The same of one that others use: they will be told. */
void ledger_owe_others(uint64_t ep4ta, const char *who);
/* All translations of this VPID have to go on this processor. */
void ledger_owe_vpid(unsigned vpid, const char *who);
/* This processor's VPID serves `whom` from now on; it owes a flush if it served another. */
void ledger_serve_vpid(unsigned vpid, unsigned whom);
/* L1 executed INVVPID of `type` for `whom`, 0: for all: what serves it on this processor owes. */
void ledger_owe_served(unsigned whom, uint64_t type, uint64_t address, const char *who);
/* To be taken before INVEPT or INVVPID, which pay what was owed by then. */
uint64_t ledger_now(void);
void ledger_pay_ept(uint64_t now, bool all, uint64_t ep4ta);
void ledger_pay_vpid(uint64_t now, uint64_t type, unsigned vpid, uint64_t address);
/* The processor `other` has been made to forget what this one took away. */
void ledger_told(unsigned other);
/* This processor is about to enter a guest. What it owes by what it did between two entries is found here alone:
 * two VPIDs that are VPID 0000H to L1 take turns, or another page than before is the APIC-access page of an EP4TA. */
void ledger_enter(const struct ledger_entry *entry);
/* The entry did not come about: VMfail. */
void ledger_not_entered(void);
#else
#define ledger_owe_ept(ep4ta, who) ((void)0)
#define ledger_owe_others(ep4ta, who) ((void)0)
#define ledger_owe_vpid(vpid, who) ((void)0)
#define ledger_serve_vpid(vpid, whom) ((void)0)
#define ledger_owe_served(whom, type, address, who) ((void)0)
#define ledger_now() 0
#define ledger_pay_ept(now, all, ep4ta) ((void)(now))
#define ledger_pay_vpid(now, type, vpid, address) ((void)(now))
#define ledger_told(other) ((void)0)
#define ledger_enter(entry) ((void)0)
#define ledger_not_entered() ((void)0)
#endif

#endif
