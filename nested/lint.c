/* Nestor is more lenient than the CPUs that L1 may meet elsewhere, where the SDM leaves a choice or calls the result
 * undefined. With lint=1 it says so. Nothing here changes what L1 gets: each function looks, writes a line, and
 * returns; each finding is said once, by the first processor that makes it. */
#include "nested/lint.h"

#include "kernel/cmdline.h"
#include "kernel/log.h"
#include "nested/ept02/ept02_stale.h"
#include "vmx/vmcs.h"

enum finding {
    NOT_CLEARED,       /* VMPTRLD of a region that no VMCLEAR has initialised */
    ACTIVE_ELSEWHERE,  /* VMPTRLD of a VMCS that is active on another processor, too */
    REGION_TOUCHED,    /* a plain store to the region of an active VMCS */
    READ_ONLY_WRITTEN, /* VMWRITE of a read-only field, which not every CPU takes */
    JUNK_POINTER,      /* a page's address with bits that are ignored only while its control is off */
    NO_INVVPID,        /* a second VMCS runs under a VPID of another, with no INVVPID in between */
    NO_INVEPT,         /* EPT12 changed under an EPTP that stayed */
};

/* Leaves of EPT02 that are compared: so many at first, then so many before each entry, as L1's timers run on. */
#define LEAVES_AT_FIRST 4096u
#define LEAVES_EACH 16u

static uint64_t said; /* findings as bits, by any processor */

/* True for the one processor that finds the bit clear. */
static bool first_time(enum finding finding)
{
    return !(__atomic_fetch_or(&said, BIT(finding), __ATOMIC_RELAXED) & BIT(finding));
}

/* Runs under the watch lock, on whichever processor stores. */
static void region_touched(struct watcher *w)
{
    if (first_time(REGION_TOUCHED))
        log_warn("lint",
                 "the VMCS region at gpa1=%lx is written by a store while it is active: a CPU may keep it elsewhere; "
                 "use VMWRITE, or VMCLEAR it first; SDM 3C 25.11.1",
                 w->page);
}

/* Another processor's slots may change meanwhile: a guess at worst, and that processor is wrong as well then. */
static bool active_elsewhere(const struct nested *nested, gpa_t vmptr)
{
    const struct vm *vm = nested->vcpu->vm;

    for (unsigned i = 0; i < vm->vcpus; i++) {
        const struct nested *other = vm->vcpu[i]->nested;
        for (unsigned k = 0; other && other != nested && k < NESTED_SLOTS; k++)
            if (__atomic_load_n(&other->slot[k].vmptr, __ATOMIC_RELAXED) == vmptr)
                return true;
    }
    return false;
}

/* The region is watched for stores from here on. While a VMCS is active, software has to use VMREAD and VMWRITE. SDM 3C
 * 25.11.1 "Software Use of Virtual-Machine Control Structures" */
void lint_loaded(struct nested *nested, struct vmcs12_slot *slot)
{
    if (!options.lint)
        return;
    if (slot->v->cleared != LINT_CLEARED && first_time(NOT_CLEARED))
        log_warn(
            "lint",
            "VMPTRLD of the region at gpa1=%lx, which no VMCLEAR has initialised: its launch state and all fields are "
            "undefined on a CPU; SDM 3C 25.11.3 \"Initializing a VMCS\"",
            slot->vmptr);
    if (active_elsewhere(nested, slot->vmptr) && first_time(ACTIVE_ELSEWHERE))
        log_warn("lint",
                 "VMPTRLD of the VMCS at gpa1=%lx, which is active on another processor: VMCLEAR it there first; "
                 "SDM 3C 25.11.1 \"Software Use of Virtual-Machine Control Structures\"",
                 slot->vmptr);
    struct watcher *w = &nested->region[slot - nested->slot];
    w->stale = region_touched;
    if (ept_watch_add(nested->vcpu->vm->gmem.watch, slot->vmptr, w))
        w->stale = NULL; /* no RAM: nobody tells */
}

void lint_released(struct nested *nested, struct vmcs12_slot *slot)
{
    if (options.lint)
        ept_watch_remove(nested->vcpu->vm->gmem.watch, &nested->region[slot - nested->slot]);
}

void lint_read_only(const struct vcpu *vcpu, unsigned row)
{
    if (options.lint && first_time(READ_ONLY_WRITTEN))
        log_warn("lint",
                 "VMWRITE of the read-only field %s at rip=%lx: it works, as IA32_VMX_MISC[29] is 1 here, and is "
                 "VMfail 13 on other CPUs; SDM 3C 31.3",
                 vmcs_fields[row].name, vcpu->exit.rip);
}

/* Fields that hold the address of a page, and what makes the CPU look at it. */
static const struct {
    uint8_t row, controls;
    uint32_t bit;
} pointers[] = {
#define POINTER(field, word, control)                                                                                  \
    {                                                                                                                  \
        FIELD_INDEX_##field, FIELD_INDEX_##word, (uint32_t)(control)                                                   \
    }
    POINTER(IO_BITMAP_A, PROC_CONTROLS, PROC_USE_IO_BITMAPS),
    POINTER(IO_BITMAP_B, PROC_CONTROLS, PROC_USE_IO_BITMAPS),
    POINTER(MSR_BITMAP, PROC_CONTROLS, PROC_USE_MSR_BITMAPS),
    POINTER(VIRTUAL_APIC_ADDR, PROC_CONTROLS, PROC_TPR_SHADOW),
    POINTER(APIC_ACCESS_ADDR, PROC2_CONTROLS, PROC2_APIC_ACCESS),
    POINTER(EPT_POINTER, PROC2_CONTROLS, PROC2_EPT),
    POINTER(VMREAD_BITMAP, PROC2_CONTROLS, PROC2_VMCS_SHADOWING),
    POINTER(VMWRITE_BITMAP, PROC2_CONTROLS, PROC2_VMCS_SHADOWING),
    POINTER(SPPTP, PROC2_CONTROLS, PROC2_SPP),
    POINTER(PML_ADDRESS, PROC2_CONTROLS, PROC2_PML),
    POINTER(VE_INFO_ADDRESS, PROC2_CONTROLS, PROC2_EPT_VE),
#undef POINTER
};

/* A pointer is wrong if it could never pass the entry's checks: not of a page, or beyond the address width. An EPTP has
 * flags in its low bits. With the control on, the checks themselves speak. */
void lint_launch(const struct vcpu *vcpu, const struct vmcs12 *v)
{
    for (unsigned i = 0; options.lint && i < ARRAY_SIZE(pointers); i++) {
        uint64_t value = v->field[pointers[i].row], word = v->field[pointers[i].controls];
        bool on = (pointers[i].controls == FIELD_INDEX_PROC_CONTROLS ? word : vmcs12_proc2(v)) & pointers[i].bit;
        bool junk = (pointers[i].row != FIELD_INDEX_EPT_POINTER && !IS_ALIGNED(value, PAGE_SIZE)) ||
                    value >> vcpu->vm->caps12.address_bits;
        if (!on && junk && first_time(JUNK_POINTER))
            log_warn("lint",
                     "VMLAUNCH with %s = %lx, no address of a page: nothing looks at it while bit %u of %s is 0, and "
                     "the entry fails once it is 1",
                     vmcs_fields[pointers[i].row].name, value, (unsigned)__builtin_ctz(pointers[i].bit),
                     vmcs_fields[pointers[i].controls].name);
    }
}

/* A mapping that EPT02 still has a CPU might have as well. After an INVEPT nothing of that is left. */
static void find_stale(struct nested *nested, const struct vmcs12_slot *slot)
{
    struct ept02_stale stale;

    /* L1 has stored to none of its tables, or it was told. */
    if (!slot->root || !slot->root->dirty || (__atomic_load_n(&said, __ATOMIC_RELAXED) & BIT(NO_INVEPT)))
        return;
    nested->lint_spent -= MIN(nested->lint_spent, LEAVES_EACH);
    unsigned leaves = LEAVES_AT_FIRST - nested->lint_spent;
    bool found = ept02_find_stale(&nested->ept02s, slot->root, slot->eptp12, &nested->lint_from, &leaves, &stale);
    nested->lint_spent = LEAVES_AT_FIRST - leaves;
    if (found && first_time(NO_INVEPT))
        log_warn("lint",
                 "the VMCS at gpa1=%lx is entered, and gpa2=%lx %s: the level-%u entry at gpa1=%lx of EPT12 is %lx, "
                 "and L1 executed no INVEPT since: a CPU may go on with what it was; SDM 3C 29.4.3.4",
                 slot->vmptr, stale.gpa2, stale.what, stale.level, stale.where, stale.entry);
}

static void check_vpid(struct nested *nested, const struct vmcs12_slot *slot)
{
    uint16_t vpid12 = (uint16_t)slot->v->VPID;
    uint32_t proc2 = vmcs12_proc2(slot->v);
    struct lint_vpid *used = &nested->lint_vpid[vpid12 % ARRAY_SIZE(nested->lint_vpid)];
    uint64_t ep4ta = proc2 & PROC2_EPT ? slot->v->EPT_POINTER & EP4TA : 0;

    if (!(proc2 & PROC2_VPID))
        return;
    if (used->vpid12 == vpid12 && used->vmptr != slot->vmptr && used->ep4ta == ep4ta && first_time(NO_INVVPID))
        log_warn("lint",
                 "the VMCS at gpa1=%lx is entered with VPID %u, as the one at gpa1=%lx was before, without INVVPID in "
                 "between: a CPU may use that one's translations; SDM 3C 29.4.3.1",
                 slot->vmptr, vpid12, used->vmptr);
    *used = (struct lint_vpid){.vpid12 = vpid12, .vmptr = slot->vmptr, .ep4ta = ep4ta};
}

void lint_enter(struct nested *nested, const struct vmcs12_slot *slot)
{
    find_stale(nested, slot);
    check_vpid(nested, slot);
}

void lint_invvpid(struct nested *nested, uint16_t vpid12)
{
    for (unsigned i = 0; options.lint && i < ARRAY_SIZE(nested->lint_vpid); i++)
        if (!vpid12 || nested->lint_vpid[i].vpid12 == vpid12)
            nested->lint_vpid[i].vpid12 = 0;
}
