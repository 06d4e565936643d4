/* One vmcs12 that goes from processor to processor, and one that is current on both at once. */
#include "guests/lib/check.h"
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define MIGRATIONS 400
#define CLASHES 4000
#define RUNS 3 /* between two migrations */
#define MSR IA32_LSTAR

static struct vm vm, other; /* `other`: the second processor's view of the same region */
static bool intercepted;    /* the bit of MSR */
static bool flushes;        /* EPT and VPID are in use, and INVEPT is executed on arrival */
static uint64_t turns;
static volatile unsigned failed; /* turns of the second processor that went wrong */

static void l2_code(void)
{
    for (uint64_t turn = 1;; turn++) {
        (void)cpu_rdmsr(MSR);
        asm volatile("vmcall" : : "a"(0), "b"(turn) : "memory");
    }
}

/* One turn of L2: as the bit says, and L2 goes on where the other processor left it. */
static bool turn_is_right(void)
{
    uint16_t reason = vm_run(&vm);

    if (reason == EXIT_RDMSR && intercepted) {
        vm_skip(&vm);
        reason = vm_run(&vm);
    } else if (intercepted) {
        return false;
    }
    vm_skip(&vm);
    return reason == EXIT_VMCALL && vm.regs[RBX] == ++turns;
}

/* As a hypervisor does when a virtual processor comes to another processor: mappings of an earlier stay go. */
static void flush(void)
{
    const struct inv_descriptor any = {0};

    vm_load(&vm);
    REQUIRE_EQ(vmx_invept(INVEPT_ALL, &any), 0);
}

static bool use_and_clear(void)
{
    bool right = true;

    if (flushes)
        flush();
    for (unsigned i = 0; i < RUNS; i++)
        right &= turn_is_right();
    vm_clear(&vm);
    return right;
}

static void second_uses(void)
{
    failed += !use_and_clear();
}

static void set_bit(bool on)
{
    intercepted = on;
    (on ? msr_bit_set : msr_bit_clear)(vm.msr_bitmap, MSR, MSR_READ);
}

static void job_vmx_on(void)
{
    second_vmx_on();
}

static void job_vmx_off(void)
{
    second_vmx_off();
}

static void second_does(void (*job)(void))
{
    second_do(job);
    REQUIRE(second_finishes());
}

/* VMCLEAR here, VMPTRLD and VMLAUNCH there; the bit changes on either way. */
static void migrate(void)
{
    unsigned wrong = 0;
    uint32_t executed;

    failed = 0;
    turns = 0;
    vm_start(&vm, l2_code, flushes ? VM_EPT : 0);
    if (flushes) {
        vm_secondary_set((uint32_t)PROC2_VPID);
        vmx_set(VPID, 7);
    }
    second_does(job_vmx_on);
    executed = counter_read((enum counter)COUNTER_INVEPTS);
    for (unsigned i = 0; i < MIGRATIONS; i++) {
        set_bit(i % 3 == 0);
        wrong += !use_and_clear();
        set_bit(i % 5 < 2);
        second_does(second_uses);
    }
    second_does(job_vmx_off);
    print("# %u migrations there and back, %lu turns of L2\n", MIGRATIONS, turns);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(failed, 0);
    if (flushes && counters_vmx_present()) {
        executed = counter_read((enum counter)COUNTER_INVEPTS) - executed;
        print("# %u INVEPTs on arrival: %u executed\n", 2 * MIGRATIONS, executed);
        CHECK(executed >= 2 * MIGRATIONS);
    }
    vmx_stop();
}

void test_migration(void)
{
    flushes = false;
    migrate();
    flushes = vm_control_offered(PROC2_CONTROLS, (uint32_t)(PROC2_EPT | PROC2_VPID));
    if (flushes)
        migrate();
}

static struct vm second_vm; /* the second processor's own, with the bitmap of `vm` */

static void second_runs(void)
{
    bool right = true;

    vm_load(&second_vm);
    for (unsigned i = 0; i < RUNS; i++) {
        right &= vm_run(&second_vm) == EXIT_VMCALL;
        vm_skip(&second_vm);
    }
    failed += !right;
}

static void second_creates(void)
{
    vm_create(&second_vm, l2_code, 0);
    vmx_set(MSR_BITMAP, (uint64_t)vm.msr_bitmap);
    second_runs();
}

static void second_clears(void)
{
    vm_clear(&second_vm);
}

static uint32_t grown(enum counter counter, uint32_t *before)
{
    uint32_t now = counter_read(counter), by = now - *before;

    *before = now;
    return by;
}

/* A bitmap that nobody stores to, named here and there in turn, and by both: it is merged once. With both, a store
 * makes each of them see the new page, for one merge. */
void test_travel(void)
{
    uint32_t merges = 0, armed = 0, kicks = 0;
    unsigned wrong = 0;

    failed = 0;
    turns = 0;
    intercepted = false;
    flushes = false;
    vm_start(&vm, l2_code, 0);
    second_does(job_vmx_on);
    wrong += !use_and_clear();
    (void)grown(COUNTER_BITMAP_MERGES, &merges);
    (void)grown(COUNTER_WATCH_ARMED, &armed);
    (void)grown(COUNTER_KICKS, &kicks);
    for (unsigned i = 0; i < MIGRATIONS; i++) {
        second_does(second_uses);
        wrong += !use_and_clear();
    }
    second_does(second_creates);
    wrong += !use_and_clear();
    if (counters_present()) {
        CHECK_EQ(grown(COUNTER_BITMAP_MERGES, &merges), 0);
        CHECK_EQ(grown(COUNTER_WATCH_ARMED, &armed), 0);
        CHECK_EQ(grown(COUNTER_KICKS, &kicks), 0);
    }
    for (unsigned i = 0; i < MIGRATIONS; i++) {
        set_bit(true);
        wrong += !turn_is_right();
        set_bit(false);
        wrong += !turn_is_right();
        second_does(second_runs);
    }
    vm_clear(&vm);
    if (counters_present()) {
        uint32_t merged = grown(COUNTER_BITMAP_MERGES, &merges);
        print("# %u stores to a page that both name: %u merges\n", 2 * MIGRATIONS, merged);
        CHECK(merged <= 2 * MIGRATIONS + MIGRATIONS / 10);
    }
    second_does(second_clears);
    second_does(job_vmx_off);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(failed, 0);
    vmx_stop();
}

/* Whatever comes of it: it is undefined what a VMCS does that is active on two processors.
 * SDM 3C 25.11.1 "Software Use of Virtual-Machine Control Structures" */
static void clash(struct vm *v, uint64_t seed)
{
    for (unsigned i = 0; i < CLASHES; i++) {
        uint64_t value;
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        switch (seed >> 60) {
        case 0:
            (void)vmx_vmclear(&v->vmcs);
            v->launched = false;
            break;
        case 1:
            (void)vmx_vmwrite(MSR_BITMAP, (uint64_t)v->msr_bitmap);
            break;
        case 2:
            (void)vmx_vmread(GUEST_RIP, &value);
            break;
        case 3:
            msr_bit_set(v->msr_bitmap, MSR, MSR_READ);
            break;
        case 4:
            msr_bit_clear(v->msr_bitmap, MSR, MSR_READ);
            break;
        default:
            if (vmx_vmptrld(&v->vmcs) || vm_enter(v))
                v->launched = !v->launched;
            else if (v->exit.reason == EXIT_VMCALL || v->exit.reason == EXIT_RDMSR)
                vm_skip(v);
        }
    }
    (void)vmx_vmclear(&v->vmcs);
}

static void second_clashes(void)
{
    second_vmx_on();
    clash(&other, 2);
    second_vmx_off();
}

void test_shared_vmcs(void)
{
    flushes = false;
    vm_start(&vm, l2_code, 0);
    vm_clear(&vm); /* into memory: whatever mixture a processor reads then has a host state that L1 can go on with */
    other = vm;
    second_do(second_clashes);
    clash(&vm, 1);
    REQUIRE(second_finishes());
    /* Both still do what they should. */
    vmx_stop();
    test_migration();
}
