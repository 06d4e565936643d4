/* The start of nested VMX on a processor: memory for the slots, for EPT02 and for the merged bitmaps, and the
 * functions by which vmx/ reaches this folder. Until it has run, each VMX instruction of L1 is #UD. */
#include "nested/nested.h"

#include "kernel/cmdline.h"
#include "kernel/log.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "nested/bitmap/merged_dump.h"
#include "nested/bitmap/merged_wrong.h"
#include "nested/enlightened.h"
#include "nested/enter.h"
#include "nested/evmcs/evmcs.h"
#include "nested/exit.h"
#include "nested/insn.h"
#include "nested/l2_ept.h"
#include "nested/prepare.h"
#include "nested/quiet.h"
#include "nested/settle.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "nested/window.h"
#include "vmx/exit_handlers.h"
#include "vmx/hooks.h"
#include "vmx/run.h"

/* All processors' EPT02s may take this fraction of the pages that are free when they start. */
#define EPT02_SHARE 2

/* The slots in which vmx/ calls up into nested/: handlers of VMX instructions of L1, and the hooks around exits of L2.
 * All processors write the same values. */
static void register_handlers(void)
{
    exit_handlers[EXIT_VMXON] = insn_exit_vmxon;
    exit_handlers[EXIT_VMXOFF] = insn_exit_vmxoff;
    exit_handlers[EXIT_VMCLEAR] = insn_exit_vmclear;
    exit_handlers[EXIT_VMPTRLD] = insn_exit_vmptrld;
    exit_handlers[EXIT_VMPTRST] = insn_exit_vmptrst;
    exit_handlers[EXIT_VMLAUNCH] = insn_exit_vmlaunch;
    exit_handlers[EXIT_VMRESUME] = insn_exit_vmresume;
    exit_handlers[EXIT_VMCALL] = insn_exit_vmcall;
    exit_handlers[EXIT_INVEPT] = insn_exit_invept;
    exit_handlers[EXIT_INVVPID] = insn_exit_invvpid;
    nested_hooks = (struct nested_hooks){
        .straight_to_l1 = nested_straight_to_l1,
        .straight_resume = nested_resume_straight,
        .straight_settle = straight_settle,
        .invept_usual = insn_invept_usual,
        .invvpid_usual = insn_invvpid_usual,
        .vmptrld_usual = insn_vmptrld_usual,
        .straight_ready = straight_ready,
        .straight_checked = straight_checked,
        .exit_from_l2 = nested_exit_from_l2,
        .field_access = insn_field_access,
        .entry_failed = nested_late_failure,
        .nmi_in_l2 = nested_nmi_in_l2,
        .init_to_l1 = nested_init_to_l1,
        .sipi_to_l1 = nested_sipi_to_l1,
        .l2_translate = l2_translate,
        .close_l2_page = l2_close_page,
        .l0_handled_l2 = nested_l0_handled_l2,
        .l2_completed = nested_l2_completed,
        .inspect = window_word,
        .vp_assist_changed = enlightened_vp_assist_changed,
    };
}

/* L0's half of each merge: the policy for MSRs, which a test may change while L2 runs, and the two I/O bitmaps, which
 * never change. */
int nested_init_shared(struct merged_cache *cache, const struct vm *vm)
{
    static const uint64_t never_changes = 1;
    uint8_t *ones = page_alloc();
    if (!ones)
        return -1;
    merged_cache_init(cache, &vm->gmem, vm->gmem.watch);
    cache->l0[MERGED_MSR] = (struct merged_l0){vm->msr_bitmap, &vm->msr_policy_generation};
    cache->l0[MERGED_IO_A] = (struct merged_l0){vm->io_bitmap_a, &never_changes};
    cache->l0[MERGED_IO_B] = (struct merged_l0){vm->io_bitmap_b, &never_changes};
    cache->vm = vm;
    cache->ones = memset(ones, 0xff, PAGE_SIZE);
    cache->merge = merged_wrong_choose();
    cache->evict = slot_forget_bitmap;
    cache->told = options.bitmap_dump ? merged_dump_merge : NULL;
    return 0;
}

/* Each processor brings room for as many merged bitmaps as the option says. */
static int add_bitmaps(struct nested *nested, struct merged_cache *cache)
{
    unsigned count = (unsigned)options.bitmap_cache;
    struct merged *entries = page_alloc_run((count * sizeof(*entries) + PAGE_SIZE - 1) / PAGE_SIZE);
    if (!entries)
        return -1;
    merged_cache_add(cache, entries, count);
    nested->bitmaps = cache;
    nested->bitmap_owner.context = nested;
    return 0;
}

int nested_init(struct vcpu *vcpu, struct ept02_shared *shared, struct merged_cache *bitmaps)
{
    const unsigned pages = (sizeof(struct nested) + PAGE_SIZE - 1) / PAGE_SIZE;
    struct nested *nested = page_alloc_run(pages);
    uint8_t *scratch = page_alloc();
    /* Each processor may take its part of half the free pages for EPT02; the rest is for VMCSs and bitmaps. */
    unsigned share = (unsigned)(page_count_free() / EPT02_SHARE / MAX(percpu_count, 1));
    if (!nested || !scratch || add_bitmaps(nested, bitmaps) ||
        ept02_init(&nested->ept02s, shared, &vcpu->vm->caps12, share) ||
        ((vcpu->vm->caps12.proc2.may & PROC2_SPP) && sppt02_init(&nested->sppt02))) {
        log_err("nested", "no memory for nested VMX: give Nestor more by the option memory=MIB");
        return -1;
    }
    nested->vcpu = vcpu;
    nested->scratch_page = scratch;
    nested->vmxon_pointer = VMPTR_NONE;
    nested->ept02s.cpu = vcpu->cpu;
    for (unsigned i = 0; i < NESTED_SLOTS; i++)
        nested->slot[i].vmptr = VMPTR_NONE;
    prepare_init(nested);
    slot_init();
    evmcs_init();
    if (shadow_init(nested)) {
        log_err("nested", "no memory for VMCS shadowing: give Nestor more by the option memory=MIB");
        return -1;
    }
    straight_init(nested);
    /* Last: what other processors see through this pointer is complete. */
    vcpu->nested = nested;
    register_handlers();
    return 0;
}
