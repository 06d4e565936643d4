/* VM entries that are good in every rule, to be spoilt by edits: what test_check.c works on.
 * Nothing must hold before.
 * tests/host/ only. */
#ifndef TESTS_HOST_CHECK_WORLD_H
#define TESTS_HOST_CHECK_WORLD_H

#include <string.h>

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "nested/rules/caps12.h"
#include "nested/rules/check.h"
#include "tests/host/cpu_models.h"

enum good { GOOD_64, GOOD_PAE, GOOD_PAE_NO_EPT, GOOD_REAL, GOOD_V8086, GOOD_32_HOST, GOOD_COUNT };

/* All that a verdict depends on; 64-bit members, so that an edit can reach each. */
struct world {
    struct vmcs12 v;
    struct vmx_caps caps;
    uint64_t l1_long_mode;
    uint64_t link_header, virtual_tpr; /* in L1's memory */
    uint64_t pdptes[4];
};

#define WORLD_VMPTR 0x10000ull
#define WORLD_LINK 0x11000ull
#define WORLD_VIRTUAL_APIC 0x12000ull
#define WORLD_PDPT 0x13020ull

static void world_read(void *context, gpa_t gpa, void *buffer, unsigned len)
{
    const struct world *world = context;

    memset(buffer, 0xff, len);
    if ((gpa == WORLD_LINK || gpa == WORLD_VMPTR) && len == 4)
        memcpy(buffer, &world->link_header, len);
    if (gpa == WORLD_VIRTUAL_APIC + 0x80 && len == 1)
        memcpy(buffer, &world->virtual_tpr, len);
    if (gpa == WORLD_PDPT && len == sizeof world->pdptes)
        memcpy(buffer, world->pdptes, len);
}

static struct check_context world_context(struct world *world)
{
    return (struct check_context){
        .caps = &world->caps,
        .l1_long_mode = world->l1_long_mode,
        .read = world_read,
        .context = world,
        .current_vmptr = WORLD_VMPTR,
        .vmxon_pointer = 0x1f000,
    };
}

static void good_controls(struct vmcs12 *v)
{
    v->PIN_CONTROLS = 0x16 | PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER;
    v->PROC_CONTROLS = 0x04006172 | PROC_HLT | PROC_TPR_SHADOW | PROC_NMI_WINDOW | PROC_USE_IO_BITMAPS |
                       PROC_USE_MSR_BITMAPS | PROC_SECONDARY;
    v->PROC2_CONTROLS = PROC2_EPT | PROC2_VPID | PROC2_RDTSCP | PROC2_APIC_ACCESS;
    v->EXIT_CONTROLS = 0x36dfb | EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_ACK_INTERRUPT | EXITC_LOAD_PAT |
                       EXITC_LOAD_EFER | EXITC_SAVE_TIMER;
    v->ENTRY_CONTROLS = 0x11fb | ENTRY_LOAD_DEBUG | ENTRY_GUEST_64 | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER;
    v->VPID = 1;
    v->EPT_POINTER = 0x20000 | PUT(3, EPTP_WALK_LENGTH) | 6;
    v->IO_BITMAP_A = 0x21000;
    v->IO_BITMAP_B = 0x22000;
    v->MSR_BITMAP = 0x23000;
    v->VIRTUAL_APIC_ADDR = WORLD_VIRTUAL_APIC;
    v->APIC_ACCESS_ADDR = 0x24000;
    v->TSC_MULTIPLIER = BIT(48);
    v->CR3_TARGET_COUNT = 4;
}

static void good_host(struct vmcs12 *v)
{
    v->HOST_CR0 = CR0_PG | CR0_WP | CR0_NE | CR0_PE;
    v->HOST_CR3 = 0x30000;
    v->HOST_CR4 = CR4_PAE | CR4_VMXE;
    v->HOST_CS_SELECTOR = 0x08;
    v->HOST_SS_SELECTOR = 0x10;
    v->HOST_TR_SELECTOR = 0x18;
    v->HOST_GS_BASE = 0xffff800000000000ull;
    v->HOST_RIP = 0xffff800000100000ull;
    v->HOST_PAT = 0x0007040600070406ull;
    v->HOST_EFER = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
}

static void good_segment(struct vmcs12 *v, unsigned index, uint64_t selector, uint64_t limit, uint64_t rights)
{
    v->field[FIELD_INDEX_GUEST_ES_SELECTOR + index] = selector;
    v->field[FIELD_INDEX_GUEST_ES_BASE + index] = 0;
    v->field[FIELD_INDEX_GUEST_ES_LIMIT + index] = limit;
    v->field[FIELD_INDEX_GUEST_ES_AR_BYTES + index] = rights;
}

#define FLAT_LIMIT 0xffffffffull

/* 64-bit, at CPL 0, EPT without unrestricted guest. */
static void good_guest_64(struct vmcs12 *v)
{
    v->GUEST_CR0 = CR0_PG | CR0_WP | CR0_NE | CR0_PE;
    v->GUEST_CR3 = WORLD_PDPT;
    v->GUEST_CR4 = CR4_PAE | CR4_VMXE;
    v->GUEST_EFER = EFER_LME | EFER_LMA;
    v->GUEST_PAT = 0x0007040600070406ull;
    v->GUEST_DR7 = 0x400;
    v->GUEST_RFLAGS = RFLAGS_FIXED1 | RFLAGS_IF;
    v->GUEST_RIP = 0xffffffff80000000ull;
    for (unsigned i = 0; i < 6; i++)
        good_segment(v, i, 0x10, FLAT_LIMIT, 0xc093); /* data, read/write, accessed */
    good_segment(v, 1, 0x08, FLAT_LIMIT, 0xa09b);     /* CS: 64-bit code */
    good_segment(v, 6, 0x20, 0xffff, 0x82);           /* LDTR */
    good_segment(v, 7, 0x18, 0x67, 0x8b);             /* TR: busy TSS */
    v->GUEST_GDTR_LIMIT = v->GUEST_IDTR_LIMIT = 0xfff;
    v->VMCS_LINK_POINTER = UINT64_MAX;
}

static void good_guest_32(struct vmcs12 *v)
{
    v->ENTRY_CONTROLS &= ~ENTRY_GUEST_64;
    v->GUEST_EFER = 0;
    v->GUEST_RIP = 0xc0100000;
    v->GUEST_CS_AR_BYTES = 0xc09b;
}

static void good_guest_real(struct vmcs12 *v)
{
    good_guest_32(v);
    v->PROC2_CONTROLS |= PROC2_UNRESTRICTED;
    v->GUEST_CR0 = CR0_NE;
    v->GUEST_CR4 = CR4_VMXE;
    v->GUEST_RIP = 0xfff0;
    for (unsigned i = 0; i < 6; i++)
        good_segment(v, i, 0xf000, 0xffff, 0x93);
}

static void good_guest_v8086(struct vmcs12 *v)
{
    good_guest_32(v);
    v->GUEST_RFLAGS |= RFLAGS_VM;
    v->GUEST_RIP = 0x7c00;
    for (unsigned i = 0; i < 6; i++) {
        good_segment(v, i, 0x1000 + i, 0xffff, 0xf3);
        v->field[FIELD_INDEX_GUEST_ES_BASE + i] = (0x1000 + i) << 4;
    }
}

static void good_host_32(struct world *world)
{
    struct vmcs12 *v = &world->v;

    world->l1_long_mode = 0;
    good_guest_32(v);
    v->EXIT_CONTROLS &= ~EXITC_HOST_64;
    v->HOST_EFER = 0;
    v->HOST_RIP = 0xc0000000;
}

static void world_make(struct world *world, enum good good)
{
    memset(world, 0, sizeof *world);
    world->caps = model_skylake_x;
    world->caps.basic = (model_skylake_x.basic & ~VMX_BASIC_REVISION) | VMCS12_REVISION;
    world->caps.pending_debug = PENDING_DEBUG_BUS_LOCK | PENDING_DEBUG_RTM;
    world->l1_long_mode = 1;
    world->link_header = VMCS12_REVISION;
    good_controls(&world->v);
    good_host(&world->v);
    good_guest_64(&world->v);
    if (good == GOOD_PAE || good == GOOD_PAE_NO_EPT)
        good_guest_32(&world->v);
    if (good == GOOD_PAE_NO_EPT)
        world->v.PROC2_CONTROLS &= ~PROC2_EPT;
    if (good == GOOD_REAL)
        good_guest_real(&world->v);
    if (good == GOOD_V8086)
        good_guest_v8086(&world->v);
    if (good == GOOD_32_HOST)
        good_host_32(world);
}

/* A change of one member of a world. */
struct edit {
    enum { EDIT_NONE, EDIT_SET, EDIT_ON, EDIT_OFF } how;
    size_t offset;
    uint64_t bits;
};
#define MAX_EDITS 5
#define SET(member, value)                                                                                             \
    {                                                                                                                  \
        EDIT_SET, offsetof(struct world, member), value                                                                \
    }
#define ON(member, bits)                                                                                               \
    {                                                                                                                  \
        EDIT_ON, offsetof(struct world, member), bits                                                                  \
    }
#define OFF(member, bits)                                                                                              \
    {                                                                                                                  \
        EDIT_OFF, offsetof(struct world, member), bits                                                                 \
    }

/* Values that many edits need. */
#define EVENT(type, vector) (INTR_VALID | PUT(INTR_TYPE_##type, INTR_TYPE) | (vector))
/* struct ctl_caps: `may` in the upper half. */
#define OFFER_MONITOR_TRAP ON(caps.proc, PROC_MONITOR_TRAP << 32)
#define NOT_CANONICAL 0x0000800000000000ull
#define TOO_WIDE BIT(40)

static inline void world_edit(struct world *world, const struct edit *edits)
{
    for (unsigned i = 0; i < MAX_EDITS; i++) {
        uint64_t *member = (uint64_t *)((char *)world + edits[i].offset);

        if (edits[i].how == EDIT_SET)
            *member = edits[i].bits;
        if (edits[i].how == EDIT_ON)
            *member |= edits[i].bits;
        if (edits[i].how == EDIT_OFF)
            *member &= ~edits[i].bits;
    }
}

#endif
