#include "guests/diff/image.h"

#include "guests/lib/check.h"

#define ENCODING_AREA BITS(11, 10)
#define ENCODING_WIDTH BITS(14, 13)
#define ENCODING_HIGH BIT(0)

/* Of features that Nestor hides, whatever the CPU. */
#define NOT_OFFERED BIT(32)
/* Controls that Nestor has no name for, as it hides them. */
#define EXITC_LOAD_CET BIT(28)
#define EXITC_LOAD_PKRS BIT(29)
#define ENTRY_LOAD_UINV BIT(19)
#define ENTRY_LOAD_CET BIT(20)
#define ENTRY_LOAD_PKRS BIT(22)

struct field fields[F_COUNT] = {
#define FIELD(name, encoding, width, area, sync, merge, ...) [F_##name] = {#name, encoding, true},
#include "vmx/vmcs_fields.def"
#undef FIELD
};

/* Fields that come with a control, whether Nestor has a row for them or not: encodings first .. last.
 * SDM 3D B "Field Encoding in VMCS", the notes under each table. */
static const struct {
    uint16_t first, last;
    enum vmcs_field controls;
    uint64_t bits;
} needs[] = {
    {0x0000, 0x0000, PROC2_CONTROLS, PROC2_VPID},
    {0x0002, 0x0002, PIN_CONTROLS, PIN_POSTED_INTERRUPTS},
    {0x0004, 0x0004, PROC2_CONTROLS, PROC2_EPT_VE},
    {0x0006, 0x0008, PROC2_CONTROLS, NOT_OFFERED},
    {0x0810, 0x0810, PROC2_CONTROLS, PROC2_VIRTUAL_INTERRUPTS},
    {0x0812, 0x0812, PROC2_CONTROLS, PROC2_PML},
    {0x0814, 0x0814, ENTRY_CONTROLS, ENTRY_LOAD_UINV},
    {0x2004, 0x2004, PROC_CONTROLS, PROC_USE_MSR_BITMAPS},
    {0x200e, 0x200e, PROC2_CONTROLS, PROC2_PML},
    {0x2012, 0x2012, PROC_CONTROLS, PROC_TPR_SHADOW},
    {0x2014, 0x2014, PROC2_CONTROLS, PROC2_APIC_ACCESS},
    {0x2016, 0x2016, PIN_CONTROLS, PIN_POSTED_INTERRUPTS},
    {0x2018, 0x2018, PROC2_CONTROLS, PROC2_VMFUNC},
    {0x201a, 0x201a, PROC2_CONTROLS, PROC2_EPT},
    {0x201c, 0x2022, PROC2_CONTROLS, PROC2_VIRTUAL_INTERRUPTS},
    {0x2024, 0x2024, PROC2_CONTROLS, PROC2_VMFUNC},
    {0x2026, 0x2028, PROC2_CONTROLS, PROC2_VMCS_SHADOWING},
    {0x202a, 0x202a, PROC2_CONTROLS, PROC2_EPT_VE},
    {0x202c, 0x202c, PROC2_CONTROLS, PROC2_XSAVES},
    {0x202e, 0x202e, PROC2_CONTROLS, PROC2_ENCLS},
    {0x2030, 0x2030, PROC2_CONTROLS, PROC2_SPP},
    {0x2032, 0x2032, PROC2_CONTROLS, PROC2_TSC_SCALING},
    {0x2034, 0x2034, PROC_CONTROLS, PROC_TERTIARY},
    {0x2036, 0x2042, PROC2_CONTROLS, NOT_OFFERED},
    {0x2044, 0x2044, EXIT_CONTROLS, EXITC_SECONDARY},
    {0x2046, 0x204e, PROC2_CONTROLS, NOT_OFFERED},
    {0x2400, 0x2400, PROC2_CONTROLS, PROC2_EPT},
    {0x2402, 0x2402, PROC3_CONTROLS, PROC3_MSR_LIST},
    {0x2804, 0x2804, ENTRY_CONTROLS, ENTRY_LOAD_PAT},
    {0x2806, 0x2806, ENTRY_CONTROLS, ENTRY_LOAD_EFER},
    {0x2808, 0x2808, ENTRY_CONTROLS, ENTRY_LOAD_PERF_GLOBAL},
    {0x280a, 0x2810, PROC2_CONTROLS, PROC2_EPT},
    {0x2818, 0x2818, ENTRY_CONTROLS, ENTRY_LOAD_PKRS},
    {0x281a, 0x2830, PROC2_CONTROLS, NOT_OFFERED},
    {0x2c00, 0x2c00, EXIT_CONTROLS, EXITC_LOAD_PAT},
    {0x2c02, 0x2c02, EXIT_CONTROLS, EXITC_LOAD_EFER},
    {0x2c04, 0x2c04, EXIT_CONTROLS, EXITC_LOAD_PERF_GLOBAL},
    {0x2c06, 0x2c06, EXIT_CONTROLS, EXITC_LOAD_PKRS},
    {0x2c08, 0x2c18, PROC2_CONTROLS, NOT_OFFERED},
    {0x2c1a, 0x2c1a, EXIT2_CONTROLS, EXIT2_LOAD_SPEC_CTRL},
    {0x401c, 0x401c, PROC_CONTROLS, PROC_TPR_SHADOW},
    {0x401e, 0x401e, PROC_CONTROLS, PROC_SECONDARY},
    {0x4020, 0x4022, PROC2_CONTROLS, PROC2_PAUSE_LOOP},
    {0x482e, 0x482e, PIN_CONTROLS, PIN_PREEMPTION_TIMER},
    {0x6828, 0x682c, ENTRY_CONTROLS, ENTRY_LOAD_CET},
    {0x6c18, 0x6c1c, EXIT_CONTROLS, EXITC_LOAD_CET},
};

bool field_encoding_shared(uint64_t encoding)
{
    encoding &= ~ENCODING_HIGH;
    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
        if (encoding >= needs[i].first && encoding <= needs[i].last)
            return caps_have(needs[i].controls, needs[i].bits);
    return true;
}

void image_init(void)
{
    for (unsigned i = 0; i < F_COUNT; i++)
        fields[i].offered = field_encoding_shared(fields[i].encoding);
}

enum field_area field_area(unsigned index)
{
    return (enum field_area)GET(fields[index].encoding, ENCODING_AREA);
}

enum field_width field_width(unsigned index)
{
    return (enum field_width)GET(fields[index].encoding, ENCODING_WIDTH);
}

void l2_init(struct l2 *l2)
{
    *l2 = (struct l2){.region = vmx_region_alloc()};
    l2_clear(l2);
}

void l2_load(struct l2 *l2)
{
    REQUIRE_EQ(vmx_vmptrld(&l2->region), 0);
}

void l2_clear(struct l2 *l2)
{
    REQUIRE_EQ(vmx_vmclear(&l2->region), 0);
    l2->launched = false;
}

static uint64_t trimmed(unsigned index, uint64_t value)
{
    switch (field_width(index)) {
    case WIDTH_16:
        return (uint16_t)value;
    case WIDTH_32:
        return (uint32_t)value;
    default:
        return value;
    }
}

void l2_write(struct l2 *l2, const struct image *wanted)
{
    for (unsigned i = 0; i < F_COUNT; i++) {
        uint64_t value = trimmed(i, wanted->f[i]);
        if (field_area(i) == AREA_INFO || !fields[i].offered || (l2->valid[i] && l2->known.f[i] == value))
            continue;
        vmx_set(fields[i].encoding, value);
        l2->known.f[i] = value;
        l2->valid[i] = true;
    }
}

uint64_t l2_read(struct l2 *l2, unsigned index)
{
    uint64_t value = vmx_get(fields[index].encoding);

    l2->known.f[index] = value;
    l2->valid[index] = true;
    return value;
}
