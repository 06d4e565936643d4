/* Both processors do at random what nested VMX across processors is made of: turns of L2s whose bitmaps both store to,
 * changes of bitmap pointers, of EPT12 with INVEPT, of Nestor's MSR policy, a VMCS that goes to and fro, NMIs, and a
 * second processor that is taken away. What an L2 must see follows from what its own processor did last.
 * A seed repeats a run. */
#include "guests/lib/check.h"
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/mem.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define PAGES 4
#define GUESTS 3
#define KEPT IA32_VMX_MISC /* L1 lets it pass, and Nestor has a value of its own for it */
#define FREE_OFFSET 0x3f0  /* of the bitmaps: bits of MSRs that nobody reads */
#define NMI_EVERY 8        /* turns of the first processor's loop */
#define TAKEN_AWAY_EVERY 128
#define WARM_UP_SHARE 8

struct guest {
    struct vm vm;
    uint64_t *leaf[PAGES]; /* of EPT12; NULL without EPT */
    unsigned page;         /* the bitmap that it uses */
    uint64_t turns;
};

/* The things of one processor. */
struct actor {
    uint64_t random;
    uint32_t msr;    /* only this processor changes its bits */
    bool bit[PAGES]; /* and so they are */
    struct guest guest[GUESTS];
    uint64_t turns, stores, pointers, permissions, clears, travels;
    bool got_init;
};

static struct actor first = {.msr = IA32_LSTAR}, second = {.msr = IA32_SYSENTER_EIP};
static uint8_t *page[PAGES];
static uint64_t kept_value;
static struct guest traveller;
static struct actor *volatile traveller_is_with;
static volatile bool second_in_vmx, leave;
static unsigned taken_away, inits;

static uint64_t draw(struct actor *a, uint64_t below)
{
    a->random ^= a->random << 13;
    a->random ^= a->random >> 7;
    a->random ^= a->random << 17;
    return (a->random >> 16) % below;
}

/* RDI after each call is where it stores. */
static void l2_code(void)
{
    volatile uint64_t *target = NULL;

    for (uint64_t turn = 0;; turn++) {
        (void)cpu_rdmsr(IA32_LSTAR);
        (void)cpu_rdmsr(IA32_SYSENTER_EIP);
        uint64_t value = cpu_rdmsr(KEPT);
        if (target)
            *target = turn;
        asm volatile("vmcall" : "=D"(target) : "a"(0), "b"(value), "S"(turn) : "memory");
    }
}

/* As the handler's IRET would: an exit due to an NMI leaves NMIs blocked. */
static void unblock_nmi(void)
{
    asm volatile("mov %%rsp, %%rax; pushq %0; pushq %%rax; pushfq; pushq %1; leaq 1f(%%rip), %%rax; pushq %%rax; "
                 "iretq; 1:"
                 :
                 : "i"(SEL_DATA), "i"(SEL_CODE64)
                 : "rax", "memory");
}

static void permit(struct guest *g, unsigned target)
{
    REQUIRE(g->leaf[target] && !(*g->leaf[target] & EPT_W));
    *g->leaf[target] |= EPT_W;
}

static void check_turn(struct actor *a, struct guest *g, bool exited)
{
    REQUIRE_EQ(exited, a->bit[g->page]);
    REQUIRE_EQ(g->vm.regs[RBX], kept_value);
    REQUIRE_EQ(g->vm.regs[RSI], g->turns);
    g->turns++;
    a->turns++;
    vm_skip(&g->vm);
}

/* L2's way from one call to the next, which must meet an exit exactly where this processor's last word wants one. */
static void run_turn(struct actor *a, struct guest *g)
{
    unsigned target = (unsigned)GET(g->vm.regs[RDI] - (uint64_t)page[0], BITS(63, 12)), violations = 0;
    bool exited = false, refused = g->turns && g->leaf[0] && !(*g->leaf[target] & EPT_W);

    for (;;)
        switch (vm_run(&g->vm)) {
        case EXIT_RDMSR:
            exited |= (uint32_t)g->vm.regs[RCX] == a->msr;
            vm_skip(&g->vm);
            break;
        case EXIT_EPT_VIOLATION:
            violations++;
            permit(g, target);
            break;
        case EXIT_EXCEPTION_NMI:
            second_nmis++;
            unblock_nmi();
            break;
        case EXIT_INIT:
            a->got_init = true;
            break;
        default:
            REQUIRE_EQ(g->vm.exit.reason, EXIT_VMCALL);
            REQUIRE_EQ(violations, refused);
            check_turn(a, g, exited);
            g->vm.regs[RDI] = (uint64_t)page[draw(a, PAGES)] + FREE_OFFSET;
            return;
        }
}

static void invept(const struct guest *g)
{
    const struct inv_descriptor descriptor = {ept_pointer(g->vm.ept, false), 0};

    if (g->vm.ept)
        REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &descriptor), 0);
}

static void act_turn(struct actor *a, struct guest *g)
{
    run_turn(a, g);
}

static void act_store(struct actor *a, struct guest *g)
{
    unsigned which = (unsigned)draw(a, PAGES);

    (void)g;
    a->bit[which] = draw(a, 2);
    (a->bit[which] ? msr_bit_set : msr_bit_clear)(page[which], a->msr, MSR_READ);
    a->stores++;
}

static void act_pointer(struct actor *a, struct guest *g)
{
    vm_load(&g->vm);
    g->page = (unsigned)draw(a, PAGES);
    vmx_set(MSR_BITMAP, (uint64_t)page[g->page]);
    a->pointers++;
}

static void act_permission(struct actor *a, struct guest *g)
{
    uint64_t *leaf = g->leaf[draw(a, PAGES)];

    if (!leaf)
        return;
    *leaf ^= EPT_W;
    invept(g);
    a->permissions++;
}

static void act_clear(struct actor *a, struct guest *g)
{
    vm_clear(&g->vm);
    a->clears++;
}

/* Takes what the other processor has cleared, and clears it again. */
static void act_travel(struct actor *a, struct guest *g)
{
    (void)g;
    if (traveller_is_with != a)
        return;
    invept(&traveller);
    for (uint64_t turns = draw(a, 3) + 1; turns; turns--)
        run_turn(a, &traveller);
    vm_clear(&traveller.vm);
    a->travels++;
    traveller_is_with = a == &first ? &second : &first;
}

static void act(struct actor *a)
{
    static void (*const acts[])(struct actor *, struct guest *) = {
        act_turn,  act_turn,  act_turn,    act_turn,    act_turn,       act_turn,       act_turn,   act_store,
        act_store, act_store, act_pointer, act_pointer, act_permission, act_permission, act_travel, act_clear};

    acts[draw(a, ARRAY_SIZE(acts))](a, &a->guest[draw(a, GUESTS)]);
}

static void create_guest(struct guest *g, unsigned options, uint32_t pin)
{
    *g = (struct guest){.page = 0};
    vm_create(&g->vm, l2_code, options);
    vm_control_set(PIN_CONTROLS, pin);
    vmx_set(MSR_BITMAP, (uint64_t)page[0]);
    for (unsigned i = 0; g->vm.ept && i < PAGES; i++)
        g->leaf[i] = paging_entry(g->vm.ept, (uint64_t)page[i], PAGE_SIZE);
    vm_clear(&g->vm);
}

static void prepare_actor(struct actor *a, uint64_t seed, uint32_t pin)
{
    *a = (struct actor){.msr = a->msr, .random = seed};
    create_guest(&a->guest[0], VM_NO_EPT, 0);
    create_guest(&a->guest[1], VM_EPT, 0);
    create_guest(&a->guest[2], VM_EPT, pin);
}

static void clear_guests(struct actor *a)
{
    for (unsigned i = 0; i < GUESTS; i++)
        vm_clear(&a->guest[i].vm);
}

static void second_acts(void)
{
    second_vmx_on();
    second_in_vmx = true;
    while (!leave && !second.got_init)
        act(&second);
    clear_guests(&second);
    second_vmx_off();
}

static void let_second_act(void)
{
    leave = second_in_vmx = second.got_init = false;
    second_do(second_acts);
    while (!second_in_vmx)
        cpu_pause();
}

/* By a word, or by an INIT that ends what it does in its next L2; then INIT and start-up IPI. */
static void take_second_away(void)
{
    REQUIRE(second_took_nmis());
    if (draw(&first, 2)) {
        leave = true;
    } else {
        inits++;
        second_send(ICR_INIT);
    }
    REQUIRE(second_finishes());
    taken_away++;
    second_start();
}

static void act_on_second(void)
{
    if (draw(&first, NMI_EVERY) == 0 && second_nmis == second_nmis_sent)
        second_send_nmi();
    if (draw(&first, 64) == 0 && policy_present())
        policy_keep(draw(&first, 2) ? first.msr : second.msr, draw(&first, 2), draw(&first, 2));
    if (draw(&first, TAKEN_AWAY_EVERY) == 0) {
        take_second_away();
        let_second_act();
    }
}

/* Nestor's holdings when no L2 is there and the second processor waits for its start-up IPI: pages, and traced ones. An
 * entry moves EPT01's generation, so that what waits for that is free; VMXOFF empties the trees of EPT02. */
struct held {
    uint32_t pages, traced;
};

static struct held settle(void)
{
    struct held held;
    static struct guest last;

    for (unsigned i = 0; policy_present() && i < 2; i++)
        policy_keep(i ? first.msr : second.msr, false, false);
    second_send(ICR_INIT);
    create_guest(&last, VM_NO_EPT, 0);
    last.page = PAGES - 1;
    vm_load(&last.vm);
    vmx_set(MSR_BITMAP, (uint64_t)page[PAGES - 1]);
    run_turn(&first, &last);
    vm_clear(&last.vm);
    vmx_stop();
    held.pages = counter_read(COUNTER_PAGES_FREE);
    held.traced = counter_read(COUNTER_PAGES_TRACED);
    second_start();
    vmx_start();
    return held;
}

static void report(const char *who, const struct actor *a)
{
    print("# %s: %lu turns, %lu stores, %lu pointers, %lu permissions, %lu clears, %lu travels\n", who, a->turns,
          a->stores, a->pointers, a->permissions, a->clears, a->travels);
}

static void prepare(void)
{
    uint8_t *pages = page_alloc_run(PAGES, PAGE_SIZE);

    for (unsigned i = 0; i < PAGES; i++)
        page[i] = pages + i * PAGE_SIZE;
    kept_value = cpu_rdmsr(KEPT);
    vmx_start();
    prepare_actor(&first, smp_seed * 2 + 1, 0);
    prepare_actor(&second, smp_seed * 2 + 0x100000001ull, (uint32_t)PIN_NMI);
    create_guest(&traveller, VM_EPT, 0);
    traveller_is_with = &first;
}

static bool all_ran(void)
{
    bool all = first.travels && second.travels;

    for (unsigned i = 0; i < GUESTS; i++)
        all &= first.guest[i].turns && second.guest[i].turns;
    return all;
}

static void act_for(uint64_t ticks)
{
    uint64_t start = cpu_rdtsc();

    let_second_act();
    while (cpu_rdtsc() - start < ticks || !all_ran()) {
        act(&first);
        act_on_second();
    }
    take_second_away();
    clear_guests(&first);
}

/* Each tree of EPT02 keeps one page: they are all there when it is counted first. */
void test_soak(void)
{
    struct held before, after;

    prepare();
    act_for(smp_ticks / WARM_UP_SHARE);
    before = settle();
    act_for(smp_ticks - smp_ticks / WARM_UP_SHARE);
    after = settle();
    vmx_stop();
    report("first", &first);
    report("second", &second);
    print("# seed %lu: %u NMIs sent, %u came, %u times taken away, %u by INIT\n", smp_seed, second_nmis_sent,
          second_nmis, taken_away, inits);
    print("# %u free pages before, %u after, %u and %u pages traced\n", before.pages, after.pages, before.traced,
          after.traced);
    CHECK_EQ(second_nmis, second_nmis_sent);
    CHECK_EQ(after.pages, before.pages);
    CHECK_EQ(before.traced | after.traced, 0);
}
