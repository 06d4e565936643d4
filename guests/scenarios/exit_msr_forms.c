/* WRMSRNS, the immediate forms of RDMSR and WRMSRNS, RDMSRLIST and WRMSRLIST: each MSR that they access obeys the
 * bitmap. Two MSRs stand for what L0 does: LSTAR it leaves alone, a variable MTRR it keeps. L1 wants an access or not:
 * so each form is seen with L0, L1, both and nobody. The CPU may lack them all: then each is skipped. */
#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/multiboot.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define CPUID7_1_EAX_WRMSRNS BIT(19)
#define CPUID7_1_EAX_MSRLIST BIT(27)
#define MSR_FREE IA32_LSTAR
#define MSR_KEPT (IA32_MTRR_PHYSBASE0 + 2) /* a base whose range is made invalid first */
#define FREE_IMMEDIATE ".long 0xc0000082"
#define KEPT_IMMEDIATE ".long 0x202"
_Static_assert(MSR_FREE == 0xc0000082 && MSR_KEPT == 0x202, "the immediates");

#define VALUE_1 0x12345000ull /* fit both MSRs */
#define VALUE_2 0x23456000ull
#define VALUE_OF_L1 0x34567000ull

/* C4 E7 7B F6 C0+rm: RDMSR rm, immediate; C4 E7 7A: WRMSRNS. Bit 5 of the second byte clear: R8 to R15. */
#define WRMSRNS ".byte 0x0f, 0x01, 0xc6"
#define RDMSRLIST ".byte 0xf2, 0x0f, 0x01, 0xc6"
#define WRMSRLIST ".byte 0xf3, 0x0f, 0x01, 0xc6"
#define RDMSR_RBX ".byte 0xc4, 0xe7, 0x7b, 0xf6, 0xc3; "
#define RDMSR_R9 ".byte 0xc4, 0xc7, 0x7b, 0xf6, 0xc1; "
#define WRMSRNS_RBX ".byte 0xc4, 0xe7, 0x7a, 0xf6, 0xc3; "
#define WRMSRNS_R9 ".byte 0xc4, 0xc7, 0x7a, 0xf6, 0xc1; "

static struct cpuid leaf_7_1(void)
{
    struct cpuid none = {0};

    return cpu_cpuid(0, 0).eax >= 7 && cpu_cpuid(7, 0).eax >= 1 ? cpu_cpuid(7, 1) : none;
}

static const char *without_wrmsrns(void)
{
    return leaf_7_1().eax & CPUID7_1_EAX_WRMSRNS ? NULL : "no WRMSRNS";
}

/* An emulated CPU has it without its bit in CPUID. */
static const char *without_immediate(void)
{
    bool works = FAULT_OF(asm volatile(RDMSR_RBX FREE_IMMEDIATE : : : "memory", "rbx")) == NO_FAULT;

    return works ? NULL : "no immediate RDMSR";
}

static const char *without_lists(void)
{
    return leaf_7_1().eax & CPUID7_1_EAX_MSRLIST ? NULL : "no RDMSRLIST";
}

/* An emulated CPU may not say which MSR an immediate form is about; Nestor does. */
static bool is_exact(void)
{
    return multiboot_find_carveout() != 0;
}

static uint64_t saved_free, saved_base, saved_mask;

static void save_msrs(void)
{
    saved_free = cpu_rdmsr(MSR_FREE);
    saved_base = cpu_rdmsr(MSR_KEPT);
    saved_mask = cpu_rdmsr(MSR_KEPT + 1);
    cpu_wrmsr(MSR_KEPT + 1, 0);
}

static void restore_msrs(void)
{
    cpu_wrmsr(MSR_FREE, saved_free);
    cpu_wrmsr(MSR_KEPT, saved_base);
    cpu_wrmsr(MSR_KEPT + 1, saved_mask);
}

/* L1 wants both MSRs' accesses, or neither's. */
static void set_wanted(struct vm *vm, bool wanted)
{
    static const uint32_t msrs[] = {MSR_FREE, MSR_KEPT};

    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        if (wanted) {
            msr_bit_set(vm->msr_bitmap, msrs[i], MSR_READ);
            msr_bit_set(vm->msr_bitmap, msrs[i], MSR_WRITE);
        } else {
            msr_bit_clear(vm->msr_bitmap, msrs[i], MSR_READ);
            msr_bit_clear(vm->msr_bitmap, msrs[i], MSR_WRITE);
        }
    }
}

static volatile uint64_t l2_value;

/* The registers are as L1 set them. */
#define L2_CODE(name, instruction)                                                                                     \
    static void name(void)                                                                                             \
    {                                                                                                                  \
        asm volatile(instruction : : : "memory");                                                                      \
    }
#define L2_READ(name, instruction, reg)                                                                                \
    static void name(void)                                                                                             \
    {                                                                                                                  \
        uint64_t value;                                                                                                \
        asm volatile(instruction "; mov %%" reg ", %0" : "=r"(value) : : "memory", reg);                               \
        l2_value = value;                                                                                              \
    }
L2_CODE(l2_wrmsrns, WRMSRNS)
L2_READ(l2_read_free, RDMSR_RBX FREE_IMMEDIATE, "rbx")
L2_READ(l2_read_kept, RDMSR_R9 KEPT_IMMEDIATE, "r9")
L2_CODE(l2_write_free, WRMSRNS_RBX FREE_IMMEDIATE)
L2_CODE(l2_write_kept, WRMSRNS_R9 KEPT_IMMEDIATE)

/* WRMSRNS exits as WRMSR does, with 1 as its qualification; an emulated CPU has the immediate form's reason. */
static void expect_wrmsrns_exit(struct vm *vm, uint32_t msr)
{
    uint16_t reason = vm_run(vm);

    CHECK(reason == EXIT_WRMSR || (!is_exact() && reason == EXIT_WRMSRNS_IMMEDIATE));
    if (is_exact()) /* an emulated CPU has 0 without a bitmap */
        CHECK_EQ(vm->exit.qualification, 1);
    CHECK_EQ(vm->exit.length, 3);
    CHECK_EQ((uint32_t)vm->regs[RCX], msr);
    vm_skip(vm);
    EXPECT_DONE(vm);
}

static void write_by_wrmsrns(struct vm *vm, uint32_t msr, uint64_t value, bool wanted)
{
    cpu_wrmsr(msr, VALUE_1);
    vm_set_code(vm, l2_wrmsrns);
    vm->regs[RCX] = msr | 0xabcull << 32;
    vm->regs[RAX] = (uint32_t)value;
    vm->regs[RDX] = value >> 32;
    if (wanted)
        expect_wrmsrns_exit(vm, msr);
    else
        EXPECT_DONE(vm);
    CHECK_EQ(cpu_rdmsr(msr), wanted ? VALUE_1 : value);
}

static void wrmsrns(void)
{
    struct vm vm;

    save_msrs();
    vm_start(&vm, l2_wrmsrns, 0);
    for (unsigned wanted = 0; wanted < 2; wanted++) {
        set_wanted(&vm, wanted);
        write_by_wrmsrns(&vm, MSR_FREE, VALUE_2, wanted);
        write_by_wrmsrns(&vm, MSR_KEPT, VALUE_2, wanted);
    }
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    set_wanted(&vm, false);
    write_by_wrmsrns(&vm, MSR_FREE, VALUE_2, true);
    restore_msrs();
}

static void expect_immediate_exit(struct vm *vm, uint16_t reason, uint32_t msr, unsigned reg)
{
    EXPECT_EXIT_SKIP(vm, reason);
    CHECK_EQ(vm->exit.length, 9);
    if (is_exact() || vm->exit.qualification > 1) {
        CHECK_EQ(vm->exit.qualification, msr);
        CHECK_EQ(GET(vm->exit.info, BITS(6, 3)), reg);
    }
}

static void read_immediate(struct vm *vm, uint32_t msr, void (*code)(void), unsigned reg, bool wanted)
{
    cpu_wrmsr(msr, VALUE_1);
    vm_set_code(vm, code);
    vm->regs[reg] = 0;
    l2_value = 0;
    if (wanted) {
        expect_immediate_exit(vm, EXIT_RDMSR_IMMEDIATE, msr, reg);
        vm->regs[reg] = VALUE_OF_L1;
    }
    EXPECT_DONE(vm);
    CHECK_EQ(l2_value, wanted ? VALUE_OF_L1 : VALUE_1);
}

static void write_immediate(struct vm *vm, uint32_t msr, void (*code)(void), unsigned reg, bool wanted)
{
    cpu_wrmsr(msr, VALUE_1);
    vm_set_code(vm, code);
    vm->regs[reg] = VALUE_2;
    if (wanted)
        expect_immediate_exit(vm, EXIT_WRMSRNS_IMMEDIATE, msr, reg);
    EXPECT_DONE(vm);
    CHECK_EQ(cpu_rdmsr(msr), wanted ? VALUE_1 : VALUE_2);
}

static void immediate(void)
{
    struct vm vm;

    save_msrs();
    vm_start(&vm, l2_read_free, 0);
    for (unsigned wanted = 0; wanted < 2; wanted++) {
        set_wanted(&vm, wanted);
        read_immediate(&vm, MSR_FREE, l2_read_free, RBX, wanted);
        read_immediate(&vm, MSR_KEPT, l2_read_kept, R9, wanted);
        write_immediate(&vm, MSR_FREE, l2_write_free, RBX, wanted);
        write_immediate(&vm, MSR_KEPT, l2_write_kept, R9, wanted);
    }
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    set_wanted(&vm, false);
    read_immediate(&vm, MSR_FREE, l2_read_free, RBX, true);
    write_immediate(&vm, MSR_KEPT, l2_write_kept, R9, true);
    restore_msrs();
}

/* A value that the MSR does not take is #GP in L2, also of an MSR that L0 keeps. */
static void l2_write_kept_badly(void)
{
    l2_value = FAULT_OF(asm volatile("mov $3, %%r9; " WRMSRNS_R9 KEPT_IMMEDIATE : : : "memory", "r9"));
}

static void immediate_faults(void)
{
    struct vm vm;

    save_msrs();
    cpu_wrmsr(MSR_KEPT, VALUE_1);
    vm_start(&vm, l2_write_kept_badly, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_GP);
    CHECK_EQ(cpu_rdmsr(MSR_KEPT), VALUE_1);
    restore_msrs();
}

/* --- Lists --- */

#define LIST_FREE 1u /* the entries' places, in the order in which they are done */
#define LIST_KEPT 5u
#define LIST_STAR 63u
#define LIST_ALL (BIT(LIST_FREE) | BIT(LIST_KEPT) | BIT(LIST_STAR))

static uint64_t list_msr[64] __attribute__((aligned(4096))), list_value[64] __attribute__((aligned(4096)));

L2_CODE(l2_rdmsrlist, RDMSRLIST)
L2_CODE(l2_wrmsrlist, WRMSRLIST)

static void fill_list(uint64_t value)
{
    list_msr[LIST_FREE] = MSR_FREE;
    list_msr[LIST_KEPT] = MSR_KEPT;
    list_msr[LIST_STAR] = IA32_STAR;
    list_value[LIST_FREE] = list_value[LIST_KEPT] = value;
    list_value[LIST_STAR] = cpu_rdmsr(IA32_STAR);
    cpu_wrmsr(MSR_FREE, VALUE_1);
    cpu_wrmsr(MSR_KEPT, VALUE_1);
}

static void start_list(struct vm *vm, void (*code)(void))
{
    vm_set_code(vm, code);
    vm->regs[RSI] = (uint64_t)list_msr;
    vm->regs[RDI] = (uint64_t)list_value;
    vm->regs[RCX] = LIST_ALL;
}

static bool has_lists(struct vm *vm)
{
    uint64_t proc3 = cpu_rdmsr(IA32_VMX_PROCBASED_CTLS3);

    (void)vm;
    REQUIRE(proc3 & PROC3_MSR_LIST);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TERTIARY);
    vmx_set(PROC3_CONTROLS, PROC3_MSR_LIST);
    return true;
}

/* L1 wants the entry: it takes it off the list and goes on with the rest. */
static void expect_list_exit(struct vm *vm, uint16_t reason, unsigned place)
{
    EXPECT_EXIT(vm, reason);
    CHECK_EQ(vm->exit.qualification, list_msr[place]);
    CHECK_EQ(vm->regs[RCX] & -vm->regs[RCX], BIT(place));
    if (reason == EXIT_WRMSRLIST)
        CHECK_EQ(vmx_get(MSR_DATA), list_value[place]);
    else
        list_value[place] = VALUE_OF_L1;
    vm->regs[RCX] &= ~BIT(place);
    if (!vm->regs[RCX])
        vm_skip(vm);
}

static void lists(void)
{
    struct vm vm;

    save_msrs();
    vm_start(&vm, l2_rdmsrlist, 0);
    has_lists(&vm);
    for (unsigned wanted = 0; wanted < 4; wanted++) {
        bool free_wanted = wanted & 1, kept_wanted = wanted & 2;
        set_wanted(&vm, false);
        if (free_wanted)
            msr_bit_set(vm.msr_bitmap, MSR_FREE, MSR_READ), msr_bit_set(vm.msr_bitmap, MSR_FREE, MSR_WRITE);
        if (kept_wanted)
            msr_bit_set(vm.msr_bitmap, MSR_KEPT, MSR_READ), msr_bit_set(vm.msr_bitmap, MSR_KEPT, MSR_WRITE);

        fill_list(0);
        list_value[LIST_STAR] = 0;
        start_list(&vm, l2_rdmsrlist);
        if (free_wanted)
            expect_list_exit(&vm, EXIT_RDMSRLIST, LIST_FREE);
        if (kept_wanted)
            expect_list_exit(&vm, EXIT_RDMSRLIST, LIST_KEPT);
        EXPECT_DONE(&vm);
        CHECK_EQ(list_value[LIST_FREE], free_wanted ? VALUE_OF_L1 : VALUE_1);
        CHECK_EQ(list_value[LIST_KEPT], kept_wanted ? VALUE_OF_L1 : VALUE_1);
        CHECK_EQ(list_value[LIST_STAR], cpu_rdmsr(IA32_STAR));

        fill_list(VALUE_2);
        start_list(&vm, l2_wrmsrlist);
        if (free_wanted)
            expect_list_exit(&vm, EXIT_WRMSRLIST, LIST_FREE);
        if (kept_wanted)
            expect_list_exit(&vm, EXIT_WRMSRLIST, LIST_KEPT);
        EXPECT_DONE(&vm);
        CHECK_EQ(cpu_rdmsr(MSR_FREE), free_wanted ? VALUE_1 : VALUE_2);
        CHECK_EQ(cpu_rdmsr(MSR_KEPT), kept_wanted ? VALUE_1 : VALUE_2);
    }
    restore_msrs();
}

/* Without a bitmap each exits before anything was read of its MSRs, with nothing to say. */
static void lists_without_bitmap(void)
{
    struct vm vm;

    save_msrs();
    vm_start(&vm, l2_rdmsrlist, 0);
    has_lists(&vm);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    fill_list(0);
    for (unsigned write = 0; write < 2; write++) {
        start_list(&vm, write ? l2_wrmsrlist : l2_rdmsrlist);
        EXPECT_EXIT_SKIP(&vm, write ? EXIT_WRMSRLIST : EXIT_RDMSRLIST);
        CHECK_EQ(vm.exit.qualification, 0);
        CHECK_EQ(vm.regs[RCX], LIST_ALL);
        EXPECT_DONE(&vm);
    }
    CHECK_EQ(cpu_rdmsr(MSR_FREE), VALUE_1);
    restore_msrs();
}

/* The list that L1 filled; the fault, and what was left of the list. */
static void l2_list_caught(bool write, uint64_t msrs, uint64_t values)
{
    uint64_t left = LIST_ALL;

    if (write)
        l2_value = FAULT_OF(asm volatile(WRMSRLIST : "+c"(left) : "S"(msrs), "D"(values) : "memory"));
    else
        l2_value = FAULT_OF(asm volatile(RDMSRLIST : "+c"(left) : "S"(msrs), "D"(values) : "memory"));
}

static void l2_write_list_caught(void)
{
    l2_list_caught(true, (uint64_t)list_msr, (uint64_t)list_value);
}

static void l2_read_list_caught(void)
{
    l2_list_caught(false, (uint64_t)list_msr, (uint64_t)list_value);
}

static void l2_read_list_unaligned(void)
{
    l2_list_caught(false, (uint64_t)list_msr + 4, (uint64_t)list_value);
}

static void l2_read_list_unmapped(void)
{
    l2_list_caught(false, (uint64_t)list_msr, UNMAPPED_ADDRESS);
}

static void expect_list_fault(struct vm *vm, void (*code)(void), uint64_t vector)
{
    vm_set_code(vm, code);
    l2_value = NO_FAULT;
    EXPECT_DONE(vm);
    CHECK_EQ(l2_value, vector);
}

/* Entries before the one that faults are done. */
static void list_faults(void)
{
    struct vm vm;

    save_msrs();
    vm_start(&vm, l2_write_list_caught, 0);
    has_lists(&vm);
    fill_list(VALUE_2);
    list_value[LIST_KEPT] = 3; /* no memory type */
    expect_list_fault(&vm, l2_write_list_caught, VECTOR_GP);
    CHECK_EQ(cpu_rdmsr(MSR_FREE), VALUE_2);
    CHECK_EQ(cpu_rdmsr(MSR_KEPT), VALUE_1);
    fill_list(0);
    list_msr[LIST_KEPT] |= BIT(32);
    expect_list_fault(&vm, l2_read_list_caught, VECTOR_GP);
    CHECK_EQ(list_value[LIST_FREE], VALUE_1);
    fill_list(0);
    expect_list_fault(&vm, l2_read_list_unaligned, VECTOR_GP);
    expect_list_fault(&vm, l2_read_list_unmapped, VECTOR_PF);
    list_msr[LIST_FREE] = MSR_KEPT; /* L0 is who cannot store */
    expect_list_fault(&vm, l2_read_list_unmapped, VECTOR_PF);
    vmx_set(PROC3_CONTROLS, 0);
    expect_list_fault(&vm, l2_read_list_caught, VECTOR_UD);
    vmx_set(PROC3_CONTROLS, ~cpu_rdmsr(IA32_VMX_PROCBASED_CTLS3));
    CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
    restore_msrs();
}

/* The same instructions of L1's own, of an MSR that Nestor keeps and one that it passes. */
static void of_l1(void)
{
    static const uint32_t msrs[] = {MSR_FREE, MSR_KEPT};
    uint64_t value;

    save_msrs();
    for (unsigned i = 0; i < ARRAY_SIZE(msrs) && !without_wrmsrns(); i++) {
        cpu_wrmsr(msrs[i], VALUE_1);
        asm volatile(WRMSRNS : : "c"(msrs[i]), "a"((uint32_t)VALUE_2), "d"(0) : "memory");
        CHECK_EQ(cpu_rdmsr(msrs[i]), VALUE_2);
        CHECK_FAULT(asm volatile(WRMSRNS : : "c"(IA32_FEATURE_CONTROL), "a"(0), "d"(0) : "memory"), VECTOR_GP);
    }
    if (!without_immediate()) {
        asm volatile("mov %0, %%rbx; " WRMSRNS_RBX FREE_IMMEDIATE : : "r"(VALUE_1) : "memory", "rbx");
        asm volatile("mov %0, %%r9; " WRMSRNS_R9 KEPT_IMMEDIATE : : "r"(VALUE_1) : "memory", "r9");
        asm volatile(RDMSR_RBX FREE_IMMEDIATE "; mov %%rbx, %0" : "=r"(value) : : "memory", "rbx");
        CHECK_EQ(value, VALUE_1);
        asm volatile(RDMSR_R9 KEPT_IMMEDIATE "; mov %%r9, %0" : "=r"(value) : : "memory", "r9");
        CHECK_EQ(value, VALUE_1);
    }
    if (!without_lists()) {
        fill_list(VALUE_2);
        value = LIST_ALL;
        asm volatile(WRMSRLIST : "+c"(value) : "S"(list_msr), "D"(list_value) : "memory");
        CHECK_EQ(value, 0);
        CHECK_EQ(cpu_rdmsr(MSR_FREE), VALUE_2);
        CHECK_EQ(cpu_rdmsr(MSR_KEPT), VALUE_2);
        list_value[LIST_FREE] = list_value[LIST_KEPT] = 0;
        value = LIST_ALL;
        asm volatile(RDMSRLIST : "+c"(value) : "S"(list_msr), "D"(list_value) : "memory");
        CHECK_EQ(value, 0);
        CHECK_EQ(list_value[LIST_FREE], VALUE_2);
        CHECK_EQ(list_value[LIST_KEPT], VALUE_2);
    }
    restore_msrs();
}

/* An instruction that is not in CPUID is #UD, and ends nothing. SEAMCALL and TDCALL exit on a CPU that knows them. */
static void unknown_to_l1(void)
{
    if (without_wrmsrns())
        CHECK_FAULT(asm volatile(WRMSRNS : : "c"(MSR_FREE), "a"(0), "d"(0) : "memory"), VECTOR_UD);
    if (without_lists())
        CHECK_FAULT(asm volatile(RDMSRLIST : : "c"(0), "S"(list_msr), "D"(list_value) : "memory"), VECTOR_UD);
    CHECK_FAULT(asm volatile(".byte 0x66, 0x0f, 0x01, 0xcf" : : : "memory"), VECTOR_UD); /* SEAMCALL */
    CHECK_FAULT(asm volatile(".byte 0x66, 0x0f, 0x01, 0xcc" : : : "memory"), VECTOR_UD); /* TDCALL */
}

const struct scenario exit_msr_form_scenarios[] = {
    {"msrform-wrmsrns", wrmsrns, without_wrmsrns},
    {"msrform-immediate", immediate, without_immediate},
    {"msrform-immediate-faults", immediate_faults, without_immediate},
    {"msrform-lists", lists, without_lists},
    {"msrform-lists-without-bitmap", lists_without_bitmap, without_lists},
    {"msrform-list-faults", list_faults, without_lists},
    {"msrform-of-l1", of_l1, NULL},
    {"msrform-unknown-to-l1", unknown_to_l1, NULL},
    {0},
};
