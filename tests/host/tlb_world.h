/* The world of test_never_forgets.c: L1 with few pages, so that all meet often. L1 has tables of EPT12 at each level,
 * below two roots, shared between them; pages of data that serve L2 as page tables, and two of them L1 as MSR bitmaps
 * as well. What may be stored into an entry comes from a menu of 16, whose number the entry carries in bits that the
 * CPU ignores. world_make() before each run. tests/host/ only; one file of a program includes it. */
#ifndef TESTS_HOST_TLB_WORLD_H
#define TESTS_HOST_TLB_WORLD_H

#include "tests/host/tlb_machine.h"

#include "boot/bootinfo.h"
#include "kernel/cmdline.h"
#include "mm/page.h"
#include "nested/enter.h"
#include "nested/exit.h"
#include "nested/insn.h"
#include "nested/l2_ept.h"
#include "nested/prepare.h"
#include "nested/rules/caps12.h"
#include "nested/slot.h"
#include "tests/host/cpu_models.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/kick.h"
#include "vmx/msr_bitmap.h"
#include "vmx/operand.h"
#include "vmx/vmcs_exists.h"
#include "vmx/vmcs_setup.h"

#define L1_RAM (8 * MIB)
#define CARVEOUT L1_RAM
#define CARVEOUT_SIZE (4 * MIB)
#define MEMORY (CARVEOUT + CARVEOUT_SIZE)
#define TABLE_BASE (4 * MIB)
#define VMCS12_BASE (5 * MIB)
#define DATA_BASE (2 * MIB)
#define APIC_PAGE (DATA_BASE + 2 * PAGE_SIZE) /* of L2s without EPT; L1 and others have data there */
#define OWN_BASE (6 * MIB)                    /* L1's page table, and the pages that its entries may lead to */
#define EPT02_PAGES 24u                       /* of each processor: too few for all that L2 may touch */

#define PLACES 12u /* pages of L2's guest-physical addresses */
#define LINEARS 3u /* pages of its linear addresses */
#define SPACES 2u  /* its CR3s, each with a PCID of its own */
#define DATA 6u    /* pages of L1 that EPT12 may lead to */
#define BITMAPS 2u /* of these, the last ones */
#define MSRS 4u
#define VMCS12S 3u
#define VPIDS 5u
#define OWNS 4u /* pages that an entry of L1's page table may lead to */
#define MENU 16u
#define TABLES 9u
#define SLOTS 3u /* entries of a table that are used */

static const unsigned table_level[TABLES] = {4, 4, 3, 3, 2, 2, 1, 1, 1};
static const uint16_t vpid12[VPIDS] = {0, 1, 65, 129, 2}; /* 1, 65 and 129 share one of the CPU's: nested/vpid12 */
static const uint32_t msr_number[MSRS] = {0x110, 0x151, 0x1a2, 0x1f3};

static uint8_t *memory;
static struct vm vm;
static struct ept02_shared shared;
static struct merged_cache merged_cache;
static uint64_t table_menu[TABLES][MENU], pte_menu[MENU];
static int vmcs12_owner[VMCS12S]; /* the processor where it is active, or -1 */
static bool vmcs12_launched[VMCS12S];

QUIET static gpa_t table_page(unsigned table)
{
    return TABLE_BASE + table * PAGE_SIZE;
}

QUIET static uint64_t *table_entry(unsigned table, unsigned slot)
{
    return (uint64_t *)(memory + table_page(table)) + slot;
}

QUIET static uint64_t *data_word(unsigned data, unsigned word)
{
    return (uint64_t *)(memory + DATA_BASE + data * PAGE_SIZE) + word;
}

/* An entry of L1's own page table. */
QUIET static uint64_t *own_entry(unsigned linear)
{
    return (uint64_t *)(memory + OWN_BASE) + linear;
}

QUIET static gpa_t own_page(unsigned i)
{
    return OWN_BASE + (1 + i) * PAGE_SIZE;
}

QUIET static gpa_t vmcs12_page(unsigned number)
{
    return VMCS12_BASE + number * PAGE_SIZE;
}

QUIET static uint64_t eptp_of(unsigned root, bool flags)
{
    return table_page(root) | PUT(MEMTYPE_WB, EPTP_MEMORY_TYPE) | PUT(3, EPTP_WALK_LENGTH) | (flags ? EPTP_AD : 0);
}

QUIET static unsigned current_vmcs12(const struct processor *p)
{
    return (unsigned)((p->vcpu.nested->current->vmptr - VMCS12_BASE) / PAGE_SIZE);
}

/* Few pages in two tables of each of three levels. */
QUIET static gpa_t place(unsigned i)
{
    return (i % 3) * PAGE_SIZE + (i / 3 % 2) * LARGE_2M + (i / 6) * GIB;
}

/* Where L2's page table is, guest-physical: one page of entries. Those with another VPID are other guests, and use the
 * PCIDs for other tables. Where L2 has no EPT these are pages 0 and 1 of the data. */
QUIET static gpa_t space_table(unsigned vpid, unsigned space)
{
    return place(3 + (vpid + space) % SPACES);
}

QUIET static unsigned menu_of(uint64_t entry)
{
    return (unsigned)(entry >> 52 & 15);
}

/* Tables of the level below that an entry may lead to. */
QUIET static unsigned some_table(unsigned level)
{
    unsigned first = 0, count = 0;

    for (unsigned i = 0; i < TABLES; i++) {
        if (table_level[i] != level)
            continue;
        first = count++ ? first : i;
    }
    return first + (unsigned)(host_random() % count);
}

QUIET static uint64_t some_entry(unsigned level)
{
    static const uint64_t rights[] = {EPT_RWX, EPT_RWX, EPT_RWX, EPT_RWX, EPT_RWX, EPT_R | EPT_W, EPT_R, EPT_R | EPT_X};
    uint64_t right = rights[host_random() % ARRAY_SIZE(rights)], type = PUT(MEMTYPE_WB, EPT_MEMTYPE);

    if (level == 1)
        return (host_random() % 16 == 0 ? CARVEOUT : DATA_BASE + host_random() % DATA * PAGE_SIZE) | right | type;
    if (level == 2 && host_random() % 4 == 0)
        return DATA_BASE | EPT_LARGE | right | type;
    if (level == 3 && host_random() % 10 == 0)
        return EPT_LARGE | right | type;
    return table_page(some_table(level - 1)) | right;
}

QUIET static void make_menus(void)
{
    for (unsigned table = 0; table < TABLES; table++)
        for (unsigned i = 0; i < MENU; i++) {
            uint64_t entry = i == 0 ? 0 : some_entry(table_level[table]);
            if (i == 1)
                entry |= EPT_W, entry &= ~EPT_R; /* a misconfiguration */
            table_menu[table][i] = entry | (uint64_t)i << 52;
        }
    for (unsigned i = 0; i < MENU; i++)
        pte_menu[i] = (i < 2 ? 0 : place((unsigned)(host_random() % PLACES)) | 1 | (host_random() % 4 ? 2 : 0)) |
                      (uint64_t)i << 52;
}

/* Mostly present. */
QUIET static unsigned some_choice(void)
{
    unsigned choice = (unsigned)(host_random() % MENU);
    return choice < 2 && host_random() % 4 ? 2 + choice : choice;
}

/* --- What the machine needs of Nestor that is not linked --- */

exit_handler_fn exit_handlers[EXIT_REASON_COUNT];
static bool l0_did_msr[PROCESSORS];
static struct invalidate_descriptor operand[PROCESSORS];
static gpa_t operand_pointer[PROCESSORS];

QUIET void machine_on_stop(void (*stop)(void))
{
    (void)stop;
}

QUIET NORETURN void dump_and_end(const struct vcpu *vcpu, const char *what)
{
    (void)vcpu;
    tlb_fail("%s", what);
}

QUIET void vmx_unblock_nmi(void)
{
}

QUIET void startup_attend(struct vcpu *vcpu)
{
    vcpu->attention = false;
}

QUIET void event_prepare(struct vcpu *vcpu)
{
    vcpu->cpu->nmi_seen = false;
    vcpu->inject_info = 0;
}

QUIET void event_requeue(struct vcpu *vcpu)
{
    (void)vcpu;
}

QUIET void event_recall(struct vcpu *vcpu)
{
    (void)vcpu;
}

QUIET void event_restore_nmi_blocking(const struct vcpu *vcpu)
{
    (void)vcpu;
}

QUIET void host_state_load(struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t efer, uint64_t pat, uint64_t cr0)
{
    (void)efer, (void)pat, (void)cr0;
    slot->host = (struct host_image){.ready = true, .host64 = true};
    slot->plan.image[STRAIGHT_GUEST_EFER] = EFER_LMA; /* L1's, which VMRESUME is asked for: straight_may_enter() */
    straight_of(vcpu->cpu)->sysenter_of = &slot->plan;
    vmcs_write(GUEST_INTERRUPTIBILITY, 0);
}

QUIET struct check_result check_entry_scoped(const struct vmcs12 *v, const struct check_context *context,
                                             check_scope_t scope)
{
    (void)v, (void)context, (void)scope;
    return (struct check_result){.kind = CHECK_OK};
}

QUIET check_scope_t check_scope_of(unsigned row)
{
    (void)row;
    return 0;
}

QUIET check_scope_t check_scope_lazy(void)
{
    return 0;
}

QUIET check_scope_t check_scope_of_memory(const struct vmcs12 *v)
{
    (void)v;
    return 0;
}

QUIET bool check_eptp(const struct vmx_caps *caps, uint64_t eptp)
{
    (void)caps, (void)eptp;
    return true;
}

QUIET const void *operand_plain(struct vcpu *vcpu, uint64_t len)
{
    unsigned number = vcpu->cpu->id;
    return len == sizeof operand[0] ? (const void *)&operand[number] : &operand_pointer[number];
}

QUIET uint64_t operand_register_read(struct vcpu *vcpu, unsigned number, bool long_mode)
{
    (void)long_mode;
    return vcpu->regs[number];
}

QUIET bool vmcs_field_exists(const struct vmx_caps *caps, unsigned row)
{
    (void)caps, (void)row;
    return true;
}

QUIET hpa_t vmcs_alloc(const struct vmx_caps *caps)
{
    uint8_t *region = page_alloc();

    (void)caps;
    if (!region)
        return 0;
    memset(vmcs_word[va_to_hpa(region) / PAGE_SIZE], 0, sizeof vmcs_word[0]);
    return va_to_hpa(region);
}

QUIET void vmcs_free(hpa_t vmcs)
{
    page_free(hpa_to_va(vmcs));
}

QUIET void vmcs_load(hpa_t vmcs)
{
    (void)tlb_vmptrld(vmcs);
}

QUIET void vmcs_expect_current(hpa_t vmcs, const char *function)
{
    if (running->vmcs != vmcs)
        panic("%s() wants another VMCS than the current one", function);
}

QUIET void vmcs_expect_guest(const struct vcpu *vcpu, const char *function)
{
    if ((running->vmcs == vcpu->vmcs01) == vcpu->in_l2)
        panic("%s() wants the other level's VMCS", function);
}

QUIET void vmcs_write_common(const struct vcpu *vcpu)
{
    vmcs_write(EPT_POINTER, ept_pointer(&vcpu->vm->ept01));
    vmcs_write(VPID, 1);
}

QUIET exit_handler_fn exit_handler_of(uint32_t reason)
{
    return exit_handlers[reason];
}

QUIET static void l0_msr(struct vcpu *vcpu)
{
    l0_did_msr[vcpu->cpu->id] = true;
    vcpu_skip_instruction(vcpu);
}

QUIET static void l0_vmcall(struct vcpu *vcpu)
{
    vcpu_skip_instruction(vcpu);
}

QUIET static void make_vm(void)
{
    memset(&vm, 0, sizeof vm);
    assert_int_equal(memmap_set(&vm.map, 0, L1_RAM, REGION_RAM), 0);
    assert_int_equal(memmap_set(&vm.map, CARVEOUT, CARVEOUT_SIZE, REGION_RESERVED), 0);
    vm.caps = model_skylake_x;
    vm.caps.vpid_flush = INVVPID_SINGLE;
    vm.caps12 = vm.caps;
    vm.ept01.features = (struct ept_features){true, true, 40};
    vm.ept01.map = &vm.map;
    vm.ept01.carveout_base = CARVEOUT;
    vm.ept01.carveout_size = CARVEOUT_SIZE;
    vm.ept01.mtrr.default_type = MTRR_DEF_TYPE_E | MEMTYPE_WB;
    vm.ept01.mtrr.address_mask = BITS(39, 12);
    assert_int_equal(ept_build(&vm.ept01), 0);
    vm.watch = (struct ept_watch){.ept01 = &vm.ept01, .lock = SPINLOCK(LOCK_WATCH)};
    gmem_init(&vm.gmem, &vm.map, &vm.watch);
    vm.msr_bitmap = page_alloc();
    vm.io_bitmap_a = page_alloc();
    vm.io_bitmap_b = page_alloc();
    vm.msr_policy_generation = 1;
    assert_int_equal(ept02_shared_init(&shared, &vm.gmem, &vm.ept01, &vm.watch), 0);
    if (options.fault == FAULT_SKIP_EPT02) /* as start/ has it */
        vm.watch.protect_ept02 = NULL;
    shared.trace = options.ept12_tracing;
    memset(&merged_cache, 0, sizeof merged_cache);
    assert_int_equal(nested_init_shared(&merged_cache, &vm), 0);
}

QUIET static void make_processor(unsigned number)
{
    struct processor *p = &processor[number];

    memset(p, 0, offsetof(struct processor, context));
    p->number = number;
    p->cpu.self = &p->cpu;
    p->cpu.id = p->cpu.apic_id = number;
    p->cpu.vcpu = &p->vcpu;
    p->vcpu.vm = &vm;
    p->vcpu.cpu = &p->cpu;
    p->vcpu.vmcs01 = vmcs_alloc(&vm.caps);
    vm.vcpu[vm.vcpus++] = &p->vcpu;
    running = p;
    (void)tlb_invept(INVEPT_ALL, (struct invalidate_descriptor){0}); /* the ledger outlives worlds */
    (void)tlb_invvpid(INVVPID_ALL, (struct invalidate_descriptor){0});
    vmcs_load(p->vcpu.vmcs01);
    vmcs_write_common(&p->vcpu);
    vmcs_write(PROC2_CONTROLS, PROC2_EPT | PROC2_VPID);
    vmcs_write(GUEST_CS_AR_BYTES, ACCESS_CODE64);
    vmcs_write(GUEST_EFER, EFER_LMA);
    assert_int_equal(nested_init(&p->vcpu, &shared, &merged_cache), 0);
    p->vcpu.nested->ept02s.page_limit = EPT02_PAGES;
    p->vcpu.nested->vmxon = true;
    p->vcpu.nested->vmxon_pointer = VMCS12_BASE + VMCS12S * PAGE_SIZE;
    running = NULL;
}

QUIET static void make_handlers(void)
{
    exit_handlers[EXIT_EPT_VIOLATION] = exit_ept_violation;
    exit_handlers[EXIT_RDMSR] = l0_msr;
    exit_handlers[EXIT_VMCALL] = l0_vmcall;
}

QUIET static void world_make(void)
{
    memory = host_memory(MEMORY);
    page_init(memory + CARVEOUT, memory + MEMORY);
    make_menus();
    make_vm();
    for (unsigned i = 0; i < PROCESSORS; i++)
        make_processor(i);
    make_handlers();
    kick_init();
    kick_watch(&vm);
    for (unsigned table = 0; table < TABLES; table++)
        for (unsigned slot = 0; slot < SLOTS; slot++)
            *table_entry(table, slot) = table_menu[table][some_choice()];
    for (unsigned data = 0; data < DATA; data++)
        for (unsigned i = 0; i < LINEARS; i++)
            *data_word(data, i) = pte_menu[some_choice()];
    for (unsigned i = 0; i < LINEARS; i++)
        *own_entry(i) = own_page(i) | 1;
    for (unsigned i = 0; i < VMCS12S; i++) {
        *(uint32_t *)(memory + vmcs12_page(i)) = (uint32_t)GET(vm.caps12.basic, VMX_BASIC_REVISION);
        vmcs12_owner[i] = -1;
        vmcs12_launched[i] = false;
    }
}

#endif
