/* VMFUNC: L2 switches among the EPTPs of L1's list, and what it may not ask for. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB
#define EPTP_SWITCHING 0
#define LIST_ENTRIES 512
#define SETS 3

/* One set of extended page tables: all the same except for the page at WINDOW. */
struct set {
    uint64_t *ept, *entry, *page;
};

struct switching {
    struct vm vm;
    struct set set[SETS];
    uint64_t *list;
};

static volatile uint64_t *const l2_window = (volatile uint64_t *)WINDOW;
static volatile uint64_t l2_value, l2_second, l2_function, l2_index;
static volatile uint8_t l2_fault_seen;

static void vmfunc(uint64_t function, uint64_t index)
{
    asm volatile("vmfunc" : : "a"(function), "c"(index) : "memory");
}

static void l2_switch(void)
{
    vmfunc(l2_function, l2_index);
}

static void l2_switch_and_read(void)
{
    vmfunc(l2_function, l2_index);
    l2_value = *l2_window;
}

static void l2_read_switch_read(void)
{
    l2_value = *l2_window;
    vmfunc(l2_function, l2_index);
    l2_second = *l2_window;
}

static void l2_switch_and_write(void)
{
    vmfunc(l2_function, l2_index);
    *l2_window = 0x2222;
}

/* Through all sets and back, each with its own page. */
static void l2_tour(void)
{
    for (uint64_t i = 0; i < 2 * SETS; i++) {
        vmfunc(EPTP_SWITCHING, i % SETS);
        *l2_window = *l2_window + i;
    }
}

static void l2_switch_caught(void)
{
    l2_fault_seen = FAULT_OF(vmfunc(l2_function, l2_index));
}

static void user_switch(void)
{
    vmfunc(EPTP_SWITCHING, 1);
}

static void l2_switch_as_user(void)
{
    l2_fault_seen = fault_of_user(user_switch);
    l2_value = *l2_window;
}

static void make_set(struct set *set, uint64_t value)
{
    set->page = page_alloc();
    set->page[0] = value;
    set->entry = paging_entry(set->ept, WINDOW, PAGE_SIZE);
    *set->entry = (uint64_t)set->page | EPT_RWX | EPT_WB;
}

static void start(struct switching *s)
{
    vm_start(&s->vm, l2_switch, VM_EPT);
    s->list = page_alloc();
    for (unsigned i = 0; i < SETS; i++) {
        s->set[i].ept = i ? ept_alloc_identity(LARGE_2M) : s->vm.ept;
        make_set(&s->set[i], 0x1000 * (i + 1));
        s->list[i] = ept_pointer(s->set[i].ept, false);
    }
    s->list[LIST_ENTRIES - 1] = s->list[2];
    vmx_set(EPTP_LIST_ADDRESS, (uint64_t)s->list);
    vmx_set(VM_FUNCTION_CONTROLS, BIT(EPTP_SWITCHING));
    vm_secondary_set((uint32_t)PROC2_VMFUNC);
}

static void run(struct switching *s, void (*code)(void), uint64_t function, uint64_t index)
{
    vm_set_code(&s->vm, code);
    l2_function = function;
    l2_index = index;
}

static void switches(void)
{
    struct switching s;

    start(&s);
    for (uint64_t i = SETS; i-- > 0;) {
        run(&s, l2_switch_and_read, EPTP_SWITCHING, i);
        EXPECT_DONE(&s.vm);
        CHECK_EQ(l2_value, 0x1000 * (i + 1));
        CHECK_EQ(vmx_get(EPT_POINTER), s.list[i]);
    }
    run(&s, l2_read_switch_read, EPTP_SWITCHING, LIST_ENTRIES - 1);
    EXPECT_DONE(&s.vm);
    CHECK_EQ(l2_value, 0x1000);
    CHECK_EQ(l2_second, 0x3000);
    CHECK_EQ(vmx_get(EPT_POINTER), s.list[2]);
}

/* A store under one EPTP is seen under that one only; within one stay in L2. */
static void tour(struct switching *s)
{
    run(s, l2_tour, 0, 0);
    EXPECT_DONE(&s->vm);
    CHECK_EQ(s->set[0].page[0], 0x1003);
    CHECK_EQ(s->set[1].page[0], 0x2005);
    CHECK_EQ(s->set[2].page[0], 0x3007);
    CHECK_EQ(vmx_get(EPT_POINTER), s->list[2]);
}

static void stores(void)
{
    struct switching s;

    start(&s);
    tour(&s);
}

static void stores_with_vpid(void)
{
    struct switching s;

    start(&s);
    vmx_set(VPID, 5);
    vm_secondary_set((uint32_t)PROC2_VPID);
    tour(&s);
}

/* L1 shows the same page in another set of rights. */
static void rights_differ(void)
{
    struct switching s;

    start(&s);
    *s.set[1].entry = (uint64_t)s.set[0].page | EPT_R | EPT_WB;
    *s.set[2].entry = 0;
    run(&s, l2_switch_and_write, EPTP_SWITCHING, 0);
    EXPECT_DONE(&s.vm);
    CHECK_EQ(s.set[0].page[0], 0x2222);
    run(&s, l2_switch_and_write, EPTP_SWITCHING, 1);
    EXPECT_EXIT(&s.vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(s.vm.exit.gpa, WINDOW);
    CHECK_EQ(GET(s.vm.exit.qualification, BITS(5, 0)), EPT_QUAL_WRITE | EPT_QUAL_ALLOWED_READ);
    CHECK_EQ(vmx_get(EPT_POINTER), s.list[1]);
    run(&s, l2_read_switch_read, EPTP_SWITCHING, 2);
    EXPECT_EXIT(&s.vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(GET(s.vm.exit.qualification, BITS(5, 0)), EPT_QUAL_READ);
    CHECK_EQ(l2_value, 0x2222);
    CHECK_EQ(vmx_get(EPT_POINTER), s.list[2]);
}

static void flags_differ(void)
{
    struct switching s;

    start(&s);
    s.list[1] = ept_pointer(s.set[1].ept, true);
    run(&s, l2_switch_and_write, EPTP_SWITCHING, 1);
    EXPECT_DONE(&s.vm);
    CHECK_EQ(*s.set[1].entry & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED | EPT_DIRTY);
    CHECK_EQ(vmx_get(EPT_POINTER), s.list[1]);
    run(&s, l2_switch_and_write, EPTP_SWITCHING, 2);
    EXPECT_DONE(&s.vm);
    CHECK_EQ(*s.set[2].entry & (EPT_ACCESSED | EPT_DIRTY), 0);
}

static void check_refused(struct switching *s, uint64_t function, uint64_t index)
{
    uint64_t eptp = vmx_get(EPT_POINTER);

    run(s, l2_switch_and_read, function, index);
    EXPECT_EXIT(&s->vm, EXIT_VMFUNC);
    CHECK_EQ(s->vm.exit.qualification, 0);
    CHECK_EQ(s->vm.exit.length, 3);
    CHECK_EQ(s->vm.regs[RAX], function);
    CHECK_EQ(s->vm.regs[RCX], index);
    CHECK_EQ(vmx_get(EPT_POINTER), eptp);
    vm_skip(&s->vm);
    EXPECT_DONE(&s->vm);
    CHECK_EQ(l2_value, 0x1000);
}

/* SDM 3C 26.5.6.3 "EPTP Switching" */
static void refused(void)
{
    struct switching s;

    start(&s);
    check_refused(&s, EPTP_SWITCHING, LIST_ENTRIES);
    check_refused(&s, EPTP_SWITCHING, UINT32_MAX);
    check_refused(&s, EPTP_SWITCHING, LIST_ENTRIES - 2); /* 0 is no EPTP */
    for (uint64_t function = 1; function < 64; function += 31)
        check_refused(&s, function, 1);
    check_refused(&s, 63, 1);
    vmx_set(VM_FUNCTION_CONTROLS, 0);
    check_refused(&s, EPTP_SWITCHING, 1);
}

static void bad_pointers(void)
{
    uint64_t good;
    struct switching s;

    start(&s);
    good = s.list[1];
    s.list[1] = (good & ~EPTP_MEMORY_TYPE) | 1;
    check_refused(&s, EPTP_SWITCHING, 1);
    s.list[1] = (good & ~EPTP_WALK_LENGTH) | PUT(2, EPTP_WALK_LENGTH);
    check_refused(&s, EPTP_SWITCHING, 1);
    s.list[1] = good | BIT(8);
    check_refused(&s, EPTP_SWITCHING, 1);
    s.list[1] = good | 1ull << cpu_physical_bits();
    check_refused(&s, EPTP_SWITCHING, 1);
    s.list[1] = good;
    run(&s, l2_switch_and_read, EPTP_SWITCHING, 1);
    EXPECT_DONE(&s.vm);
    CHECK_EQ(l2_value, 0x2000);
}

/* Only EAX and ECX count. */
static void upper_halves_ignored(void)
{
    struct switching s;

    start(&s);
    run(&s, l2_switch_and_read, EPTP_SWITCHING | 1ull << 32, 1 | 3ull << 32);
    EXPECT_DONE(&s.vm);
    CHECK_EQ(l2_value, 0x2000);
}

static void check_undefined(struct switching *s, uint64_t function)
{
    run(s, l2_switch_caught, function, 1);
    l2_fault_seen = 0;
    EXPECT_DONE(&s->vm);
    CHECK_EQ(l2_fault_seen, VECTOR_UD);
}

static void undefined(void)
{
    struct switching s;

    start(&s);
    check_undefined(&s, 64);
    check_undefined(&s, UINT32_MAX);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_VMFUNC);
    check_undefined(&s, EPTP_SWITCHING);
    check_undefined(&s, 1);
    CHECK_FAULT(vmfunc(EPTP_SWITCHING, 1), VECTOR_UD); /* L1 itself */
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_UD));
    run(&s, l2_switch, EPTP_SWITCHING, 1);
    EXPECT_EXIT(&s.vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(s.vm.exit.intr_info & (INTR_VECTOR | INTR_VALID), VECTOR_UD | INTR_VALID);
}

/* No privilege is asked for. */
static void at_cpl3(void)
{
    uint64_t *tables;
    struct switching s;

    start(&s);
    tables = paging_alloc_identity();
    vmx_set(GUEST_CR3, (uint64_t)tables);
    run(&s, l2_switch_as_user, 0, 0);
    l2_fault_seen = 0;
    EXPECT_DONE(&s.vm);
    CHECK_EQ(l2_fault_seen, NO_FAULT);
    CHECK_EQ(l2_value, 0x2000);
}

/* L1 goes back to the first EPTP by the field; what L2 did is seen under the EPTP that it did it with. */
static void field_after_switch(void)
{
    struct switching s;

    start(&s);
    for (unsigned i = 0; i < 3; i++) {
        run(&s, l2_switch_and_write, EPTP_SWITCHING, 1);
        EXPECT_DONE(&s.vm);
        CHECK_EQ(s.set[1].page[0], 0x2222);
        s.set[1].page[0] = 0;
        vmx_set(EPT_POINTER, s.list[0]);
        run(&s, l2_read_switch_read, EPTP_SWITCHING, 2);
        EXPECT_DONE(&s.vm);
        CHECK_EQ(l2_value, 0x1000);
        CHECK_EQ(l2_second, 0x3000);
    }
}

static void control_checks(void)
{
    struct switching s;

    start(&s);
    run(&s, l2_switch, EPTP_SWITCHING, 1);
    vmx_set(VM_FUNCTION_CONTROLS, BIT(0) | BIT(1));
    CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(VM_FUNCTION_CONTROLS, BIT(0));
    vmx_set(EPTP_LIST_ADDRESS, (uint64_t)s.list + 8);
    CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(EPTP_LIST_ADDRESS, (uint64_t)s.list | 1ull << cpu_physical_bits());
    CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(EPTP_LIST_ADDRESS, (uint64_t)s.list);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
    vm_control_set(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    EXPECT_DONE(&s.vm);
}

static const char *without_vmfunc(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VMFUNC) ? NULL : "no VMFUNC";
}

const struct scenario vmfunc_scenarios[] = {
    {"vmfunc-switches", switches, without_vmfunc},
    {"vmfunc-stores", stores, without_vmfunc},
    {"vmfunc-stores-with-vpid", stores_with_vpid, without_vmfunc},
    {"vmfunc-rights-differ", rights_differ, without_vmfunc},
    {"vmfunc-flags-differ", flags_differ, without_vmfunc},
    {"vmfunc-refused", refused, without_vmfunc},
    {"vmfunc-bad-pointers", bad_pointers, without_vmfunc},
    {"vmfunc-upper-halves-ignored", upper_halves_ignored, without_vmfunc},
    {"vmfunc-undefined", undefined, without_vmfunc},
    {"vmfunc-at-cpl3", at_cpl3, without_vmfunc},
    {"vmfunc-field-after-switch", field_after_switch, without_vmfunc},
    {"vmfunc-control-checks", control_checks, without_vmfunc},
    {0},
};
