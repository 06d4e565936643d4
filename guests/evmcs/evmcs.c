#include "guests/evmcs/evmcs.h"

#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/vmx.h"

#define HV_GUEST_OS_ID 0x40000000u
#define HV_VP_ASSIST_PAGE 0x40000073u
#define ENABLE 1u
#define GUEST_OS 0x8200000000000000u /* an open-source one, of no known kind */
#define LEAF_HINTS 0x40000004u
#define HINT_ENLIGHTENED_VMCS BIT(14)
#define CPUID1_ECX_HYPERVISOR BIT(31)
#define ENLIGHTEN_ENTRY 40
#define CURRENT_VMCS 48
#define CLEAN_FIELDS 0x338
#define CLEAN_ENLIGHTENMENTS (1u << 15)
#define ENLIGHTENMENTS 0x344
#define ENLIGHTENED_MSR_BITMAP 2u
#define NO_FIELD 12

uint8_t *evmcs_page;
static uint8_t *assist;

enum group {
#define GROUP(name) EVMCS_##name,
#include "nested/evmcs/evmcs_groups.def"
#undef GROUP
    EVMCS_ALWAYS = 31,
    EVMCS_EXIT = 31,
};

static const struct field {
    uint16_t encoding, offset;
    uint8_t group;
} fields[] = {
#define EVMCS(name, offset, group) {name, offset, EVMCS_##group},
#include "nested/evmcs/evmcs_fields.def"
#undef EVMCS
};

/* By encoding, a field's place in the list + 1: a look-up must not cost more than the VMREAD that it stands for. */
static uint8_t places[0x8000];

static const struct field *find(uint64_t encoding)
{
    uint8_t place = encoding < ARRAY_SIZE(places) ? places[encoding] : 0;

    return place ? &fields[place - 1] : NULL;
}

enum { WIDTH_16, WIDTH_64, WIDTH_32 };

static uint64_t field_read(uint64_t encoding, const uint8_t *at)
{
    switch (GET(encoding, BITS(14, 13))) {
    case WIDTH_16:
        return *(const uint16_t *)at;
    case WIDTH_32:
        return *(const uint32_t *)at;
    default:
        return *(const uint64_t *)at;
    }
}

static void field_write(uint64_t encoding, uint8_t *at, uint64_t value)
{
    switch (GET(encoding, BITS(14, 13))) {
    case WIDTH_16:
        *(uint16_t *)at = (uint16_t)value;
        break;
    case WIDTH_32:
        *(uint32_t *)at = (uint32_t)value;
        break;
    default:
        *(uint64_t *)at = value;
    }
}

void evmcs_start(void)
{
    bool offered =
        (cpu_cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR) && (cpu_cpuid(LEAF_HINTS, 0).eax & HINT_ENLIGHTENED_VMCS);
    if (!offered)
        check_skip("no enlightened VMCS is offered");
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        places[fields[i].encoding] = (uint8_t)(i + 1);
    evmcs_page = NULL;
    assist = page_alloc();
    cpu_wrmsr(HV_GUEST_OS_ID, GUEST_OS);
    cpu_wrmsr(HV_VP_ASSIST_PAGE, (uint64_t)assist | ENABLE);
}

/* No VMCS is current: the next entry must fail, whatever one that VMPTRLD would have loaded. */
static void make_current(uint64_t region)
{
    evmcs_page = (uint8_t *)region;
    *(uint64_t *)(assist + CURRENT_VMCS) = region;
    assist[ENLIGHTEN_ENTRY] = region != 0;
}

void evmcs_enlighten_bitmap(void)
{
    *(uint32_t *)(evmcs_page + ENLIGHTENMENTS) |= ENLIGHTENED_MSR_BITMAP;
    *(uint32_t *)(evmcs_page + CLEAN_FIELDS) &= ~(CLEAN_ENLIGHTENMENTS | 1u << EVMCS_MSR_BITMAP);
}

void evmcs_bitmap_written(void)
{
    *(uint32_t *)(evmcs_page + CLEAN_FIELDS) &= ~(1u << EVMCS_MSR_BITMAP);
}

int vmx_vmptrld(const uint64_t *region)
{
    make_current(*region);
    return 0;
}

int vmx_vmptrst(uint64_t *region)
{
    *region = evmcs_page ? (uint64_t)evmcs_page : ~0ull;
    return 0;
}

void evmcs_cleared(uint64_t region)
{
    if (region == (uint64_t)evmcs_page)
        make_current(0);
}

int vmx_vmread(uint64_t field, uint64_t *value)
{
    const struct field *found = find(field);

    if (!evmcs_page)
        return VMFAIL_INVALID;
    if (!found)
        check_skip("an enlightened VMCS lacks a field");
    *value = field_read(field, evmcs_page + found->offset);
    return 0;
}

int vmx_vmread_memory(uint64_t field, uint64_t *value)
{
    return vmx_vmread(field, value);
}

int vmx_vmwrite(uint64_t field, uint64_t value)
{
    const struct field *found = find(field);

    if (!evmcs_page)
        return VMFAIL_INVALID;
    if (!found)
        check_skip("an enlightened VMCS lacks a field");
    field_write(field, evmcs_page + found->offset, value);
    *(uint32_t *)(evmcs_page + CLEAN_FIELDS) &= ~(1u << found->group);
    return 0;
}

int vmx_vmwrite_memory(uint64_t field, const uint64_t *value)
{
    return vmx_vmwrite(field, *value);
}
