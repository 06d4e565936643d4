#include "guests/lib/features.h"

#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/posted.h"

#define VECTOR_NOTIFICATION 0xf2
#define PKRS_VALUE 0x55555554
#define UINV_VALUE 0x21
#define TSC_MULTIPLIER_ONE BIT(48)

static bool tertiary(uint64_t bit)
{
    return vm_control_offered(PROC_CONTROLS, (uint32_t)PROC_TERTIARY) && (cpu_rdmsr(IA32_VMX_PROCBASED_CTLS3) & bit);
}

static bool has_posted(void)
{
    return vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_POSTED_INTERRUPTS) &&
           vm_control_offered(PROC2_CONTROLS, (uint32_t)(PROC2_X2APIC | PROC2_VIRTUAL_INTERRUPTS));
}

static void post(struct vm *vm)
{
    void *virtual_apic = page_alloc();

    (void)vm;
    posted_on(virtual_apic, page_alloc(), VECTOR_NOTIFICATION);
}

static bool has_mode_based(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_MODE_BASED_EXECUTE);
}

static void execute_by_mode(struct vm *vm)
{
    if (!vm->ept)
        return;
    ept_open_to_users(vm->ept);
    vm_secondary_set((uint32_t)PROC2_MODE_BASED_EXECUTE);
}

static bool has_sub_pages(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_SPP);
}

static void permit_sub_pages(struct vm *vm)
{
    if (!vm->ept)
        return;
    vmx_set(SPPTP, (uint64_t)page_alloc());
    vm_secondary_set((uint32_t)PROC2_SPP);
}

static bool has_cet(void)
{
    return vm_control_offered(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_CET);
}

/* The fields are 0: neither shadow stacks nor branch tracking. */
static void load_cet(struct vm *vm)
{
    (void)vm;
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_CET);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_LOAD_CET);
}

static bool has_pkrs(void)
{
    return vm_control_offered(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_PKRS);
}

static void load_pkrs(struct vm *vm)
{
    (void)vm;
    vmx_set(GUEST_PKRS, PKRS_VALUE);
    vmx_set(HOST_PKRS, cpu_rdmsr(IA32_PKRS));
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_PKRS);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_LOAD_PKRS);
}

static bool has_uinv(void)
{
    return vm_control_offered(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_UINV);
}

static void load_uinv(struct vm *vm)
{
    (void)vm;
    vmx_set(GUEST_UINV, UINV_VALUE);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_UINV);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_CLEAR_UINV);
}

static bool has_user_wait(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_USER_WAIT);
}

static void let_wait(struct vm *vm)
{
    (void)vm;
    vm_secondary_set((uint32_t)PROC2_USER_WAIT);
}

static bool has_spec_ctrl(void)
{
    return tertiary(PROC3_SPEC_CTRL);
}

static void turn_tertiary_on(uint64_t bit)
{
    bool has = vmx_get(PROC_CONTROLS) & PROC_TERTIARY;

    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TERTIARY);
    vmx_set(PROC3_CONTROLS, (has ? vmx_get(PROC3_CONTROLS) : 0) | bit);
}

static void virtualize_spec_ctrl(struct vm *vm)
{
    (void)vm;
    turn_tertiary_on(PROC3_SPEC_CTRL);
    vmx_set(SPEC_CTRL_MASK, 0);
    vmx_set(SPEC_CTRL_SHADOW, cpu_rdmsr(IA32_SPEC_CTRL));
}

static bool has_host_spec_ctrl(void)
{
    return vm_control_offered(EXIT_CONTROLS, (uint32_t)EXITC_SECONDARY) &&
           (cpu_rdmsr(IA32_VMX_EXIT_CTLS2) & EXIT2_LOAD_SPEC_CTRL);
}

static void load_host_spec_ctrl(struct vm *vm)
{
    (void)vm;
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_SECONDARY);
    vmx_set(EXIT2_CONTROLS, EXIT2_LOAD_SPEC_CTRL);
    vmx_set(HOST_SPEC_CTRL, cpu_rdmsr(IA32_SPEC_CTRL));
}

static bool has_lists(void)
{
    return tertiary(PROC3_MSR_LIST);
}

static void let_lists(struct vm *vm)
{
    (void)vm;
    turn_tertiary_on(PROC3_MSR_LIST);
}

static bool has_scaling(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_TSC_SCALING);
}

static void scale_by_one(struct vm *vm)
{
    (void)vm;
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TSC_OFFSETTING);
    vmx_set(TSC_MULTIPLIER, TSC_MULTIPLIER_ONE);
    vm_secondary_set((uint32_t)PROC2_TSC_SCALING);
}

static const struct {
    const char *name;
    bool (*offered)(void);
    void (*on)(struct vm *);
} features[] = {
    {"posted interrupts", has_posted, post},
    {"mode-based execute control", has_mode_based, execute_by_mode},
    {"sub-page write permissions", has_sub_pages, permit_sub_pages},
    {"CET", has_cet, load_cet},
    {"PKRS", has_pkrs, load_pkrs},
    {"UINV", has_uinv, load_uinv},
    {"user wait", has_user_wait, let_wait},
    {"SPEC_CTRL virtualization", has_spec_ctrl, virtualize_spec_ctrl},
    {"host SPEC_CTRL", has_host_spec_ctrl, load_host_spec_ctrl},
    {"MSR lists", has_lists, let_lists},
    {"TSC scaling", has_scaling, scale_by_one},
};

void features_on(struct vm *vm)
{
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        if (features[i].offered())
            features[i].on(vm);
}

void features_print(void)
{
    print("# features:");
    for (unsigned i = 0, count = 0; i < ARRAY_SIZE(features); i++)
        if (features[i].offered())
            print("%s %s", count++ ? "," : "", features[i].name);
    print("\n");
}
