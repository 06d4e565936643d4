/* Very many random steps: stores to bitmap pages by L1 and L2, changes of pointers, VMCLEARs, entries, changes of
 * Nestor's own policy. Whether an access of L2 exits follows from the page as L1 sees it, at each entry. A digest of
 * all that L2 and L1 saw is printed: the bare CPU's transcript, and Nestor's must be the same. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/l2_msr.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define STEPS 12000
#define PAGES 6u
#define VMS 4u
#define VALUE_BITS 31 /* of what L2 writes: canonical, and good for each of these MSRs */
#define FILL_MAX 600u

/* The values that L2 writes there: none, as it would meddle with L1; the value it has; or any. */
enum written { NEVER, SAME, ANY };
static const struct {
    uint32_t msr;
    enum written written;
} msrs[] = {
    {IA32_LSTAR, ANY},        {IA32_STAR, ANY},    {IA32_KERNEL_GS_BASE, ANY}, {IA32_SYSENTER_CS, ANY},
    {IA32_SYSENTER_EIP, ANY}, {IA32_FS_BASE, ANY}, {IA32_FMASK, ANY},          {IA32_TSC_AUX, ANY},
    {IA32_PAT, SAME},         {IA32_EFER, SAME},   {IA32_MTRRCAP, NEVER},      {IA32_TIME_STAMP_COUNTER, NEVER},
};
/* Nobody minds a read of these. */
static const uint16_t ports[] = {0x61, 0x80, 0x84, 0x9000, 0xfffe};

static uint8_t *pages; /* PAGES of them in a row, and one that is nobody's */
static struct vm vms[VMS];
static struct {
    unsigned msr, io_a, io_b; /* pages */
} named[VMS];
static uint64_t seed, digest, accesses, exits;
static bool has_policy;
static volatile uint8_t *l2_byte;
static uint8_t l2_bit;

static unsigned random_below(unsigned limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((seed >> 33) % limit);
}

static void record(uint64_t value)
{
    digest = (digest ^ value) * 0x100000001b3ull;
}

static void l2_in(void)
{
    asm volatile("inb %%dx, %%al" : : : "rax", "memory");
}

static void l2_nothing(void)
{
}

static void l2_toggle(void)
{
    *l2_byte ^= l2_bit;
}

/* A byte and a bit of it that decide about an access to one of the MSRs or ports. */
static unsigned random_bit(uint8_t *bit)
{
    unsigned i = random_below(2 * ARRAY_SIZE(msrs) + ARRAY_SIZE(ports));

    if (i >= 2 * ARRAY_SIZE(msrs)) {
        uint16_t port = ports[i - 2 * ARRAY_SIZE(msrs)];
        *bit = (uint8_t)(1 << port % 8);
        return port % 0x8000 / 8;
    }
    *bit = (uint8_t)(1 << msrs[i / 2].msr % 8);
    return msr_byte(msrs[i / 2].msr, i % 2 ? MSR_WRITE : MSR_READ);
}

/* One store, by an instruction of any kind and width, that may reach into the next page. */
static void store(uint8_t *page)
{
    uint8_t bit;
    uint8_t *byte = page + random_bit(&bit);
    uint64_t count = random_below(FILL_MAX);

    switch (random_below(8)) {
    case 0:
        *(volatile uint8_t *)byte ^= bit;
        break;
    case 1:
        asm volatile("xorw %w1, (%0)" : : "r"(byte), "r"((uint32_t)bit) : "cc", "memory");
        break;
    case 2:
        asm volatile("lock xorl %1, (%0)" : : "r"(byte), "r"((uint32_t)bit) : "cc", "memory");
        break;
    case 3:
        asm volatile("xorq %1, (%0)" : : "r"(byte), "r"((uint64_t)bit) : "cc", "memory");
        break;
    case 4:
        asm volatile("xchgb %b0, (%1)" : "+q"(bit) : "r"(byte) : "memory");
        break;
    case 5:
        asm volatile("lock btcq %1, (%0)"
                     :
                     : "r"(page), "r"((uint64_t)(byte - page) * 8 + random_below(8))
                     : "cc", "memory");
        break;
    case 6:
        byte = page + random_below(PAGE_SIZE);
        asm volatile("rep stosb" : "+D"(byte), "+c"(count) : "a"(random_below(3) - 1) : "memory");
        break;
    default:
        byte = page + PAGE_SIZE - 1 - random_below(7);
        asm volatile("notq (%0)" : : "r"(byte) : "memory");
    }
}

static void store_by_l2(struct vm *vm, uint8_t *page)
{
    l2_byte = page + random_bit(&l2_bit);
    vm_load(vm);
    vm_set_code(vm, l2_toggle);
    EXPECT_DONE(vm);
}

/* Runs L2's code, which makes one access, to its end; it exits on the way as the bit says. */
static bool run_access(struct vm *vm, const uint8_t *page, unsigned byte, uint8_t bit, uint16_t reason)
{
    bool expected = page[byte] & bit;

    accesses++;
    exits += expected;
    if (expected) {
        EXPECT_EXIT_SKIP(vm, reason);
        record(vm->exit.qualification << 16 | vm->exit.length << 8 | reason);
    }
    EXPECT_DONE(vm);
    return expected;
}

static void read_msr(struct vm *vm, const uint8_t *page, uint32_t msr)
{
    vm_set_code(vm, l2_rdmsr);
    vm->regs[RCX] = msr;
    vm->regs[RAX] = vm->regs[RDX] = 0;
    (void)run_access(vm, page, msr_byte(msr, MSR_READ), (uint8_t)(1 << msr % 8), EXIT_RDMSR);
    record(msr == IA32_TIME_STAMP_COUNTER ? 0 : l2_msr_value);
}

/* Not more than 31 bits: IA32_FMASK and SYSENTER_CS have 32. */
static void write_msr(struct vm *vm, const uint8_t *page, unsigned i)
{
    uint32_t msr = msrs[i].msr;
    uint64_t value = msrs[i].written == ANY ? random_below(1u << VALUE_BITS) : cpu_rdmsr(msr);

    if (msrs[i].written == NEVER)
        return;
    vm_set_code(vm, l2_wrmsr);
    vm->regs[RCX] = msr;
    vm->regs[RAX] = (uint32_t)value;
    vm->regs[RDX] = value >> 32;
    (void)run_access(vm, page, msr_byte(msr, MSR_WRITE), (uint8_t)(1 << msr % 8), EXIT_WRMSR);
    record(msr == IA32_FS_BASE ? vmx_get(GUEST_FS_BASE) : cpu_rdmsr(msr));
}

static void read_port(struct vm *vm, unsigned i)
{
    uint16_t port = ports[random_below(ARRAY_SIZE(ports))];
    unsigned page = port < 0x8000 ? named[i].io_a : named[i].io_b;

    vm_set_code(vm, l2_in);
    vm->regs[RDX] = port;
    (void)run_access(vm, pages + page * PAGE_SIZE, port % 0x8000 / 8, (uint8_t)(1 << port % 8), EXIT_IO);
}

static void enter(unsigned i)
{
    unsigned which = random_below(ARRAY_SIZE(msrs));
    const uint8_t *page = pages + named[i].msr * PAGE_SIZE;

    vm_load(&vms[i]);
    switch (random_below(5)) {
    case 0:
        read_port(&vms[i], i);
        break;
    case 1 ... 2:
        write_msr(&vms[i], page, which);
        break;
    default:
        read_msr(&vms[i], page, msrs[which].msr);
    }
}

/* Nobody need look at the bitmap for this one. */
static void enter_without_access(struct vm *vm)
{
    vm_load(vm);
    vm_set_code(vm, l2_nothing);
    EXPECT_DONE(vm);
}

static void change_pointer(unsigned i, unsigned page)
{
    vm_load(&vms[i]);
    switch (random_below(4)) {
    case 0:
        vmx_set(IO_BITMAP_A, (uint64_t)pages + page * PAGE_SIZE);
        named[i].io_a = page;
        break;
    case 1:
        vmx_set(IO_BITMAP_B, (uint64_t)pages + page * PAGE_SIZE);
        named[i].io_b = page;
        break;
    default:
        vmx_set(MSR_BITMAP, (uint64_t)pages + page * PAGE_SIZE);
        named[i].msr = page;
    }
}

/* Nestor keeps one of the MSRs, or no longer: L1 and L2 see nothing of it. */
static void change_policy(void)
{
    uint32_t msr = msrs[random_below(ARRAY_SIZE(msrs))].msr;
    unsigned access = random_below(4);

    if (has_policy)
        policy_keep(msr, access & 1, access & 2);
}

static void step(void)
{
    unsigned i = random_below(VMS), page = random_below(PAGES);

    switch (random_below(64)) {
    case 0 ... 3:
        change_pointer(i, page);
        break;
    case 4:
        vm_clear(&vms[i]);
        break;
    case 5:
        change_policy();
        break;
    case 6 ... 10:
        store_by_l2(&vms[i], pages + page * PAGE_SIZE);
        break;
    case 11 ... 30:
        store(pages + page * PAGE_SIZE);
        break;
    case 31 ... 40:
        enter_without_access(&vms[i]);
        break;
    default:
        enter(i);
    }
}

static void create_vms(void)
{
    pages = page_alloc_run(PAGES + 1, PAGE_SIZE);
    for (unsigned i = 0; i < VMS; i++) {
        vm_create(&vms[i], l2_rdmsr, i == VMS - 1 ? VM_NO_EPT : 0);
        named[i].msr = named[i].io_a = named[i].io_b = i;
        vmx_set(MSR_BITMAP, (uint64_t)pages + i * PAGE_SIZE);
        vmx_set(IO_BITMAP_A, (uint64_t)pages + i * PAGE_SIZE);
        vmx_set(IO_BITMAP_B, (uint64_t)pages + i * PAGE_SIZE);
        vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    }
}

static void stress(void)
{
    unsigned failures = check_failures(), steps = scenario_steps ? scenario_steps : STEPS, done = 0;
    uint64_t own[ARRAY_SIZE(msrs)];

    seed = 1;
    digest = accesses = exits = 0;
    has_policy = policy_present();
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        own[i] = cpu_rdmsr(msrs[i].msr);
    vmx_start();
    create_vms();
    for (; done < steps && check_failures() == failures; done++) {
        uint64_t mark = page_mark(); /* each vm_set_code() takes a stack */
        step();
        page_release(mark);
    }
    print("# transcript %lx of %u steps, %lu accesses, %lu exits\n", digest, done, accesses, exits);
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        if (has_policy)
            policy_keep(msrs[i].msr, false, false);
        if (msrs[i].written == ANY)
            cpu_wrmsr(msrs[i].msr, own[i]);
    }
}

const struct scenario bitmap_stress_scenarios[] = {
    {"stress-bitmap", stress, NULL},
    {0},
};
