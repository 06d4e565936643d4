#include "guests/diff/base.h"

#include "guests/diff/arena.h"
#include "guests/diff/enter.h"
#include "guests/diff/l1_state.h"
#include "guests/diff/rand.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/page.h"

#define POSTED_VECTOR_UNUSED 0xf2
#define AR_CODE64 0xa09b
#define AR_CODE32 0xc09b
#define AR_CODE16 0x009b
#define AR_DATA 0xc093
#define AR_DATA16 0x0093
#define AR_REAL 0x93
#define AR_V86 0xf3
#define AR_DPL3 0x60
#define AR_TSS_BUSY 0x8b
#define AR_LDT 0x82
#define DR7_RESET 0x400
#define PAT_RESET 0x0007040600070406ull
#define TSS_LIMIT 0x67

struct l1_pages l1_pages;

static const struct mode_row {
    const char *name;
    unsigned bits, cpl;
    uint16_t code, data;
    uint32_t code_ar, data_ar;
} modes[MODE_COUNT] = {
    [MODE_64] = {"64", 64, 0, L2_CODE64, L2_DATA, AR_CODE64, AR_DATA},
    [MODE_64_USER] = {"64-user", 64, 3, L2_USER_CODE64, L2_USER_DATA, AR_CODE64 | AR_DPL3, AR_DATA | AR_DPL3},
    [MODE_COMPATIBILITY] = {"compat", 32, 0, L2_CODE32, L2_DATA, AR_CODE32, AR_DATA},
    [MODE_COMPATIBILITY_USER] = {"compat-user", 32, 3, L2_USER_CODE32, L2_USER_DATA, AR_CODE32 | AR_DPL3,
                                 AR_DATA | AR_DPL3},
    [MODE_PAE] = {"pae", 32, 0, L2_CODE32, L2_DATA, AR_CODE32, AR_DATA},
    [MODE_32] = {"32", 32, 0, L2_CODE32, L2_DATA, AR_CODE32, AR_DATA},
    [MODE_32_USER] = {"32-user", 32, 3, L2_USER_CODE32, L2_USER_DATA, AR_CODE32 | AR_DPL3, AR_DATA | AR_DPL3},
    [MODE_16] = {"16", 16, 0, L2_CODE16, L2_DATA16, AR_CODE16, AR_DATA16},
    [MODE_V86] = {"v86", 16, 3, 0, 0, AR_V86, AR_V86},
    [MODE_PROTECTED] = {"protected", 32, 0, L2_CODE32, L2_DATA, AR_CODE32, AR_DATA},
    [MODE_REAL] = {"real", 16, 0, 0, 0, AR_REAL, AR_REAL},
};

unsigned mode_bits(enum mode mode)
{
    return modes[mode].bits;
}

unsigned mode_cpl(enum mode mode)
{
    return modes[mode].cpl;
}

const char *mode_name(enum mode mode)
{
    return modes[mode].name;
}

void base_init(void)
{
    l1_pages = (struct l1_pages){
        .msr_bitmap = page_alloc(),
        .io_bitmap_a = page_alloc(),
        .io_bitmap_b = page_alloc(),
        .virtual_apic = page_alloc(),
        .entry_load = page_alloc(),
        .exit_store = page_alloc(),
        .exit_load = page_alloc(),
        .vmread_bitmap = page_alloc(),
        .vmwrite_bitmap = page_alloc(),
        .eptp_list = page_alloc(),
        .ve_info = page_alloc(),
        .pml = page_alloc(),
        .shadow = vmx_region_alloc(),
    };
    *(uint32_t *)l1_pages.shadow |= (uint32_t)VMCS_SHADOW_INDICATOR;
    l1_pages.eptp_list[0] = arena_eptp(false);
    l1_pages.eptp_list[1] = arena_eptp(caps.ept_vpid & EPT_CAP_AD);
}

struct l2_config base_config_pick(void)
{
    struct l2_config config = {.mode = rand_below(MODE_COUNT)};
    bool ept = rand_chance(3, 4), vpid = rand_chance(1, 2), unrestricted = rand_chance(1, 2);
    bool needs_unrestricted = config.mode == MODE_REAL || config.mode == MODE_PROTECTED;

    config.ept = caps_have(PROC2_CONTROLS, PROC2_EPT) && (ept || needs_unrestricted);
    config.vpid = caps_have(PROC2_CONTROLS, PROC2_VPID) && (caps.ept_vpid & VPID_CAP_ALL) && vpid;
    config.unrestricted =
        caps_have(PROC2_CONTROLS, PROC2_UNRESTRICTED) && config.ept && (unrestricted || needs_unrestricted);
    if (needs_unrestricted && !config.unrestricted)
        config.mode = MODE_64;
    return config;
}

static bool in_ia32e(enum mode mode)
{
    return mode <= MODE_COMPATIBILITY_USER;
}

static void build_segments(struct image *v, const struct mode_row *row, enum mode mode)
{
    bool small = mode == MODE_V86 || mode == MODE_REAL || mode == MODE_16;

    /* Fields of one segment are in the same order as its neighbours' in each group. */
    for (unsigned i = 0; i <= F_GUEST_GS_SELECTOR - F_GUEST_ES_SELECTOR; i++) {
        v->f[F_GUEST_ES_SELECTOR + i] = row->data;
        v->f[F_GUEST_ES_BASE + i] = 0;
        v->f[F_GUEST_ES_LIMIT + i] = small ? 0xffff : 0xffffffff;
        v->f[F_GUEST_ES_AR_BYTES + i] = row->data_ar;
    }
    v->f[F_GUEST_CS_SELECTOR] = row->code;
    v->f[F_GUEST_CS_AR_BYTES] = row->code_ar;
    v->f[F_GUEST_TR_SELECTOR] = L2_TSS;
    v->f[F_GUEST_TR_BASE] = in_ia32e(mode) ? AT(PAGE_TSS) : TSS32_AT;
    v->f[F_GUEST_TR_LIMIT] = TSS_LIMIT;
    v->f[F_GUEST_TR_AR_BYTES] = AR_TSS_BUSY;
    v->f[F_GUEST_LDTR_SELECTOR] = rand_chance(1, 2) ? L2_LDT : 0;
    v->f[F_GUEST_LDTR_BASE] = LDT_AT;
    v->f[F_GUEST_LDTR_LIMIT] = 0x7f;
    v->f[F_GUEST_LDTR_AR_BYTES] = v->f[F_GUEST_LDTR_SELECTOR] ? AR_LDT : AR_UNUSABLE;
    v->f[F_GUEST_GDTR_BASE] = AT(PAGE_TABLES);
    v->f[F_GUEST_GDTR_LIMIT] = L2_GDT_LIMIT;
    v->f[F_GUEST_IDTR_BASE] = in_ia32e(mode) ? AT(PAGE_IDT64) : mode == MODE_REAL ? AT(PAGE_IVT) : AT(PAGE_IDT32);
    v->f[F_GUEST_IDTR_LIMIT] = in_ia32e(mode) ? 0xfff : mode == MODE_REAL ? 0x3ff : 0x7ff;
}

static void build_paging(struct image *v, const struct l2_config *config)
{
    bool pae = config->mode == MODE_PAE;
    bool legacy = config->mode >= MODE_32 && config->mode <= MODE_V86;
    enum arena_page root = legacy ? PAGE_PD32 : pae ? PAGE_PDPTES : PAGE_PML4;

    v->f[F_GUEST_CR0] = caps.cr0_fixed0 | CR0_ET | (rand_chance(1, 2) ? CR0_WP : 0);
    if (config->mode == MODE_REAL)
        v->f[F_GUEST_CR0] &= ~(CR0_PE | CR0_PG);
    if (config->mode == MODE_PROTECTED)
        v->f[F_GUEST_CR0] &= ~CR0_PG;
    v->f[F_GUEST_CR4] = caps.cr4_fixed0 | (in_ia32e(config->mode) || pae ? CR4_PAE : 0);
    v->f[F_GUEST_CR3] = arena_physical(root, config->ept);
    if (pae && config->ept)
        for (unsigned i = 0; i < 4; i++)
            v->f[F_GUEST_PDPTE0 + i] = ((const uint64_t *)arena_at(AT(PAGE_PDPTES)))[i];
}

static void build_guest(struct image *v, const struct l2_config *config)
{
    bool ia32e = in_ia32e(config->mode);

    build_segments(v, &modes[config->mode], config->mode);
    build_paging(v, config);
    v->f[F_GUEST_DR7] = DR7_RESET;
    v->f[F_GUEST_RFLAGS] = RFLAGS_FIXED1 | (config->mode == MODE_V86 ? BIT(17) : 0);
    v->f[F_GUEST_RIP] = AT(PAGE_CODE);
    v->f[F_GUEST_RSP] = STACK_TOP;
    v->f[F_VMCS_LINK_POINTER] = rand_chance(3, 4) ? l1_pages.shadow : UINT64_MAX; /* with VMCS shadowing */
    v->f[F_GUEST_PAT] = PAT_RESET;
    v->f[F_GUEST_EFER] = EFER_NXE | EFER_SCE | (ia32e ? EFER_LMA | EFER_LME : 0);
    v->f[F_PREEMPTION_TIMER] = TIMER_BOUND;
}

static void build_host(struct image *v)
{
    for (unsigned i = 0; i <= F_HOST_GS_SELECTOR - F_HOST_ES_SELECTOR; i++)
        v->f[F_HOST_ES_SELECTOR + i] = SEL_DATA;
    v->f[F_HOST_CS_SELECTOR] = SEL_CODE64;
    v->f[F_HOST_TR_SELECTOR] = SEL_TSS;
    v->f[F_HOST_TR_BASE] = desc_tss_base();
    v->f[F_HOST_GDTR_BASE] = desc_gdt_base();
    v->f[F_HOST_IDTR_BASE] = desc_idt_base();
    v->f[F_HOST_CR0] = l1_state.cr0;
    v->f[F_HOST_CR3] = l1_state.cr3;
    v->f[F_HOST_CR4] = l1_state.cr4;
    v->f[F_HOST_PAT] = PAT_RESET;
    v->f[F_HOST_EFER] = l1_state.efer;
    v->f[F_HOST_RIP] = (uint64_t)diff_exit_point;
    v->f[F_HOST_RSP] = diff_exit_stack();
}

static uint32_t allowed(enum vmcs_field controls, uint64_t wanted)
{
    const struct vmx_control_caps *c = caps_of(controls);

    return ((uint32_t)wanted & c->may) | c->must;
}

static void build_controls(struct image *v, const struct l2_config *config)
{
    uint64_t proc2 = (config->ept ? PROC2_EPT : 0) | (config->vpid ? PROC2_VPID : 0) |
                     (config->unrestricted ? PROC2_UNRESTRICTED : 0);
    bool ad = rand_chance(1, 2) && caps.ept_vpid & EPT_CAP_AD;

    v->f[F_PIN_CONTROLS] = allowed(PIN_CONTROLS, PIN_PREEMPTION_TIMER);
    v->f[F_PROC_CONTROLS] = allowed(PROC_CONTROLS, PROC_SECONDARY | PROC_USE_MSR_BITMAPS | PROC_UNCOND_IO);
    v->f[F_PROC2_CONTROLS] = allowed(PROC2_CONTROLS, proc2);
    v->f[F_EXIT_CONTROLS] = allowed(EXIT_CONTROLS, EXITC_HOST_64 | EXITC_SAVE_EFER | EXITC_LOAD_EFER);
    v->f[F_ENTRY_CONTROLS] = allowed(ENTRY_CONTROLS, ENTRY_LOAD_EFER | (in_ia32e(config->mode) ? ENTRY_GUEST_64 : 0));
    v->f[F_MSR_BITMAP] = (uint64_t)l1_pages.msr_bitmap;
    v->f[F_IO_BITMAP_A] = (uint64_t)l1_pages.io_bitmap_a;
    v->f[F_IO_BITMAP_B] = (uint64_t)l1_pages.io_bitmap_b;
    v->f[F_VIRTUAL_APIC_ADDR] = (uint64_t)l1_pages.virtual_apic;
    v->f[F_POSTED_DESC_ADDR] = (uint64_t)l1_pages.virtual_apic; /* no notification ever comes */
    v->f[F_POSTED_VECTOR] = POSTED_VECTOR_UNUSED;
    v->f[F_APIC_ACCESS_ADDR] = (uint64_t)arena_at(AT(PAGE_APIC));
    v->f[F_ENTRY_MSR_LOAD_ADDR] = (uint64_t)l1_pages.entry_load;
    v->f[F_EXIT_MSR_STORE_ADDR] = (uint64_t)l1_pages.exit_store;
    v->f[F_EXIT_MSR_LOAD_ADDR] = (uint64_t)l1_pages.exit_load;
    v->f[F_EPT_POINTER] = arena_eptp(ad);
    v->f[F_VMREAD_BITMAP] = (uint64_t)l1_pages.vmread_bitmap;
    v->f[F_VMWRITE_BITMAP] = (uint64_t)l1_pages.vmwrite_bitmap;
    v->f[F_EPTP_LIST_ADDRESS] = (uint64_t)l1_pages.eptp_list;
    v->f[F_VE_INFO_ADDRESS] = (uint64_t)l1_pages.ve_info;
    v->f[F_PML_ADDRESS] = (uint64_t)l1_pages.pml;
    v->f[F_PML_INDEX] = PML_INDEX_START;
    v->f[F_SPPTP] = arena_spptp();
    v->f[F_VM_FUNCTION_CONTROLS] = rand_chance(1, 2) ? caps.vmfunc : 0;
    v->f[F_VPID] = 1 + rand_below(0xffff);
    v->f[F_PLE_GAP] = 128;
    v->f[F_PLE_WINDOW] = 4096;
    v->f[F_TSC_MULTIPLIER] = BIT(48);
}

void base_build(const struct l2_config *config, struct image *v)
{
    *v = (struct image){0};
    build_controls(v, config);
    build_host(v);
    build_guest(v, config);
}
