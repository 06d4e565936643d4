/* VMREAD and VMWRITE: which fields there are, their widths, and every form of operand. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define FIELD_HIGH 1 /* access type bit of an encoding: the upper half of a 64-bit field */
#define FIELD_WIDTH BITS(14, 13)
#define FIELD_AREA BITS(11, 10)
#define FIELD_INDEX BITS(9, 1)
#define WIDTH_16 0
#define WIDTH_64 1
#define WIDTH_32 2
#define AREA_INFO 1

static const uint16_t fields[] = {
#define FIELD(name, encoding, width, area, sync, merge, ...) (encoding),
#include "vmx/vmcs_fields.def"
#undef FIELD
};

static bool is_access_rights(uint16_t field)
{
    return field >= GUEST_ES_AR_BYTES && field <= GUEST_TR_AR_BYTES;
}

/* The bits that a field keeps of a value. Reserved bits of access rights may or may not be kept: they are left out. */
static uint64_t kept(uint16_t field, uint64_t value)
{
    if (is_access_rights(field))
        return value & ~AR_RESERVED & UINT32_MAX;
    switch (GET(field, FIELD_WIDTH)) {
    case WIDTH_16:
        return (uint16_t)value;
    case WIDTH_32:
        return (uint32_t)value;
    default:
        return value;
    }
}

static void load_fresh_vmcs(void)
{
    uint64_t vmcs = vmx_region_alloc();

    vmx_start();
    REQUIRE_EQ(vmx_vmclear(&vmcs), 0);
    REQUIRE_EQ(vmx_vmptrld(&vmcs), 0);
}

static bool exists(uint16_t field)
{
    uint64_t value = 0;

    return !vmx_vmread(field, &value);
}

/* Writes each field something of its own, then reads all: a field that shares its place with another shows. */
static void round_trip(void)
{
    const uint64_t pattern = 0x1f3d5b799abcdef1;

    load_fresh_vmcs();
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if (exists(fields[i]) && GET(fields[i], FIELD_AREA) != AREA_INFO)
            REQUIRE_EQ(vmx_vmwrite(fields[i], kept(fields[i], pattern * (i + 1))), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        if (!exists(fields[i]) || GET(fields[i], FIELD_AREA) == AREA_INFO)
            continue;
        if (!check_equal(vmx_get(fields[i]), kept(fields[i], pattern * (i + 1)), "field read back", __FILE__, __LINE__))
            check_report("that was field 0x%x", fields[i]);
    }
}

/* The fields that every CPU with VMX has; others depend on features. */
static void required_fields(void)
{
    static const uint16_t required[] = {
        GUEST_CS_SELECTOR, HOST_TR_SELECTOR,    IO_BITMAP_A,        EXIT_MSR_STORE_ADDR,
        TSC_OFFSET,        VMCS_LINK_POINTER,   GUEST_DEBUGCTL,     PIN_CONTROLS,
        EXCEPTION_BITMAP,  CR3_TARGET_COUNT,    EXIT_REASON,        GUEST_ACTIVITY_STATE,
        HOST_SYSENTER_CS,  CR0_GUEST_HOST_MASK, EXIT_QUALIFICATION, GUEST_PENDING_DEBUG,
        HOST_RIP};

    load_fresh_vmcs();
    for (unsigned i = 0; i < ARRAY_SIZE(required); i++)
        CHECK(exists(required[i]));
    CHECK_EQ(exists(EPT_POINTER), vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_EPT));
    CHECK_EQ(exists(VPID), vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID));
    CHECK_EQ(exists(PML_ADDRESS), vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_PML));
    CHECK_EQ(exists(TSC_MULTIPLIER), vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_TSC_SCALING));
    CHECK_EQ(exists(PREEMPTION_TIMER), vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER));
}

static void unsupported_fields(void)
{
    static const uint64_t none[] = {0x07fe,
                                    0x0c0e,
                                    0x2bfe,
                                    0x4c02,
                                    0x6c3e,
                                    0x683e,
                                    0xffff,
                                    0x8000 | GUEST_RIP,
                                    0x10000 | GUEST_RIP,
                                    1ull << 32 | GUEST_RIP,
                                    GUEST_RIP | FIELD_HIGH,
                                    PIN_CONTROLS | FIELD_HIGH,
                                    GUEST_CS_SELECTOR | FIELD_HIGH};
    uint64_t value = 0x77;

    load_fresh_vmcs();
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        CHECK_EQ(vmx_vmread(none[i], &value), VMXERR_UNSUPPORTED_FIELD);
        CHECK_EQ(vmx_vmwrite(none[i], 0), VMXERR_UNSUPPORTED_FIELD);
    }
    CHECK_EQ(value, 0x77);
}

/* SDM 3D A.9 "VMCS Enumeration": bits 9:1 of IA32_VMX_VMCS_ENUM are the highest index of any field. */
static void highest_index(void)
{
    uint64_t highest = GET(cpu_rdmsr(IA32_VMX_VMCS_ENUM), FIELD_INDEX);

    load_fresh_vmcs();
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if (exists(fields[i]))
            CHECK(GET(fields[i], FIELD_INDEX) <= highest);
}

static void read_only_fields(void)
{
    bool writable = cpu_rdmsr(IA32_VMX_MISC) & VMX_MISC_VMWRITE_ANY;

    load_fresh_vmcs();
    CHECK_EQ(vmx_vmwrite(EXIT_QUALIFICATION, 0x123456789), writable ? 0 : VMXERR_READ_ONLY_FIELD);
    CHECK_EQ(vmx_vmwrite(EXIT_REASON, 0x4321), writable ? 0 : VMXERR_READ_ONLY_FIELD);
    if (!writable)
        return;
    CHECK_EQ(vmx_get(EXIT_QUALIFICATION), 0x123456789);
    CHECK_EQ(vmx_get(EXIT_REASON), 0x4321);
}

static void high_halves(void)
{
    load_fresh_vmcs();
    vmx_set(TSC_OFFSET, 0x1122334455667788);
    CHECK_EQ(vmx_get(TSC_OFFSET | FIELD_HIGH), 0x11223344);
    vmx_set(TSC_OFFSET | FIELD_HIGH, 0xaaaaaaaabbbbbbbb);
    CHECK_EQ(vmx_get(TSC_OFFSET), 0xbbbbbbbb55667788);
    vmx_set(TSC_OFFSET, 0x99);
    CHECK_EQ(vmx_get(TSC_OFFSET | FIELD_HIGH), 0);
    vmx_set(IO_BITMAP_A | FIELD_HIGH, 0x12);
    CHECK_EQ(vmx_get(IO_BITMAP_A), 0x1200000000);
}

/* Narrow fields take the low bits of the operand and give zeroes above them. */
static void narrow_fields(void)
{
    uint64_t memory = UINT64_MAX;

    load_fresh_vmcs();
    vmx_set(GUEST_ES_SELECTOR, 0xfffffffffffe1234);
    CHECK_EQ(vmx_get(GUEST_ES_SELECTOR), 0x1234);
    vmx_set(GUEST_ES_LIMIT, 0xfedcba9876543210);
    CHECK_EQ(vmx_get(GUEST_ES_LIMIT), 0x76543210);
    CHECK_EQ(vmx_vmread_memory(GUEST_ES_SELECTOR, &memory), 0);
    CHECK_EQ(memory, 0x1234);
    memory = 0xabcdabcd00005678;
    CHECK_EQ(vmx_vmwrite_memory(GUEST_ES_SELECTOR, &memory), 0);
    CHECK_EQ(vmx_get(GUEST_ES_SELECTOR), 0x5678);
}

#define READ_INTO(reg)                                                                                                 \
    ({                                                                                                                 \
        uint64_t out_;                                                                                                 \
        asm volatile("vmread %1, %%" reg "; mov %%" reg ", %0" : "=m"(out_) : "r"((uint64_t)GUEST_RSP) : reg, "cc");   \
        out_;                                                                                                          \
    })
#define WRITE_FROM(reg, value)                                                                                         \
    asm volatile("mov %1, %%" reg "; vmwrite %%" reg ", %0"                                                            \
                 :                                                                                                     \
                 : "r"((uint64_t)GUEST_RSP), "ri"((uint64_t)(value))                                                   \
                 : reg, "cc")
#define CHECK_REGISTER(reg, value)                                                                                     \
    do {                                                                                                               \
        WRITE_FROM(reg, value);                                                                                        \
        CHECK_EQ(vmx_get(GUEST_RSP), value);                                                                           \
        CHECK_EQ(READ_INTO(reg), value);                                                                               \
    } while (0)

/* Every register as an operand; RSP by way of a swap, since nothing may be pushed meanwhile. */
static void register_forms(void)
{
    uint64_t out;

    load_fresh_vmcs();
    CHECK_REGISTER("rax", 0x100);
    CHECK_REGISTER("rcx", 0x101);
    CHECK_REGISTER("rdx", 0x102);
    CHECK_REGISTER("rbx", 0x103);
    CHECK_REGISTER("rsi", 0x106);
    CHECK_REGISTER("rdi", 0x107);
    CHECK_REGISTER("r8", 0x108);
    CHECK_REGISTER("r9", 0x109);
    CHECK_REGISTER("r10", 0x10a);
    CHECK_REGISTER("r11", 0x10b);
    CHECK_REGISTER("r12", 0x10c);
    CHECK_REGISTER("r13", 0x10d);
    CHECK_REGISTER("r14", 0x10e);
    CHECK_REGISTER("r15", 0x10f);
    asm volatile("mov %%rbp, %%rax; vmread %1, %%rbp; xchg %%rbp, %%rax; mov %%rax, %0"
                 : "=r"(out)
                 : "r"((uint64_t)GUEST_RSP)
                 : "rax", "cc");
    CHECK_EQ(out, 0x10f);
    asm volatile("mov %%rsp, %%rax; vmread %1, %%rsp; xchg %%rsp, %%rax; mov %%rax, %0"
                 : "=r"(out)
                 : "r"((uint64_t)GUEST_RSP)
                 : "rax", "cc");
    CHECK_EQ(out, 0x10f);
    asm volatile("vmwrite %%rsp, %1; mov %%rsp, %0" : "=r"(out) : "r"((uint64_t)GUEST_RSP) : "cc");
    CHECK_EQ(vmx_get(GUEST_RSP), out);
}

static uint64_t at_fixed_place;

/* Base, index, scale, displacement; RIP-relative; absolute; a 32-bit address size. */
static void memory_forms(void)
{
    uint64_t *page = page_alloc();
    uint64_t field = GUEST_RSP;

    load_fresh_vmcs();
    vmx_set(GUEST_RSP, 0x1234567890);
    asm volatile("vmread %0, 0x10(%1)" : : "r"(field), "r"(page) : "cc", "memory");
    CHECK_EQ(page[2], 0x1234567890);
    asm volatile("vmread %0, -8(%1)" : : "r"(field), "r"(page + 4) : "cc", "memory");
    CHECK_EQ(page[3], 0x1234567890);
    asm volatile("vmread %0, 0x20(%1,%2,8)" : : "r"(field), "r"(page), "r"(3ull) : "cc", "memory");
    CHECK_EQ(page[7], 0x1234567890);
    asm volatile("vmread %0, 0x100(,%1,2)" : : "r"(field), "r"((uint64_t)page / 2) : "cc", "memory");
    CHECK_EQ(page[32], 0x1234567890);
    asm volatile("vmread %1, %0" : "=m"(at_fixed_place) : "r"(field) : "cc");
    CHECK_EQ(at_fixed_place, 0x1234567890);
    at_fixed_place = 0x55;
    asm volatile("vmwrite at_fixed_place, %0" : : "r"(field), "m"(at_fixed_place) : "cc");
    CHECK_EQ(vmx_get(GUEST_RSP), 0x55);
    asm volatile("vmread %0, (%1,%2,4)" : : "r"(field), "r"(page + 16), "r"(-16ull) : "cc", "memory");
    CHECK_EQ(page[8], 0x55);
    asm volatile("vmread %0, 0x48(%k1)" : : "r"(field), "r"((uint64_t)page | 1ull << 32) : "cc", "memory");
    CHECK_EQ(page[9], 0x55);
}

/* FS and GS keep their bases in 64-bit mode; SS and DS have none. */
static void segment_forms(void)
{
    uint64_t *page = page_alloc();
    uint64_t field = GUEST_RSP;
    uint64_t on_stack;

    load_fresh_vmcs();
    vmx_set(GUEST_RSP, 0x777);
    cpu_wrmsr(IA32_FS_BASE, (uint64_t)page);
    cpu_wrmsr(IA32_GS_BASE, (uint64_t)page + 0x100);
    asm volatile("vmread %0, %%fs:0x18" : : "r"(field) : "cc", "memory");
    asm volatile("vmread %0, %%gs:(%1)" : : "r"(field), "r"(8ull) : "cc", "memory");
    asm volatile("sub $16, %%rsp; vmread %1, 8(%%rsp); mov 8(%%rsp), %0; add $16, %%rsp"
                 : "=r"(on_stack)
                 : "r"(field)
                 : "cc", "memory");
    cpu_wrmsr(IA32_FS_BASE, 0);
    cpu_wrmsr(IA32_GS_BASE, 0);
    CHECK_EQ(page[3], 0x777);
    CHECK_EQ(page[33], 0x777);
    CHECK_EQ(on_stack, 0x777);
}

/* An operand that crosses from one page into another. */
static void crossing_operands(void)
{
    uint8_t *pages = page_alloc_run(2, PAGE_SIZE);
    uint64_t *crossing = (uint64_t *)(pages + PAGE_SIZE - 3);
    uint64_t vmcs = vmx_region_alloc();

    vmx_start();
    *crossing = vmcs;
    CHECK_EQ(vmx_vmclear(crossing), 0);
    CHECK_EQ(vmx_vmptrld(crossing), 0);
    *crossing = 0;
    CHECK_EQ(vmx_vmptrst(crossing), 0);
    CHECK_EQ(*crossing, vmcs);
    *crossing = 0x1122334455667788;
    CHECK_EQ(vmx_vmwrite_memory(GUEST_RSP, crossing), 0);
    CHECK_EQ(vmx_get(GUEST_RSP), 0x1122334455667788);
    *crossing = 0;
    CHECK_EQ(vmx_vmread_memory(GUEST_RSP, crossing), 0);
    CHECK_EQ(*crossing, 0x1122334455667788);
}

const struct scenario field_scenarios[] = {
    {"field-round-trip", round_trip, NULL},
    {"field-required", required_fields, NULL},
    {"field-unsupported", unsupported_fields, NULL},
    {"field-highest-index", highest_index, NULL},
    {"field-read-only", read_only_fields, NULL},
    {"field-high-halves", high_halves, NULL},
    {"field-narrow", narrow_fields, NULL},
    {"field-register-forms", register_forms, NULL},
    {"field-memory-forms", memory_forms, NULL},
    {"field-segment-forms", segment_forms, NULL},
    {"field-crossing-operands", crossing_operands, NULL},
    {0},
};
