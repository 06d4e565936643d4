/* VMCS shadowing: L2 reads and writes a VMCS that L1 gave it, or exits where L1's bitmaps say so. */
#include "guests/scenarios/shadow.h"

#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

#define INDICATOR ((uint32_t)VMCS_SHADOW_INDICATOR)
#define LINK_FAILURE 4 /* exit qualification. SDM 3C 27.8 "VM-Entry Failures During or After Loading Guest State" */
#define NO_FIELD 0x6c7e
#define BEYOND_BITMAPS (BIT(15) | GUEST_RIP)
#define VMFAILED_INVALID RFLAGS_CF
#define VMFAILED_VALID RFLAGS_ZF

volatile uint64_t l2_field, l2_value, l2_flags;
static volatile uint8_t l2_fault_seen;

/* Each reports the flags of the instruction. */
void l2_vmread(void)
{
    uint64_t value = l2_value, flags;

    asm volatile("vmread %2, %0; pushfq; pop %1" : "+r"(value), "=r"(flags) : "r"(l2_field) : "cc", "memory");
    l2_value = value;
    l2_flags = flags & RFLAGS_ARITHMETIC;
}

void l2_vmwrite(void)
{
    uint64_t flags;

    asm volatile("vmwrite %1, %2; pushfq; pop %0" : "=r"(flags) : "r"(l2_value), "r"(l2_field) : "cc", "memory");
    l2_flags = flags & RFLAGS_ARITHMETIC;
}

/* At CPL 3, where nothing of L2's own data may be touched. */
static void user_vmread(void)
{
    asm volatile("vmread %%rax, %%rcx" : : "a"((uint64_t)GUEST_RIP) : "rcx", "cc");
}

static void user_vmwrite(void)
{
    asm volatile("vmwrite %%rcx, %%rax" : : "a"((uint64_t)GUEST_RIP), "c"(0x123ull) : "cc");
}

static void l2_vmread_as_user(void)
{
    l2_fault_seen = fault_of_user(user_vmread);
}

static void l2_vmwrite_as_user(void)
{
    l2_fault_seen = fault_of_user(user_vmwrite);
}

/* Encodings whose instructions and RAX, RDX as operands are known to the byte: for the exit's information. */
static void l2_vmread_known(void)
{
    asm volatile("vmread %%rax, %%rdx" : : "a"((uint64_t)GUEST_RIP) : "rdx", "cc");
}

static void l2_vmwrite_known(void)
{
    asm volatile("vmwrite 0x10(%%rdx, %%rcx, 4), %%rax"
                 :
                 : "a"((uint64_t)GUEST_RIP), "d"(&l2_value), "c"(0ull)
                 : "cc", "memory");
}

static uint64_t alloc_shadow(void)
{
    uint64_t region = vmx_region_alloc();

    *(uint32_t *)region |= INDICATOR;
    REQUIRE_EQ(vmx_vmclear(&region), 0);
    return region;
}

void shadow_start(struct shadowed *s)
{
    vm_start(&s->vm, l2_vmread, 0);
    s->shadow = alloc_shadow();
    s->read_bitmap = page_alloc();
    s->write_bitmap = page_alloc();
    vmx_set(VMREAD_BITMAP, (uint64_t)s->read_bitmap);
    vmx_set(VMWRITE_BITMAP, (uint64_t)s->write_bitmap);
    vmx_set(VMCS_LINK_POINTER, s->shadow);
    vm_secondary_set((uint32_t)PROC2_VMCS_SHADOWING);
}

void shadow_run(struct shadowed *s, void (*code)(void), uint64_t field, uint64_t value)
{
    vm_set_code(&s->vm, code);
    l2_field = field;
    l2_value = value;
    l2_flags = UINT64_MAX;
}

void shadow_done(struct shadowed *s, void (*code)(void), uint64_t field, uint64_t value)
{
    shadow_run(s, code, field, value);
    EXPECT_DONE(&s->vm);
}

static void bitmap_set(uint8_t *bitmap, uint64_t field)
{
    bitmap[field / 8] = (uint8_t)(bitmap[field / 8] | 1 << field % 8);
}

static const uint64_t fields[] = {GUEST_ES_SELECTOR, VPID,           MSR_BITMAP,         GUEST_PAT,
                                  PIN_CONTROLS,      GUEST_CS_LIMIT, CR0_READ_SHADOW,    GUEST_RIP,
                                  HOST_RIP,          EXIT_REASON,    EXIT_QUALIFICATION, GUEST_PHYSICAL_ADDRESS};

static uint64_t width_of(uint64_t field)
{
    static const uint64_t masks[] = {UINT16_MAX, UINT64_MAX, UINT32_MAX, UINT64_MAX};

    return masks[field >> 13 & 3];
}

/* L2 writes and reads back; L1 sees it in the shadow VMCS, and what L1 writes there L2 sees. */
static void fields_of_all_kinds(void)
{
    struct shadowed s;

    shadow_start(&s);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        uint64_t value = 0x1122334455667788 + i;
        shadow_done(&s, l2_vmwrite, fields[i], value);
        CHECK_EQ(l2_flags, 0);
        shadow_done(&s, l2_vmread, fields[i], 0);
        CHECK_EQ(l2_flags, 0);
        CHECK_EQ(l2_value, value & width_of(fields[i]));
    }
    REQUIRE_EQ(vmx_vmclear(&s.shadow), 0);
    REQUIRE_EQ(vmx_vmptrld(&s.shadow), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        CHECK_EQ(vmx_get(fields[i]), (0x1122334455667788 + i) & width_of(fields[i]));
        vmx_set(fields[i], i + 7);
    }
    REQUIRE_EQ(vmx_vmclear(&s.shadow), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        shadow_done(&s, l2_vmread, fields[i], 0);
        CHECK_EQ(l2_value, i + 7);
    }
}

static void high_halves(void)
{
    struct shadowed s;

    shadow_start(&s);
    shadow_done(&s, l2_vmwrite, GUEST_PAT, 0x1111111122222222);
    shadow_done(&s, l2_vmwrite, GUEST_PAT + 1, 0x4444444433333333);
    shadow_done(&s, l2_vmread, GUEST_PAT, 0);
    CHECK_EQ(l2_value, 0x3333333322222222);
    shadow_done(&s, l2_vmread, GUEST_PAT + 1, 0);
    CHECK_EQ(l2_value, 0x33333333);
}

/* L1's own VMCS is another one. */
static void not_l1s_vmcs(void)
{
    uint64_t rip;
    struct shadowed s;

    shadow_start(&s);
    shadow_done(&s, l2_vmwrite, GUEST_RSP, 0x5555);
    shadow_done(&s, l2_vmwrite, HOST_RIP, 0x6666);
    rip = vmx_get(HOST_RIP);
    CHECK_EQ(rip == 0x6666, false);
    CHECK_EQ(vmx_get(GUEST_RSP) == 0x5555, false);
    shadow_done(&s, l2_vmread, HOST_RIP, 0);
    CHECK_EQ(l2_value, 0x6666);
}

static void bitmaps(void)
{
    struct shadowed s;

    shadow_start(&s);
    bitmap_set(s.read_bitmap, GUEST_RIP);
    shadow_done(&s, l2_vmwrite, GUEST_RIP, 0x77);
    shadow_run(&s, l2_vmread, GUEST_RIP, 0);
    EXPECT_EXIT_SKIP(&s.vm, EXIT_VMREAD);
    EXPECT_DONE(&s.vm);
    shadow_done(&s, l2_vmread, GUEST_RSP, 0);
    CHECK_EQ(l2_flags, 0);
    bitmap_set(s.write_bitmap, GUEST_RSP);
    shadow_run(&s, l2_vmwrite, GUEST_RSP, 0);
    EXPECT_EXIT_SKIP(&s.vm, EXIT_VMWRITE);
    EXPECT_DONE(&s.vm);
    shadow_done(&s, l2_vmwrite, GUEST_RIP, 0x78);
    s.read_bitmap[GUEST_RIP / 8] = 0;
    shadow_done(&s, l2_vmread, GUEST_RIP, 0);
    CHECK_EQ(l2_value, 0x78);
    /* An encoding that has no bit exits, whatever it is. */
    shadow_run(&s, l2_vmread, BEYOND_BITMAPS, 0);
    EXPECT_EXIT_SKIP(&s.vm, EXIT_VMREAD);
    EXPECT_DONE(&s.vm);
    shadow_run(&s, l2_vmwrite, BIT(32) | GUEST_RIP, 0);
    EXPECT_EXIT_SKIP(&s.vm, EXIT_VMWRITE);
    EXPECT_DONE(&s.vm);
}

static void exit_information(void)
{
    struct shadowed s;

    shadow_start(&s);
    bitmap_set(s.read_bitmap, GUEST_RIP);
    bitmap_set(s.write_bitmap, GUEST_RIP);
    shadow_run(&s, l2_vmread_known, 0, 0);
    EXPECT_EXIT(&s.vm, EXIT_VMREAD);
    CHECK_EQ(s.vm.exit.length, 3);
    CHECK_EQ(GET(s.vm.exit.info, INSN_INFO_REG1), RDX);
    CHECK_EQ(GET(s.vm.exit.info, INSN_INFO_REG2), RAX);
    CHECK_EQ(s.vm.exit.info & INSN_INFO_IS_REGISTER, INSN_INFO_IS_REGISTER);
    vm_skip(&s.vm);
    EXPECT_DONE(&s.vm);
    shadow_run(&s, l2_vmwrite_known, 0, 0);
    EXPECT_EXIT(&s.vm, EXIT_VMWRITE);
    CHECK_EQ(s.vm.exit.qualification, 0x10);
    CHECK_EQ(s.vm.exit.info & INSN_INFO_IS_REGISTER, 0);
    CHECK_EQ(GET(s.vm.exit.info, INSN_INFO_REG2), RAX);
    CHECK_EQ(GET(s.vm.exit.info, INSN_INFO_BASE), RDX);
    CHECK_EQ(GET(s.vm.exit.info, INSN_INFO_INDEX), RCX);
    CHECK_EQ(GET(s.vm.exit.info, INSN_INFO_SCALING), 2);
    vm_skip(&s.vm);
    EXPECT_DONE(&s.vm);
}

static void without_shadow_vmcs(void)
{
    struct shadowed s;

    shadow_start(&s);
    vmx_set(VMCS_LINK_POINTER, UINT64_MAX);
    shadow_done(&s, l2_vmread, GUEST_RIP, 0x99);
    CHECK_EQ(l2_flags, VMFAILED_INVALID);
    CHECK_EQ(l2_value, 0x99);
    shadow_done(&s, l2_vmwrite, GUEST_RIP, 0x99);
    CHECK_EQ(l2_flags, VMFAILED_INVALID);
    shadow_done(&s, l2_vmread, NO_FIELD, 0x99);
    CHECK_EQ(l2_flags, VMFAILED_INVALID);
}

/* The error's number is in the VMCS that is current, which is L1's. */
static void no_such_field(void)
{
    struct shadowed s;

    shadow_start(&s);
    shadow_done(&s, l2_vmwrite, VM_INSTRUCTION_ERROR, 0x33);
    shadow_done(&s, l2_vmread, NO_FIELD, 0x99);
    CHECK_EQ(l2_flags, VMFAILED_VALID);
    CHECK_EQ(l2_value, 0x99);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), VMXERR_UNSUPPORTED_FIELD);
    shadow_done(&s, l2_vmwrite, NO_FIELD, 0x99);
    CHECK_EQ(l2_flags, VMFAILED_VALID);
    shadow_done(&s, l2_vmread, VM_INSTRUCTION_ERROR, 0);
    CHECK_EQ(l2_value, 0x33);
    shadow_done(&s, l2_vmread, GUEST_RIP + 1, 0x99); /* only 64-bit fields have halves */
    CHECK_EQ(l2_flags, VMFAILED_VALID);
}

static void at_cpl3(void)
{
    struct shadowed s;

    shadow_start(&s);
    vmx_set(GUEST_CR3, (uint64_t)paging_alloc_identity());
    shadow_done(&s, l2_vmread_as_user, 0, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_GP);
    shadow_done(&s, l2_vmwrite_as_user, 0, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_GP);
}

/* L1 changes the shadow VMCS and the link between two stays in L2. */
static void two_shadows(void)
{
    uint64_t other;
    struct shadowed s;

    shadow_start(&s);
    other = alloc_shadow();
    for (uint64_t i = 0; i < 3; i++) {
        vm_load(&s.vm);
        vmx_set(VMCS_LINK_POINTER, s.shadow);
        shadow_done(&s, l2_vmwrite, GUEST_RSP, 0x100 + i);
        vmx_set(VMCS_LINK_POINTER, other);
        shadow_done(&s, l2_vmwrite, GUEST_RSP, 0x200 + i);
        REQUIRE_EQ(vmx_vmptrld(&s.shadow), 0);
        CHECK_EQ(vmx_get(GUEST_RSP), 0x100 + i);
        REQUIRE_EQ(vmx_vmptrld(&other), 0);
        CHECK_EQ(vmx_get(GUEST_RSP), 0x200 + i);
    }
}

static void loads_and_clears(void)
{
    uint64_t region;
    struct shadowed s;

    shadow_start(&s);
    CHECK_EQ(vmx_vmptrld(&s.shadow), 0);
    CHECK_EQ(vmx_current(), s.shadow);
    vmx_set(GUEST_RSP, 0x4242);
    CHECK_EQ(vmx_vmclear(&s.shadow), 0);
    CHECK_EQ(vmx_current(), UINT64_MAX);
    CHECK_EQ(*(uint32_t *)s.shadow, vmx_revision() | INDICATOR);
    CHECK_EQ(vmx_vmptrld(&s.shadow), 0);
    CHECK_EQ(vmx_get(GUEST_RSP), 0x4242);
    vm_load(&s.vm);
    region = vmx_region_alloc();
    *(uint32_t *)region = (vmx_revision() ^ 1) | INDICATOR;
    CHECK_EQ(vmx_vmptrld(&region), VMXERR_VMPTRLD_REVISION);
}

/* Bochs goes on to the checks of the controls. */
static void not_for_entries(void)
{
    struct shadowed s;

    shadow_start(&s);
    REQUIRE_EQ(vmx_vmptrld(&s.shadow), 0);
    s.vm.vmcs = s.shadow;
    CHECK_EQ(vm_enter(&s.vm), VMFAIL_INVALID);
    s.vm.launched = true;
    CHECK_EQ(vm_enter(&s.vm), VMFAIL_INVALID);
}

static void check_link_refused(struct shadowed *s, uint64_t link)
{
    vm_load(&s->vm);
    vmx_set(VMCS_LINK_POINTER, link);
    CHECK_EQ(vm_enter(&s->vm), 0);
    CHECK_EQ(s->vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
    CHECK_EQ(s->vm.exit.qualification, LINK_FAILURE);
}

/* SDM 3C 27.3.1.5 "Checks on Guest Non-Register State" */
static void link_checks(void)
{
    uint64_t ordinary;
    struct shadowed s;

    shadow_start(&s);
    shadow_run(&s, l2_vmread, GUEST_RSP, 0);
    check_link_refused(&s, s.shadow + 8);
    check_link_refused(&s, s.shadow | 1ull << cpu_physical_bits());
    check_link_refused(&s, s.vm.vmcs);
    ordinary = vmx_region_alloc();
    check_link_refused(&s, ordinary);
    *(uint32_t *)ordinary = (vmx_revision() ^ 1) | INDICATOR;
    check_link_refused(&s, ordinary);
    vmx_set(VMCS_LINK_POINTER, s.shadow);
    EXPECT_DONE(&s.vm);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_VMCS_SHADOWING);
    shadow_run(&s, l2_vmread, GUEST_RSP, 0);
    check_link_refused(&s, s.shadow);
    *(uint32_t *)ordinary = vmx_revision();
    vmx_set(VMCS_LINK_POINTER, ordinary);
    EXPECT_EXIT(&s.vm, EXIT_VMREAD);
}

static void control_checks(void)
{
    static const enum vmcs_field pointers[] = {VMREAD_BITMAP, VMWRITE_BITMAP};
    struct shadowed s;

    shadow_start(&s);
    shadow_run(&s, l2_vmread, GUEST_RSP, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(pointers); i++) {
        uint64_t good = vmx_get(pointers[i]);
        vmx_set(pointers[i], good + 8);
        CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
        vmx_set(pointers[i], good | 1ull << cpu_physical_bits());
        CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
        vmx_set(pointers[i], good);
    }
    EXPECT_DONE(&s.vm);
}

const char *without_shadowing(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VMCS_SHADOWING) ? NULL : "no VMCS shadowing";
}

static const char *without_refused_entry(void)
{
    return without_shadowing() ? without_shadowing() : without_counters();
}

const struct scenario shadow_scenarios[] = {
    {"shadow-fields-of-all-kinds", fields_of_all_kinds, without_shadowing},
    {"shadow-high-halves", high_halves, without_shadowing},
    {"shadow-not-l1s-vmcs", not_l1s_vmcs, without_shadowing},
    {"shadow-bitmaps", bitmaps, without_shadowing},
    {"shadow-exit-information", exit_information, without_shadowing},
    {"shadow-without-shadow-vmcs", without_shadow_vmcs, without_shadowing},
    {"shadow-no-such-field", no_such_field, without_shadowing},
    {"shadow-at-cpl3", at_cpl3, without_shadowing},
    {"shadow-two-shadows", two_shadows, without_shadowing},
    {"shadow-loads-and-clears", loads_and_clears, without_shadowing},
    {"shadow-not-for-entries", not_for_entries, without_refused_entry},
    {"shadow-link-checks", link_checks, without_shadowing},
    {"shadow-control-checks", control_checks, without_shadowing},
    {0},
};
