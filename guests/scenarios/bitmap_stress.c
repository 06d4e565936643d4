/* Very many random steps: stores to bitmap pages by L1 and L2, changes of pointers, VMCLEARs, entries. Whether an access of
 * L2 exits follows from the page as L1 sees it, at each entry; the bare CPU passes the same. */
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define STEPS 12000
#define PAGES 6
#define VMS 4

static const uint32_t msrs[] = {IA32_LSTAR,   IA32_STAR, IA32_KERNEL_GS_BASE, IA32_SYSENTER_CS,       IA32_SYSENTER_EIP,
                                IA32_FS_BASE, IA32_PAT,  IA32_EFER,           IA32_TIME_STAMP_COUNTER};
static uint8_t *pages[PAGES];
static struct vm vms[VMS];
static unsigned page_of[VMS];
static uint64_t seed;
static volatile uint8_t *l2_byte;
static uint8_t l2_bit;

static unsigned random_below(unsigned limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((seed >> 33) % limit);
}

static void l2_rdmsr(void)
{
    asm volatile("rdmsr" : : : "rax", "rdx", "memory");
}

static void l2_nothing(void)
{
}

static void l2_toggle(void)
{
    *l2_byte ^= l2_bit;
}

static void store(uint8_t *page, uint32_t msr)
{
    unsigned byte = msr_byte(msr, MSR_READ);
    uint8_t bit = (uint8_t)(1 << msr % 8);
    uint64_t *word = (uint64_t *)(page + (byte & ~7u));

    switch (random_below(4)) {
    case 0:
        ((volatile uint8_t *)page)[byte] ^= bit;
        break;
    case 1:
        *(volatile uint64_t *)word ^= (uint64_t)bit << 8 * (byte % 8);
        break;
    case 2:
        asm volatile("lock xorb %1, %0" : "+m"(page[byte]) : "q"(bit) : "cc");
        break;
    default:
        asm volatile("xchgb %1, %0" : "+m"(page[byte]), "+q"(bit));
    }
}

static void store_by_l2(struct vm *vm, uint8_t *page, uint32_t msr)
{
    l2_byte = page + msr_byte(msr, MSR_READ);
    l2_bit = (uint8_t)(1 << msr % 8);
    vm_load(vm);
    vm_set_code(vm, l2_toggle);
    EXPECT_DONE(vm);
}

static void enter(struct vm *vm, const uint8_t *page, uint32_t msr)
{
    bool exits = page[msr_byte(msr, MSR_READ)] >> msr % 8 & 1;

    vm_load(vm);
    vm_set_code(vm, l2_rdmsr);
    vm->regs[RCX] = msr;
    if (exits)
        EXPECT_EXIT_SKIP(vm, EXIT_RDMSR);
    EXPECT_DONE(vm);
}

/* Nobody need look at the bitmap for this one. */
static void enter_without_access(struct vm *vm)
{
    vm_load(vm);
    vm_set_code(vm, l2_nothing);
    EXPECT_DONE(vm);
}

static void step(void)
{
    unsigned i = random_below(VMS), page = random_below(PAGES);
    uint32_t msr = msrs[random_below(ARRAY_SIZE(msrs))];

    switch (random_below(16)) {
    case 0:
        vm_load(&vms[i]);
        page_of[i] = page;
        vmx_set(MSR_BITMAP, (uint64_t)pages[page]);
        break;
    case 1:
        if (random_below(8) == 0)
            vm_clear(&vms[i]);
        break;
    case 2:
        store_by_l2(&vms[i], pages[page], msr);
        break;
    case 3 ... 7:
        store(pages[page], msr);
        break;
    case 8 ... 10:
        enter_without_access(&vms[i]);
        break;
    default:
        enter(&vms[i], pages[page_of[i]], msr);
    }
}

static void stress(void)
{
    unsigned failures = check_failures();

    seed = 1;
    vmx_start();
    for (unsigned i = 0; i < PAGES; i++)
        pages[i] = page_alloc();
    for (unsigned i = 0; i < VMS; i++) {
        vm_create(&vms[i], l2_rdmsr, 0);
        page_of[i] = i;
        vmx_set(MSR_BITMAP, (uint64_t)pages[i]);
    }
    for (unsigned i = 0; i < (scenario_steps ? scenario_steps : STEPS) && check_failures() == failures; i++) {
        uint64_t mark = page_mark(); /* each vm_set_code() takes a stack */
        step();
        page_release(mark);
    }
}

const struct scenario bitmap_stress_scenarios[] = {
    {"stress-bitmap", stress, NULL},
    {0},
};
