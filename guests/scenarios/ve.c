/* Virtualization exceptions: EPT violations that L2 itself is told of, and those that stay L1's. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB
#define SUPPRESS BIT(63)
#define BUSY UINT32_MAX
#define PTE_ALL (PTE_P | PTE_W | PTE_U)
#define REAL_BASE 0x8000u
#define REAL_AR 0x93
#define EPTP_SWITCHING 0
#define PORT_COM2_ID 0x2fa
#define EPTP_INDEX_OF_LIST 3

/* SDM 3C 26.5.7.2 "Virtualization-Exception Information" */
struct area {
    uint32_t reason, busy;
    uint64_t qualification, gla, gpa;
    uint16_t index;
};

struct convertible {
    struct vm vm;
    struct area *area;
    uint64_t *entry, *page; /* at WINDOW */
};

static volatile uint64_t *const l2_window = (volatile uint64_t *)(WINDOW + 24);
static volatile uint64_t l2_value;
static volatile uint8_t l2_fault_seen;
static struct area *l2_area;
static uint64_t *l2_entry, l2_mapping;
static volatile unsigned l2_handled;

static void l2_read(void)
{
    l2_value = *l2_window;
}

static void l2_write(void)
{
    *l2_window = 0x2222;
}

static void l2_read_caught(void)
{
    l2_fault_seen = FAULT_OF(l2_read());
}

static void l2_write_caught(void)
{
    l2_fault_seen = FAULT_OF(l2_write());
}

static void l2_call_caught(void)
{
    l2_fault_seen = FAULT_OF(((void (*)(void))WINDOW)());
}

struct interrupt_frame;

/* L2 has a say in its own memory: it maps the page, ends the exception, and the access is done again. */
static __attribute__((interrupt)) void l2_ve_handler(struct interrupt_frame *frame)
{
    (void)frame;
    l2_handled++;
    *(volatile uint64_t *)l2_entry = l2_mapping;
    *(volatile uint32_t *)&l2_area->busy = 0;
}

/* The window's page is there, but nothing is mapped. */
static void start(struct convertible *c)
{
    vm_start(&c->vm, l2_read, VM_EPT);
    c->page = page_alloc();
    c->page[3] = 0x1111;
    c->entry = paging_entry(c->vm.ept, WINDOW, PAGE_SIZE);
    *c->entry = 0;
    c->area = page_alloc();
    memset(c->area, 0x55, sizeof(*c->area));
    c->area->busy = 0;
    vmx_set(VE_INFO_ADDRESS, (uint64_t)c->area);
    vm_secondary_set((uint32_t)PROC2_EPT_VE);
    l2_area = c->area;
    l2_entry = c->entry;
    l2_mapping = (uint64_t)c->page | EPT_RWX | EPT_WB;
    l2_handled = 0;
    l2_fault_seen = 0;
}

static void check_area(const struct convertible *c, uint64_t qualification, uint64_t address)
{
    CHECK_EQ(c->area->reason, EXIT_EPT_VIOLATION);
    CHECK_EQ(c->area->busy, BUSY);
    CHECK_EQ(c->area->qualification, qualification | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | vmx_ept_advanced());
    CHECK_EQ(c->area->gla, address);
    CHECK_EQ(c->area->gpa, address);
    CHECK_EQ(c->area->index, 0);
}

static void run_caught(struct convertible *c, void (*code)(void))
{
    vm_set_code(&c->vm, code);
    l2_fault_seen = 0;
    EXPECT_DONE(&c->vm);
    CHECK_EQ(l2_fault_seen, VECTOR_VE);
}

static void not_present(void)
{
    struct convertible c;

    start(&c);
    run_caught(&c, l2_read_caught);
    check_area(&c, EPT_QUAL_READ, WINDOW + 24);
    CHECK_EQ(fault.error, 0);
    c.area->busy = 0;
    run_caught(&c, l2_write_caught);
    check_area(&c, EPT_QUAL_WRITE, WINDOW + 24);
    c.area->busy = 0;
    run_caught(&c, l2_call_caught);
    check_area(&c, EPT_QUAL_FETCH, WINDOW);
}

static void not_writable(void)
{
    struct convertible c;

    start(&c);
    *c.entry = (uint64_t)c.page | EPT_R | EPT_X | EPT_WB;
    run_caught(&c, l2_write_caught);
    check_area(&c, EPT_QUAL_WRITE | EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_EXEC, WINDOW + 24);
    CHECK_EQ(c.page[3], 0x1111);
    vm_set_code(&c.vm, l2_read);
    EXPECT_DONE(&c.vm);
    CHECK_EQ(l2_value, 0x1111);
}

/* The handler returns to the instruction, which goes through; no exit in between. */
static void handled_by_l2(void)
{
    struct convertible c;

    start(&c);
    desc_set_gate(VECTOR_VE, (uint64_t)l2_ve_handler, 0);
    vm_set_code(&c.vm, l2_read);
    EXPECT_DONE(&c.vm);
    CHECK_EQ(l2_handled, 1);
    CHECK_EQ(l2_value, 0x1111);
    CHECK_EQ(c.area->busy, 0);
    *c.entry &= ~EPT_W;
    REQUIRE_EQ(vmx_invept(2, &(struct inv_descriptor){0}), 0);
    vm_set_code(&c.vm, l2_write);
    EXPECT_DONE(&c.vm);
    CHECK_EQ(l2_handled, 2);
    CHECK_EQ(c.page[3], 0x2222);
    trap_init();
}

static void check_exits(struct convertible *c, void (*code)(void), uint64_t allowed)
{
    struct area before = *c->area;

    vm_set_code(&c->vm, code);
    EXPECT_EXIT(&c->vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(c->vm.exit.gpa, WINDOW + 24);
    CHECK_EQ(c->vm.exit.qualification & (BITS(5, 3)), allowed);
    CHECK_EQ(memcmp(&before, c->area, sizeof(before)), 0);
}

/* Bit 63 of the entry that ends the walk. */
static void suppressed(void)
{
    struct convertible c;

    start(&c);
    *c.entry = SUPPRESS;
    check_exits(&c, l2_read, 0);
    *c.entry = (uint64_t)c.page | EPT_R | EPT_WB | SUPPRESS;
    check_exits(&c, l2_write, EPT_QUAL_ALLOWED_READ);
    *c.entry &= ~SUPPRESS;
    run_caught(&c, l2_write_caught);
    c.area->busy = 0;
    *paging_entry(c.vm.ept, WINDOW, LARGE_2M) = SUPPRESS;
    check_exits(&c, l2_read, 0);
}

/* An entry above the last has no such bit where it only leads on. */
static void upper_bit_ignored(void)
{
    struct convertible c;

    start(&c);
    *paging_entry(c.vm.ept, WINDOW, LARGE_2M) |= SUPPRESS;
    run_caught(&c, l2_read_caught);
    check_area(&c, EPT_QUAL_READ, WINDOW + 24);
}

static void busy(void)
{
    struct convertible c;

    start(&c);
    c.area->busy = 1;
    check_exits(&c, l2_read, 0);
    c.area->busy = BIT(31);
    check_exits(&c, l2_read, 0);
    c.area->busy = 0;
    run_caught(&c, l2_read_caught);
    check_exits(&c, l2_read, 0);
}

/* The area is filled, then L1's exception bitmap has its say. */
static void intercepted(void)
{
    struct convertible c;

    start(&c);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_VE));
    vm_set_code(&c.vm, l2_read);
    EXPECT_EXIT(&c.vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(c.vm.exit.intr_info, INTR_VALID | PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | VECTOR_VE);
    CHECK_EQ(c.vm.exit.qualification, 0);
    CHECK_EQ(vmx_get(GUEST_RIP), (uint64_t)l2_read);
    check_area(&c, EPT_QUAL_READ, WINDOW + 24);
    c.area->busy = 0;
    *c.entry = l2_mapping;
    EXPECT_DONE(&c.vm);
    CHECK_EQ(l2_value, 0x1111);
}

static void l2_interrupt(void)
{
    asm volatile("int $0x30" : : : "memory");
}

/* L2's interrupt table is in the window: the violation comes while an event is delivered. */
static void during_delivery(void)
{
    struct convertible c;

    start(&c);
    vmx_set(GUEST_IDTR_BASE, WINDOW);
    vm_set_code(&c.vm, l2_interrupt);
    EXPECT_EXIT(&c.vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(c.vm.exit.idt_info & (INTR_VALID | INTR_VECTOR), INTR_VALID | 0x30);
    CHECK_EQ(c.vm.exit.gpa, WINDOW + 0x300);
    CHECK_EQ(c.area->busy, 0);
    CHECK_EQ(c.area->reason, 0x55555555);
}

/* The access is the processor's own, in L2's page tables. */
static void page_walk(void)
{
    uint64_t *tables;
    struct convertible c;

    start(&c);
    tables = paging_alloc_identity();
    *paging_entry(tables, WINDOW, LARGE_2M) = WINDOW | PTE_ALL; /* its page table is the window's page */
    vmx_set(GUEST_CR3, (uint64_t)tables);
    vm_set_code(&c.vm, l2_read_caught);
    EXPECT_DONE(&c.vm);
    CHECK_EQ(l2_fault_seen, VECTOR_VE);
    CHECK_EQ(c.area->gpa, WINDOW);
    CHECK_EQ(c.area->gla, WINDOW + 24);
    CHECK_EQ(c.area->qualification & (EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK), EPT_QUAL_GLA_VALID);
}

static void l2_ins_caught(void)
{
    l2_fault_seen = FAULT_OF(asm volatile("insb" : : "D"(l2_window), "d"(PORT_COM2_ID) : "memory"));
}

/* A hypervisor below L1 may do the access in L2's place: Nestor keeps the port. */
static void string_input(void)
{
    struct convertible c;

    start(&c);
    run_caught(&c, l2_ins_caught);
    check_area(&c, EPT_QUAL_WRITE, WINDOW + 24);
    vm_set_code(&c.vm, l2_ins_caught);
    EXPECT_EXIT(&c.vm, EXIT_EPT_VIOLATION); /* busy */
    CHECK_EQ(c.vm.exit.gla, WINDOW + 24);
    *c.entry = l2_mapping;
    EXPECT_DONE(&c.vm);
    CHECK_EQ(l2_fault_seen, NO_FAULT);
}

/* Misconfigurations are never converted. */
static void misconfiguration(void)
{
    struct convertible c;

    start(&c);
    *c.entry = (uint64_t)c.page | EPT_W;
    vm_set_code(&c.vm, l2_read);
    EXPECT_EXIT(&c.vm, EXIT_EPT_MISCONFIG);
    CHECK_EQ(c.area->busy, 0);
}

extern uint8_t real_start[];

/* With CR0.PE = 0 the handler could not be found: the violation exits. */
static void real_mode(void)
{
    struct convertible c;

    start(&c);
    *paging_entry(c.vm.ept, REAL_BASE, PAGE_SIZE) = 0;
    vm_control_clear(ENTRY_CONTROLS, (uint32_t)ENTRY_GUEST_64);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_EFER);
    vm_control_set(EXIT_CONTROLS, (uint32_t)(EXITC_SAVE_EFER | EXITC_LOAD_EFER));
    vmx_set(GUEST_EFER, 0);
    vmx_set(HOST_EFER, cpu_rdmsr(IA32_EFER));
    vm_secondary_set((uint32_t)PROC2_UNRESTRICTED);
    for (unsigned i = 0; i <= GUEST_GS_SELECTOR - GUEST_ES_SELECTOR; i += 2) {
        vmx_set(GUEST_ES_SELECTOR + i, REAL_BASE >> 4);
        vmx_set(GUEST_ES_BASE + i, REAL_BASE);
        vmx_set(GUEST_ES_LIMIT + i, 0xffff);
        vmx_set(GUEST_ES_AR_BYTES + i, REAL_AR);
    }
    vmx_set(GUEST_CR0, CR0_NE | CR0_ET);
    vmx_set(GUEST_CR4, CR4_VMXE);
    vmx_set(GUEST_RIP, 0x10);
    EXPECT_EXIT(&c.vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(c.vm.exit.gpa, REAL_BASE + 0x10);
    CHECK_EQ(c.area->busy, 0);
}

static void l2_switch_and_read_caught(void)
{
    asm volatile("vmfunc" : : "a"(EPTP_SWITCHING), "c"(EPTP_INDEX_OF_LIST) : "memory");
    l2_fault_seen = FAULT_OF(l2_read());
}

/* EPTP switching leaves the index, in the field and in the area. */
static void eptp_index(void)
{
    uint64_t *list;
    struct convertible c;

    start(&c);
    list = page_alloc();
    list[EPTP_INDEX_OF_LIST] = ept_pointer(ept_alloc_identity(LARGE_2M), false);
    *paging_entry((uint64_t *)(list[EPTP_INDEX_OF_LIST] & PAGING_ADDRESS), WINDOW, LARGE_2M) = 0;
    vmx_set(EPTP_LIST_ADDRESS, (uint64_t)list);
    vmx_set(VM_FUNCTION_CONTROLS, BIT(EPTP_SWITCHING));
    vm_secondary_set((uint32_t)PROC2_VMFUNC);
    vm_set_code(&c.vm, l2_switch_and_read_caught);
    EXPECT_DONE(&c.vm);
    CHECK_EQ(l2_fault_seen, VECTOR_VE);
    CHECK_EQ(c.area->index, EPTP_INDEX_OF_LIST);
    CHECK_EQ(vmx_get(EPTP_INDEX), EPTP_INDEX_OF_LIST);
    CHECK_EQ(c.area->gpa, WINDOW + 24);
}

/* L1 gives the index by the field. Bochs reads it only where a switch has set it. */
static void eptp_index_of_entry(void)
{
    struct convertible c;

    start(&c);
    vmx_set(EPTP_INDEX, 5);
    run_caught(&c, l2_read_caught);
    CHECK_EQ(c.area->index, 5);
}

static void control_off(void)
{
    struct convertible c;

    start(&c);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_EPT_VE);
    check_exits(&c, l2_read, 0);
}

static void control_checks(void)
{
    struct convertible c;

    start(&c);
    *c.entry = l2_mapping;
    vmx_set(VE_INFO_ADDRESS, (uint64_t)c.area + 8);
    CHECK_EQ(vm_enter(&c.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(VE_INFO_ADDRESS, (uint64_t)c.area | 1ull << cpu_physical_bits());
    CHECK_EQ(vm_enter(&c.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(VE_INFO_ADDRESS, (uint64_t)c.area);
    EXPECT_DONE(&c.vm);
}

static const char *without_ve(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_EPT_VE) ? NULL : "no #VE";
}

static const char *without_ve_and_vmfunc(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)(PROC2_EPT_VE | PROC2_VMFUNC)) ? NULL : "no #VE and VMFUNC";
}

static const char *without_index_of_entry(void)
{
    return without_ve() ? without_ve() : without_counters();
}

const struct scenario ve_scenarios[] = {
    {"ve-not-present", not_present, without_ve},
    {"ve-not-writable", not_writable, without_ve},
    {"ve-handled-by-l2", handled_by_l2, without_ve},
    {"ve-suppressed", suppressed, without_ve},
    {"ve-upper-bit-ignored", upper_bit_ignored, without_ve},
    {"ve-busy", busy, without_ve},
    {"ve-intercepted", intercepted, without_ve},
    {"ve-during-delivery", during_delivery, without_ve},
    {"ve-page-walk", page_walk, without_ve},
    {"ve-string-input", string_input, without_ve},
    {"ve-misconfiguration", misconfiguration, without_ve},
    {"ve-real-mode", real_mode, without_ve},
    {"ve-eptp-index", eptp_index, without_ve_and_vmfunc},
    {"ve-eptp-index-of-entry", eptp_index_of_entry, without_index_of_entry},
    {"ve-control-off", control_off, without_ve},
    {"ve-control-checks", control_checks, without_ve},
    {0},
};
