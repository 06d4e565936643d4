/* A machine of two processors whose caches never forget (tlb_cpu.h), on which Nestor's own code runs: exits, nested
 * entries, EPT02, tracing, kicks, VPIDs. One processor runs at a time; at the entry and exit of each function of
 * Nestor's, and where it waits for a lock, the other one may come between, and an NMI may arrive. machine_run() after
 * the world is made; each processor calls machine_step of the test for ever. tests/host/ only; one file of a program
 * includes it. */
#ifndef TESTS_HOST_TLB_MACHINE_H
#define TESTS_HOST_TLB_MACHINE_H

#include "tests/host/tlb_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "kernel/ledger.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/spinlock.h"
#include "kernel/trap.h"
#include "nested/nested.h"
#include "vmx/run.h"

#define PROCESSORS 2u
#define STACK (96 * 1024)
#define SAID 60u
#define NEVER 2000000u /* switches without a completed operation */

struct processor {
    unsigned number;
    struct cpu cpu;
    struct vcpu vcpu;
    struct tlb tlb;
    hpa_t vmcs; /* current */
    bool in_nestor, in_nmi, entering, ending, again;
    bool alone;    /* an instruction of L1's, done without the rest of Nestor */
    bool nmi;      /* one is on its way */
    uint16_t pcid; /* of the guest's CR3 */
    ucontext_t context;
    uint8_t stack[STACK] __attribute__((aligned(64)));
};

static struct processor processor[PROCESSORS], *running;
static ucontext_t outside;
static unsigned until_switch, density, waited;
static unsigned stays; /* operations that the one that runs completes before the other goes on, unless it waits */
static uint64_t operations;
static uint64_t straight_ways; /* entries and exits that Nestor did not look at */
static uint64_t turns_kept;    /* VMPTRLDs of L1 at which it knew all of the other vmcs12 */
static uint64_t straight_violations[VIOLATION_FILLED + 1];
static uint64_t handed_back[2]; /* exits, and entries, that the long way left to the straight one */
static void (*machine_step)(struct processor *p);

/* --- What was done last, in words --- */

static struct {
    const char *format;
    uint64_t operation, a, b, c, d;
    unsigned number;
} said[SAID];
static uint64_t said_count;
static char failure[512];

/* `format` takes up to four %lx or %lu. */
QUIET static void say(const struct processor *p, const char *format, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    said[said_count % SAID].format = format;
    said[said_count % SAID].operation = operations;
    said[said_count % SAID].number = p->number;
    said[said_count % SAID].a = a;
    said[said_count % SAID].b = b;
    said[said_count % SAID].c = c;
    said[said_count++ % SAID].d = d;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
QUIET static void tell_story(void)
{
    for (uint64_t i = said_count > SAID ? said_count - SAID : 0; i < said_count; i++) {
        fprintf(stderr, "# %8lu  processor %u: ", said[i % SAID].operation, said[i % SAID].number);
        fprintf(stderr, said[i % SAID].format, said[i % SAID].a, said[i % SAID].b, said[i % SAID].c, said[i % SAID].d);
        fprintf(stderr, "\n");
    }
}
#pragma GCC diagnostic pop

/* Ends the run: whoever started it finds the text in `failure`. */
void tlb_fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(failure, sizeof failure, format, arguments);
    va_end(arguments);
    running = NULL;
    setcontext(&outside);
    abort();
}

QUIET void panic(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(failure, sizeof failure, format, arguments);
    va_end(arguments);
    running = NULL;
    setcontext(&outside);
    abort();
}

/* --- Who runs --- */

void (*trap_nmi)(struct trap_frame *frame);
const uint8_t vmx_enter_first[1], vmx_enter_launch[1], vmx_enter_resume[1], vmx_enter_again[1];

QUIET static void deliver_nmi(struct processor *p)
{
    struct trap_frame frame = {.rip = p->entering ? (uint64_t)vmx_enter_first : p->ending ? straight_ends[0][0] : 0};

    p->nmi = false;
    p->in_nmi = true;
    trap_nmi(&frame);
    p->in_nmi = false;
    p->again |= frame.rip == (uint64_t)vmx_enter_again || frame.rip == (uint64_t)vmx_straight_again;
}

QUIET static void switch_over(void)
{
    struct processor *from = running;

    until_switch = 1 + (unsigned)(host_random() % density);
    stays = host_random() % (from->cpu.locks_held ? 2 : 4) ? 0 : 1 + (unsigned)(host_random() % 24);
    until_switch += stays * 400; /* it may be waiting for the other */
    if (++waited > NEVER)
        tlb_fail("the processors wait for each other");
    running = &processor[(from->number + 1) % PROCESSORS];
    swapcontext(&from->context, &running->context);
}

/* Between two instructions of Nestor's. */
QUIET static void between(void)
{
    struct processor *p = running;

    if (!p || !p->in_nestor)
        return;
    if (p->nmi && !p->in_nmi && host_random() % 8 == 0)
        deliver_nmi(p);
    /* Where a lock is held something is half done: the other one comes there more often. */
    unsigned steps = p->cpu.locks_held ? 12 : 1;
    until_switch -= MIN(until_switch, steps);
    if (until_switch == 0)
        switch_over();
}

QUIET void __cyg_profile_func_enter(void *function, void *caller)
{
    (void)function, (void)caller;
    between();
}

QUIET void __cyg_profile_func_exit(void *function, void *caller)
{
    (void)function, (void)caller;
    between();
}

/* --- Locks: as kernel/spinlock.c has them in the CHECKED build, and the other processor runs where one waits --- */

QUIET void spinlock_init(struct spinlock *lock, enum lock_rank rank)
{
    *lock = (struct spinlock){.rank = rank};
}

QUIET void spinlock_note(const struct spinlock *lock)
{
    struct processor *p = running;

    if (!p)
        return;
    if (lock->rank == LOCK_UNRANKED || p->cpu.locks_held >> lock->rank)
        tlb_fail("processor %u takes a lock of rank %u and holds %x", p->number, lock->rank, p->cpu.locks_held);
    between();
    while (lock->owner != lock->next) {
        if (p->nmi && !p->in_nmi)
            deliver_nmi(p);
        switch_over();
    }
    p->cpu.locks_held |= 1u << lock->rank;
}

QUIET void spinlock_forget(const struct spinlock *lock)
{
    if (running)
        running->cpu.locks_held &= ~(1u << lock->rank);
}

QUIET void spinlock_expect_none(void)
{
    if (running->cpu.locks_held)
        tlb_fail("processor %u holds a lock at an exit: %x", running->number, running->cpu.locks_held);
}

QUIET void spinlock_forbid(void)
{
    running->cpu.locks_held |= 1u << LOCK_FORBIDDEN;
}

QUIET void spinlock_allow(void)
{
    running->cpu.locks_held &= ~(1u << LOCK_FORBIDDEN);
}

/* --- The processor's instructions --- */

#define VMCS_WORDS 1024u
#define VMCS_PAGES 3072u

static uint64_t vmcs_word[VMCS_PAGES][VMCS_WORDS]; /* by the region's page */

QUIET static uint64_t *vmcs_at(uint32_t encoding)
{
    unsigned index = encoding >> 1 & 63, group = (encoding >> 10 & 3) | (encoding >> 13 & 3) << 2;

    if (!running || running->vmcs / PAGE_SIZE >= VMCS_PAGES || encoding & 0x381)
        tlb_fail("VMREAD or VMWRITE of %x without a current VMCS", encoding);
    return &vmcs_word[running->vmcs / PAGE_SIZE][group * 64 + index];
}

QUIET static uint64_t width_mask(uint32_t encoding)
{
    static const uint64_t mask[] = {UINT16_MAX, UINT64_MAX, UINT32_MAX, UINT64_MAX};
    return mask[encoding >> 13 & 3];
}

QUIET struct cpu *tlb_this_cpu(void)
{
    return running ? &running->cpu : &processor[0].cpu;
}

QUIET uint64_t tlb_vmread(uint32_t encoding)
{
    return *vmcs_at(encoding);
}

QUIET void tlb_vmwrite(uint32_t encoding, uint64_t value)
{
    *vmcs_at(encoding) = value & width_mask(encoding);
}

QUIET bool tlb_vmptrld(hpa_t vmcs)
{
    running->vmcs = vmcs;
    return true;
}

QUIET bool tlb_vmclear(hpa_t vmcs)
{
    if (running->vmcs == vmcs)
        running->vmcs = ~0ull;
    return true;
}

/* Another processor may act before the translations go. */
static void invalidate(struct tlb_reach reach)
{
    struct processor *p = running;

    between();
    tlb_invalidate(&p->tlb, reach);
}

QUIET bool tlb_invept(uint64_t type, struct invalidate_descriptor descriptor)
{
    uint64_t now = ledger_now();

    invalidate((struct tlb_reach){.guest_physical = true,
                                  .combined = true,
                                  .every_ep4ta = type == INVEPT_ALL,
                                  .ep4ta = descriptor.context & EP4TA,
                                  .every_vpid = true,
                                  .every_pcid = true,
                                  .every_address = true});
    ledger_pay_ept(now, type == INVEPT_ALL, descriptor.context);
    between();
    return true;
}

QUIET bool tlb_invvpid(uint64_t type, struct invalidate_descriptor descriptor)
{
    uint64_t now = ledger_now();

    invalidate((struct tlb_reach){.combined = true,
                                  .every_ep4ta = true,
                                  .every_vpid = type == INVVPID_ALL,
                                  .vpid = (uint16_t)descriptor.context,
                                  .every_pcid = true,
                                  .every_address = type != INVVPID_ADDRESS,
                                  .address = ALIGN_DOWN(descriptor.address, PAGE_SIZE)});
    ledger_pay_vpid(now, type, (unsigned)descriptor.context, descriptor.address);
    between();
    return true;
}

QUIET void lapic_send(uint32_t apic_id, uint32_t command)
{
    (void)command;
    processor[apic_id].nmi = true;
}

#include "tests/host/tlb_straight.h"

/* --- Exits and entries --- */

/* The VPID that the current VMCS runs its guest with. */
QUIET static uint16_t hw_vpid(void)
{
    return vmcs_read(PROC2_CONTROLS) & PROC2_VPID ? (uint16_t)vmcs_read(VPID) : 0;
}

QUIET static uint64_t hw_ep4ta(void)
{
    return vmcs_read(EPT_POINTER) & EP4TA;
}

QUIET static bool hw_has_apic_page(void)
{
    return vmcs_read(PROC2_CONTROLS) & PROC2_APIC_ACCESS;
}

QUIET static bool tlb_is_apic_page(hpa_t page)
{
    return hw_has_apic_page() && vmcs_read(APIC_ACCESS_ADDR) == page;
}

/* Entries and exits without a VPID. SDM 3C 29.4.3.1 */
QUIET static void hw_transition(struct processor *p)
{
    if (hw_vpid() == 0)
        tlb_invalidate(&p->tlb, (struct tlb_reach){
                                    .combined = true, .every_ep4ta = true, .every_pcid = true, .every_address = true});
}

/* From the exit, which the caller has written to the current VMCS, to the next entry: what entry.asm does. */
QUIET static void exit_and_enter(struct processor *p, uint32_t reason)
{
    bool of_l2 = runs_l2(p);
    hw_transition(p);
    p->in_nestor = true;
    bool went = go_straight(p, reason) || go_long(p);
    while (!went || !is_in(p)) {
        went = false;
        p->entering = true;
        between();
        if (!p->vcpu.attention && !p->again)
            break;
        p->entering = p->again = false;
        vcpu_enter_again(&p->vcpu);
    }
    p->entering = p->in_nestor = false;
    if (p->cpu.locks_held)
        tlb_fail("processor %u holds a lock at an entry: %x", p->number, p->cpu.locks_held);
    if (of_l2 && !runs_l2(p) && vmcs_read(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_STI)
        tlb_fail("processor %u: L1 goes on with its blocking by STI of before L2", p->number);
    hw_transition(p);
}

QUIET static void exit_for(struct processor *p, uint32_t reason)
{
    vmcs_write(EXIT_REASON, reason);
    vmcs_write(EXIT_INSTRUCTION_LENGTH, 3);
    vmcs_write(IDT_VECTORING_INFO, 0);
    vmcs_write(EXIT_INTERRUPTION_INFO,
               reason == EXIT_EXCEPTION_NMI ? INTR_VALID | PUT(INTR_TYPE_NMI, INTR_TYPE) | 2 : 0);
    exit_and_enter(p, reason);
}

QUIET static void exit_violation(struct processor *p, gpa_t gpa, uint64_t qualification)
{
    vmcs_write(EXIT_QUALIFICATION, qualification);
    vmcs_write(GUEST_PHYSICAL_ADDRESS, gpa);
    exit_for(p, EXIT_EPT_VIOLATION);
}

/* The events that come to a guest before its next instruction: NMIs. True when something did. */
QUIET static bool hw_pending(struct processor *p)
{
    if (!p->nmi || host_random() % 2)
        return false;
    p->nmi = false;
    exit_for(p, EXIT_EXCEPTION_NMI);
    return true;
}

/* After an instruction: the preemption timer, whose units are instructions here. */
QUIET static void hw_instruction_done(struct processor *p)
{
    if (vmcs_read(PIN_CONTROLS) & PIN_PREEMPTION_TIMER)
        exit_for(p, EXIT_PREEMPTION_TIMER);
}

/* One access of the guest by a guest-physical address. True: done at *hpa. False: an EPT violation came, and all about
 * it was done; the guest may be another one now. `gva`: the linear address whose translation this is, ~0 if none. */
QUIET static bool hw_access(struct processor *p, gpa_t gpa, uint64_t access, uint64_t gva, struct tlb_entry *found)
{
    uint64_t ep4ta = hw_ep4ta();

    *found = tlb_translate(&p->tlb, ep4ta, gpa);
    if ((access & found->permissions) == access)
        return true;
    tlb_invalidate(&p->tlb,
                   (struct tlb_reach){.guest_physical = true, .ep4ta = ep4ta, .address = ALIGN_DOWN(gpa, PAGE_SIZE)});
    if (gva != ~0ull)
        tlb_invalidate(&p->tlb, (struct tlb_reach){.combined = true,
                                                   .ep4ta = ep4ta,
                                                   .vpid = hw_vpid(),
                                                   .pcid = p->pcid,
                                                   .address = ALIGN_DOWN(gva, PAGE_SIZE)});
    if (found->misconfigured) {
        vmcs_write(GUEST_PHYSICAL_ADDRESS, gpa);
        exit_for(p, EXIT_EPT_MISCONFIG);
        return false;
    }
    exit_violation(p, gpa,
                   access | found->permissions * EPT_QUAL_ALLOWED_READ |
                       (gva != ~0ull ? EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK : 0));
    return false;
}

/* --- The run --- */

QUIET static void processor_main(void)
{
    static const unsigned densities[] = {5, 40, 200, 600};

    for (;;) {
        struct processor *p = running;
        waited = 0;
        operations++;
        machine_step(p);
        if (host_random() % 4 == 0)
            density = densities[host_random() % 4];
        if (stays)
            stays--;
        else if (host_random() % 2)
            switch_over();
    }
}

QUIET static void machine_stop(void)
{
    running = NULL;
    setcontext(&outside);
}

QUIET static void start(struct processor *p)
{
    getcontext(&p->context);
    p->context.uc_stack.ss_sp = p->stack;
    p->context.uc_stack.ss_size = STACK;
    makecontext(&p->context, processor_main, 0);
}

/* Runs until machine_stop() or a failure; whether it was the former. The world is made. */
QUIET static bool machine_run(void)
{
    failure[0] = 0;
    said_count = operations = waited = stays = 0;
    density = until_switch = 100;
    for (unsigned i = 0; i < PROCESSORS; i++)
        start(&processor[i]);
    running = &processor[0];
    swapcontext(&outside, &running->context); /* machine_stop() and tlb_fail() come back */
    return !failure[0];
}

#endif
