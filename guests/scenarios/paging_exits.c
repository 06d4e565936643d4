/* Exits by which an L1 with page tables of its own for L2 hears of what L2 does: exceptions and accesses to control
 * registers, several in a row, so that all of them but the first may take L0's shortest way; and what must not. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/trap.h"
#include "guests/scenarios/scenario.h"

#define TURNS 4
#define VECTOR_TEST 0x50
#define WINDOW GIB
#define BAD_SELECTOR 0x7ff8

static volatile uint64_t l2_value;
static uint64_t l2_operand;

static void l2_cpuids(void)
{
    for (;;)
        (void)cpu_cpuid(0, 0);
}

static uint32_t straight(void)
{
    return counters_present() ? counter_read(COUNTER_EXITS_STRAIGHT) : 0;
}

/* How many of TURNS exits L0 does not look at. */
static uint32_t usual_count(struct vm *vm)
{
    uint32_t before = straight();

    for (unsigned i = 0; i < TURNS; i++)
        EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
    return straight() - before;
}

/* With VMX operation begun, L2's own page tables, and the usual count in L2's second such row. */
static uint32_t start(struct vm *vm)
{
    vmx_start();
    vm_create(vm, l2_cpuids, 0);
    vmx_set(GUEST_CR3, (uint64_t)paging_alloc_identity());
    (void)usual_count(vm);
    return usual_count(vm);
}

static void l2_divide(void)
{
    asm volatile("div %%ecx" : : "a"(1), "d"(0), "c"(0) : "cc");
}

static void l2_int3(void)
{
    asm volatile("int3");
}

static void l2_ud2(void)
{
    asm volatile("ud2");
}

static void l2_load_selector(void)
{
    asm volatile("mov %w0, %%ds" : : "r"(BAD_SELECTOR));
}

static void l2_read(void)
{
    asm volatile("mov (%0), %%eax" : : "r"(l2_operand) : "rax");
}

static void l2_write(void)
{
    asm volatile("movl $1, (%0)" : : "r"(l2_operand) : "memory");
}

static void l2_caught(void (*code)(void))
{
    l2_value = FAULT_OF(code());
}

#define CAUGHT(name)                                                                                                   \
    static void name##_caught(void)                                                                                    \
    {                                                                                                                  \
        l2_caught(name);                                                                                               \
    }
CAUGHT(l2_divide)
CAUGHT(l2_int3)
CAUGHT(l2_ud2)
CAUGHT(l2_load_selector)
CAUGHT(l2_read)
CAUGHT(l2_write)

static const struct exception {
    void (*code)(void), (*caught)(void);
    uint8_t vector, type;
    uint32_t error;
} exceptions[] = {
    {l2_divide, l2_divide_caught, VECTOR_DE, INTR_TYPE_HARD_EXCEPTION, 0},
    {l2_int3, l2_int3_caught, VECTOR_BP, INTR_TYPE_SOFT_EXCEPTION, 0},
    {l2_ud2, l2_ud2_caught, VECTOR_UD, INTR_TYPE_HARD_EXCEPTION, 0},
    {l2_load_selector, l2_load_selector_caught, VECTOR_GP, INTR_TYPE_HARD_EXCEPTION, BAD_SELECTOR},
    {l2_write, l2_write_caught, VECTOR_PF, INTR_TYPE_HARD_EXCEPTION, PF_WRITE},
};

static void check_exception(const struct vm *vm, const struct exception *e)
{
    bool has_error = e->vector == VECTOR_GP || e->vector == VECTOR_PF;

    CHECK_EQ(vm->exit.intr_info & ~(uint32_t)INTR_NMI_UNBLOCKING,
             INTR_VALID | (has_error ? INTR_ERROR_CODE : 0) | PUT(e->type, INTR_TYPE) | e->vector);
    CHECK_EQ(vm->exit.idt_info & INTR_VALID, 0);
    CHECK_EQ(vm->exit.qualification, e->vector == VECTOR_PF ? l2_operand : 0);
    if (has_error)
        CHECK_EQ(vm->exit.intr_error, e->error);
}

/* Each with its bit alone, and with all but its bit. */
static void by_the_bitmap(void)
{
    struct vm vm;
    uint32_t usual = start(&vm);

    l2_operand = UNMAPPED_ADDRESS + 0x123;
    for (unsigned i = 0; i < ARRAY_SIZE(exceptions); i++) {
        const struct exception *e = &exceptions[i];
        uint32_t before = straight();

        vm_set_code(&vm, e->code);
        vmx_set(EXCEPTION_BITMAP, BIT(e->vector));
        for (unsigned turn = 0; turn < TURNS; turn++) {
            EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
            check_exception(&vm, e);
        }
        CHECK_EQ(straight() - before, usual);
        vm_set_code(&vm, e->caught);
        vmx_set(EXCEPTION_BITMAP, (uint32_t)~BIT(e->vector));
        l2_value = NO_FAULT;
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, e->vector);
    }
}

/* Where L2 reads and writes, and what error code that has. */
static const struct access {
    void (*code)(void), (*caught)(void);
    uint64_t entry; /* beside the page's address */
    uint32_t error;
} accesses[] = {
    {l2_read, l2_read_caught, 0, 0},
    {l2_write, l2_write_caught, 0, PF_WRITE},
    {l2_write, l2_write_caught, PTE_P | PTE_U, PF_PRESENT | PF_WRITE},
    {l2_read, l2_read_caught, PTE_P | PTE_W | PTE_U | BIT(51), PF_PRESENT | PF_RESERVED},
};

static const uint32_t codes[] = {0, PF_PRESENT, PF_WRITE, PF_PRESENT | PF_WRITE, PF_PRESENT | PF_RESERVED, UINT32_MAX};

/* One page fault, with one bitmap, mask and match. SDM 3C 25.6.3 "Exception Bitmap" */
static void check_fault(struct vm *vm, const struct access *access, bool wanted, uint32_t mask, uint32_t match)
{
    bool exits = wanted == ((access->error & mask) == match);

    vmx_set(EXCEPTION_BITMAP, wanted ? BIT(VECTOR_PF) : 0);
    vmx_set(PAGE_FAULT_ERROR_CODE_MASK, mask);
    vmx_set(PAGE_FAULT_ERROR_CODE_MATCH, match);
    vm_set_code(vm, exits ? access->code : access->caught);
    l2_value = NO_FAULT;
    for (unsigned turn = 0; turn < (exits ? 2 : 0); turn++) {
        EXPECT_EXIT(vm, EXIT_EXCEPTION_NMI);
        CHECK_EQ(vm->exit.intr_error, access->error);
        CHECK_EQ(vm->exit.qualification, WINDOW);
    }
    if (exits)
        return;
    EXPECT_DONE(vm);
    CHECK_EQ(l2_value, VECTOR_PF);
    CHECK_EQ(fault.error, access->error);
}

static void by_the_error_code(void)
{
    uint64_t mark, *entry, *page;
    struct vm vm;

    (void)start(&vm);
    page = page_alloc();
    entry = paging_entry((uint64_t *)vmx_get(GUEST_CR3), WINDOW, PAGE_SIZE);
    vmx_set(GUEST_CR0, vmx_get(GUEST_CR0) | CR0_WP);
    l2_operand = WINDOW;
    mark = page_mark();
    for (unsigned i = 0; i < ARRAY_SIZE(accesses); i++)
        for (unsigned mask = 0; mask < ARRAY_SIZE(codes); mask++)
            for (unsigned match = 0; match < ARRAY_SIZE(codes); match++) {
                *entry = (uint64_t)page | accesses[i].entry;
                check_fault(&vm, &accesses[i], true, codes[mask], codes[match]);
                check_fault(&vm, &accesses[i], false, codes[mask], codes[match]);
                page_release(mark); /* L2's stacks */
            }
}

static const char *without_reserved_bit(void)
{
    return cpu_physical_bits() < 52 ? NULL : "no reserved bit of a page-table entry";
}

/* A page fault of the delivery of L1's event: L1 is told of both. */
static void of_a_delivery(void)
{
    const uint64_t event = INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST;
    uint64_t stack;
    struct vm vm;

    (void)start(&vm);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_PF));
    stack = vmx_get(GUEST_RSP);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    trap_count[VECTOR_TEST] = 0;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        vmx_set(GUEST_RSP, UNMAPPED_ADDRESS);
        vmx_set(ENTRY_INTERRUPTION_INFO, event);
        EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
        CHECK_EQ(vm.exit.intr_error, PF_WRITE);
        CHECK_EQ(vm.exit.idt_info & ~INTR_NMI_UNBLOCKING, event);
        CHECK_EQ(vmx_get(ENTRY_INTERRUPTION_INFO) & INTR_VALID, 0);
        CHECK_EQ(trap_count[VECTOR_TEST], 0);
    }
    vmx_set(GUEST_RSP, stack);
    vmx_set(ENTRY_INTERRUPTION_INFO, vm.exit.idt_info & ~INTR_NMI_UNBLOCKING);
    EXPECT_EXIT(&vm, EXIT_CPUID);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
}

static void l2_send_nmis(void)
{
    for (;;) {
        (void)cpu_cpuid(0, 0);
        irq_self_nmi();
        for (unsigned i = 0; i < 1000; i++)
            cpu_pause();
    }
}

/* An NMI exits for the same reason, to L0 at least: where L1 leaves it to L2, it is L2's. */
static void nmi_stays(void)
{
    struct vm vm;

    (void)start(&vm);
    vmx_set(EXCEPTION_BITMAP, UINT32_MAX);
    vm_set_code(&vm, l2_send_nmis);
    trap_count[VECTOR_NMI] = 0;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(trap_count[VECTOR_NMI], turn);
    }
}

/* Where L1 wants it, L1 goes on with NMIs blocked. */
static void nmi_blocks(void)
{
    struct vm vm;

    (void)start(&vm);
    vm_control_set(PIN_CONTROLS, (uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS));
    (void)usual_count(&vm);
    vm_set_code(&vm, l2_send_nmis);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    trap_count[VECTOR_NMI] = 0;
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(GET(vm.exit.intr_info, INTR_TYPE), INTR_TYPE_NMI);
    irq_self_nmi();
    irq_window();
    CHECK_EQ(trap_count[VECTOR_NMI], 0);
    asm volatile("mov %%rsp, %%rdx; mov %%ss, %%eax; push %%rax; push %%rdx; pushfq; mov %%cs, %%eax; push %%rax;"
                 "lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
                 :
                 :
                 : "rax", "rdx", "memory");
    irq_window();
    CHECK_EQ(trap_count[VECTOR_NMI], 1);
}

static void l2_mov_to_cr3(void)
{
    asm volatile("mov %%cr3, %%r9; mov %%r9, %%cr3" : : : "r9", "memory");
}

static void l2_mov_from_cr3(void)
{
    asm volatile("mov %%cr3, %%r9" : : : "r9", "memory");
}

static void l2_mov_to_cr0(void)
{
    asm volatile("mov %%cr0, %%rdx; xor %0, %%rdx; mov %%rdx, %%cr0" : : "i"(CR0_AM) : "rdx");
}

static void l2_clts(void)
{
    asm volatile("clts");
}

static void l2_lmsw(void)
{
    asm volatile("lmsw %w0" : : "a"(0x1b)); /* PE, MP, TS, ET */
}

static void l2_mov_to_cr4(void)
{
    asm volatile("mov %%cr4, %%rbx; xor %0, %%rbx; mov %%rbx, %%cr4" : : "i"(CR4_TSD) : "rbx");
}

static void l2_mov_to_cr8(void)
{
    asm volatile("xor %%edi, %%edi; mov %%rdi, %%cr8" : : : "rdi");
}

static void l2_mov_from_cr8(void)
{
    asm volatile("mov %%cr8, %%rdi" : : : "rdi");
}

/* L2's code, the control or the mask by which L1 wants it, and its qualification. */
static const struct cr_access {
    void (*code)(void);
    uint32_t control;
    uint64_t cr0, cr4;
    uint8_t number, type;
    uint8_t gpr;
} cr_accesses[] = {
    {l2_mov_to_cr3, (uint32_t)PROC_CR3_LOAD, 0, 0, 3, CR_QUAL_TYPE_MOV_TO, R9},
    {l2_mov_from_cr3, (uint32_t)PROC_CR3_STORE, 0, 0, 3, CR_QUAL_TYPE_MOV_FROM, R9},
    {l2_mov_to_cr0, 0, CR0_AM, 0, 0, CR_QUAL_TYPE_MOV_TO, RDX},
    {l2_clts, 0, CR0_TS, 0, 0, CR_QUAL_TYPE_CLTS, 0},
    {l2_lmsw, 0, CR0_MP, 0, 0, CR_QUAL_TYPE_LMSW, 0},
    {l2_mov_to_cr4, 0, 0, CR4_TSD, 4, CR_QUAL_TYPE_MOV_TO, RBX},
    {l2_mov_to_cr8, (uint32_t)PROC_CR8_LOAD, 0, 0, 8, CR_QUAL_TYPE_MOV_TO, RDI},
    {l2_mov_from_cr8, (uint32_t)PROC_CR8_STORE, 0, 0, 8, CR_QUAL_TYPE_MOV_FROM, RDI},
};

static void check_access(const struct vm *vm, const struct cr_access *a)
{
    CHECK_EQ(GET(vm->exit.qualification, CR_QUAL_NUMBER), a->number);
    CHECK_EQ(GET(vm->exit.qualification, CR_QUAL_TYPE), a->type);
    if (a->gpr)
        CHECK_EQ(GET(vm->exit.qualification, CR_QUAL_REGISTER), a->gpr);
}

/* Masks, and shadows that differ from what L2 writes in each bit that L1 owns: TS is set there, and MP clear. */
static void set_masks(uint64_t cr0, uint64_t cr4)
{
    uint64_t shadow = (vmx_get(GUEST_CR0) | CR0_TS) & ~CR0_MP;

    vmx_set(CR0_GUEST_HOST_MASK, cr0);
    vmx_set(CR0_READ_SHADOW, shadow);
    vmx_set(CR4_GUEST_HOST_MASK, cr4);
    vmx_set(CR4_READ_SHADOW, vmx_get(GUEST_CR4));
}

/* Each access exits while L1 wants it, and not when it does not. */
static void by_control_and_mask(void)
{
    struct vm vm;
    uint32_t usual = start(&vm);
    uint64_t cr0 = vmx_get(GUEST_CR0), cr4 = vmx_get(GUEST_CR4);

    for (unsigned i = 0; i < ARRAY_SIZE(cr_accesses); i++) {
        const struct cr_access *a = &cr_accesses[i];
        uint32_t before;

        vmx_set(GUEST_CR0, cr0);
        vmx_set(GUEST_CR4, cr4);
        set_masks(a->cr0, a->cr4);
        vm_control_set(PROC_CONTROLS, a->control);
        vm_set_code(&vm, a->code);
        EXPECT_EXIT(&vm, EXIT_CR_ACCESS); /* L1 has written controls */
        check_access(&vm, a);
        before = straight();
        for (unsigned turn = 0; turn < TURNS; turn++) {
            EXPECT_EXIT(&vm, EXIT_CR_ACCESS);
            check_access(&vm, a);
        }
        if (a->number != 4) /* L0 has bits of its own in that mask */
            CHECK_EQ(straight() - before, usual);
        set_masks(0, 0);
        vm_control_clear(PROC_CONTROLS, a->control);
        vm_set_code(&vm, a->code);
        EXPECT_DONE(&vm);
    }
}

static void l2_load_two(void)
{
    for (;;) {
        asm volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
        asm volatile("mov %0, %%cr3" : : "r"(l2_operand) : "memory");
    }
}

/* Of two values in turn, one is a target: each exit is for the other. */
static void beside_a_target(void)
{
    uint32_t before;
    struct vm vm;
    uint32_t usual = start(&vm);

    l2_operand = (uint64_t)paging_alloc_identity();
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_CR3_LOAD);
    vmx_set(CR3_TARGET_VALUE0, vmx_get(GUEST_CR3));
    vmx_set(CR3_TARGET_COUNT, 1);
    vm_set_code(&vm, l2_load_two);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    before = straight();
    for (unsigned turn = 0; turn < TURNS; turn++) {
        EXPECT_EXIT(&vm, EXIT_CR_ACCESS);
        CHECK_EQ(vm.regs[GET(vm.exit.qualification, CR_QUAL_REGISTER)], l2_operand);
        vm_skip(&vm);
    }
    CHECK_EQ(straight() - before, usual);
}

static const char *without_target(void)
{
    return GET(cpu_rdmsr(IA32_VMX_MISC), VMX_MISC_CR3_TARGETS) ? NULL : "no CR3 targets";
}

static uint64_t missing; /* bits of CR4 that L1's CPU has not */

static void l2_set_missing(void)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(missing >> bit & 1))
            continue;
        l2_value = FAULT_OF(cpu_write_cr4(cpu_read_cr4() | BIT(bit)));
        l2_operand = bit;
        (void)cpu_cpuid(0, 0);
    }
}

/* L2 gets #GP for each, and L1 nothing, also for those that the CPU below has. */
static void bits_that_are_not_there(void)
{
    struct vm vm;

    (void)start(&vm);
    missing = ~cpu_rdmsr(IA32_VMX_CR4_FIXED1);
    vmx_set(CR4_READ_SHADOW, vmx_get(GUEST_CR4));
    vmx_set(CR4_GUEST_HOST_MASK, CR4_TSD);
    (void)usual_count(&vm);
    vm_set_code(&vm, l2_set_missing);
    for (uint64_t left = missing; left; left &= left - 1) {
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        if (l2_value != VECTOR_GP)
            check_report("bit %lu of CR4: vector %lu", l2_operand, l2_value);
    }
    EXPECT_DONE(&vm);
}

const struct scenario paging_exit_scenarios[] = {
    {"paging-exit-by-the-bitmap", by_the_bitmap, NULL},
    {"paging-exit-by-the-error-code", by_the_error_code, without_reserved_bit},
    {"paging-exit-of-a-delivery", of_a_delivery, NULL},
    {"paging-exit-nmi-stays", nmi_stays, NULL},
    {"paging-exit-nmi-blocks", nmi_blocks, NULL},
    {"paging-exit-by-control-and-mask", by_control_and_mask, NULL},
    {"paging-exit-beside-a-target", beside_a_target, without_target},
    {"paging-exit-bits-not-there", bits_that_are_not_there, NULL},
    {NULL, NULL, NULL},
};
