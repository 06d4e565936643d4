/* The state of nested VMX of one virtual processor: whether L1 is in VMX operation, its VMCSs that Nestor holds, and
 * what belongs to each.
 * nested_init() once per processor. All of it belongs to that processor; the watchers inside are told by ept_watch
 * under its lock. Only nested/ looks inside. */
#ifndef NESTED_NESTED_H
#define NESTED_NESTED_H

#include "nested/bitmap/slot_bitmaps.h"
#include "nested/ept02/ept02.h"
#include "nested/ept02/sppt02.h"
#include "nested/msr_area.h"
#include "nested/rules/caps12.h"
#include "nested/rules/check_scope.h"
#include "nested/rules/vmcs12.h"
#include "vmx/straight.h"
#include "vmx/vcpu.h"

#ifndef NESTED_SLOTS
#define NESTED_SLOTS 64
#endif
#ifndef KEPT_SLOTS
#define KEPT_SLOTS 8
#endif
#define VMPTR_NONE (~0ull)
#define LOGGED_KEPT 8
#define REVISIT_VIOLATION 1
#define REVISIT_LOGGED 2
#define DIRTY_WORDS ((FIELD_COUNT + 63) / 64)
_Static_assert(DIRTY_WORDS == STRAIGHT_DIRTY_WORDS, "straight_plan.dirty");
_Static_assert(sizeof(check_scope_t) == sizeof(((struct straight_plan *)0)->scope), "straight_plan.scope");

/* L1's state after an exit, as far as it is no copy of vmcs12's host-state area. nested/host_state.c */
struct host_image {
    bool ready; /* the host-state area and VM-exit controls are as they were when the rest was computed */
    bool host64;
    uint64_t cr0; /* without the bits that exits leave alone */
    uint64_t cr4, cr4_shadow;
    uint64_t entry_controls; /* of vmcs01 */
};

/* The preemption timer runs, and its field is not L2's to change. */
#define KEPT_TIMER 1
/* L1 has IA32_PERF_GLOBAL_CTRL saved. */
#define KEPT_PERF 2
/* vmcs02's exits leave registers alone that L1's change: nested/switched. */
#define KEPT_SWITCHED 4
/* Exits write an enlightened VMCS. */
#define KEPT_ENLIGHTENED 8
/* Bits of `at_entry`. nested/switched gives vmcs02 IA32_PERF_GLOBAL_CTRL. */
#define AT_ENTRY_PERF 2
#define AT_ENTRY_SVI 4  /* SVI is to be remembered: watches_svi */
#define AT_ENTRY_LINT 8 /* nested/lint looks */
#define AT_ENTRY_SPP 16 /* L2 has sub-page permissions: `sppt02` must be of its SPPTP */
#define SWITCHED_COUNT 5

/* The life of a vmcs02 while its slot is taken:
 *
 *         slot_load()         entry of L1                    exit to L1, or the entry failed
 *   FREE -----------> EMPTY --------------> ACTIVE ------------------------------------------> SHADOW
 *                                             ^                                                   |
 *                                             '---------------- next entry of L1 -----------------'
 *
 * Where vmcs02 is not shown to L1, CLEAR and LAUNCHED stand in the place of SHADOW. The slot's end leads from each
 * back to FREE; VMCLEAR of L1 from ACTIVE or LAUNCHED to CLEAR, and leaves the others. nested/slot, nested/enter and
 * nested/shadow change it; nested/settle, what vmx/straight.asm has changed. */
enum vmcs02_life {
    VMCS02_FREE,
    VMCS02_EMPTY,    /* made, launch state clear; Nestor's constant fields are not in it yet */
    VMCS02_ACTIVE,   /* current, as vcpu->in_l2 says; its launch state is vcpu->launched */
    VMCS02_SHADOW,   /* its region is of the shadow type, not active, launch state clear: L1 may be shown it */
    VMCS02_CLEAR,    /* an ordinary one, of which L1 sees nothing; the next entry is a VMLAUNCH of Nestor's ... */
    VMCS02_LAUNCHED, /* ... or a VMRESUME */
};

/* One VMCS of L1 that was loaded by VMPTRLD and not cleared since, with the vmcs02 that runs its L2. */
struct vmcs12_slot {
    /* nested/slot: made, and freed. */
    gpa_t vmptr;      /* VMPTR_NONE: free, or left by VMCLEAR, ... */
    gpa_t cleared;    /* ... which was of this one */
    struct vmcs12 *v; /* NULL: free */
    hpa_t vmcs02;
    bool enlightened; /* an enlightened VMCS: what L1 sees of it is in its memory */

    /* Writes of L1 since the last entry: slot_set_dirty() notes them in plan.dirty and plan.scope, and the entry takes
     * them away. A fresh slot has all set. */
    check_scope_t direct;   /* the scope of rows that it wrote to vmcs02 itself, as far as shadow_fetch() saw */
    bool checked_long_mode; /* L1's mode at the last entry that passed the checks */
    uint64_t checked_cr3;   /* L2's CR3 when the checks looked at it last, and it passed */

    /* Where L2's state is: nested/prepare, nested/shadow. */
    uint64_t live[DIRTY_WORDS]; /* LAZY rows whose value is vmcs02's: prepare_fetch_rows() brings them to `v` */
    bool unread;                /* the last exit was a straight one: prepare_fetch_unread() */
    bool mirrored;              /* vmcs02 says what vmcs12 says, and L1 may see it */
    bool was_launched;          /* nested/enter: vmcs12's launch state before the entry under way */
    bool entered_straight;      /* that entry was a straight one: vmcs02 alone has L2's state */
    enum vmcs02_life life;
    struct small_shadow *small; /* nested/small_shadow: what L1 is shown in the place of vmcs02, ... */
    hpa_t small_shown;          /* ... from its first exit on; 0: not */

    /* Computed of vmcs12's controls whenever L1 wrote one: nested/prepare, nested/host_state. */
    struct host_image host;
    struct straight_plan plan; /* its image is host_state_load()'s, too, while host.ready; the rest: nested/quiet */
    uint64_t straight;         /* for vcpu->l2_straight */
    bool apic_access;          /* the same: APIC accesses are virtualised, on EPT01 */
    bool tpr_shadow;           /* the TPR threshold counts */
    bool watches_svi;          /* virtual interrupts are delivered, and option virtual-vectoring=svi */
    uint8_t svi_seen;          /* SVI when L2 was entered last */
    bool nmi_unvirtual;        /* NMIs exit, and L2 has no virtual blocking of them */
    bool nmi_blocked;          /* with these controls: L2 runs with NMIs blocked, which it cannot end */
    uint8_t kept;              /* KEPT_: what an exit does beside saving the registers */
    uint8_t at_entry;          /* AT_ENTRY_: what an entry does beside writing what L1 wrote; seldom anything */
    uint64_t eptp02;           /* as written to vmcs02 */
    uint16_t vpid02;           /* the same; 0: none yet */
    /* The origin of eptp02, while ept02s.roots_changed stands. */
    uint64_t eptp12, roots_seen;
    struct ept02_root *root; /* NULL: EPT01 serves this L2 */

    struct slot_bitmaps bitmaps; /* nested/bitmap/ alone looks inside */

    /* nested/l2_ept: what EPT02 may have wrong when L1 goes on, see l2_ept_prefill(). */
    uint8_t revisit;           /* REVISIT_ */
    gpa_t violation_gpa2;      /* REVISIT_VIOLATION: L1 was told of this one, and has not gone on since */
    uint64_t violation_access; /* EPT_QUAL_READ, _WRITE, _FETCH */
    unsigned logged;           /* REVISIT_LOGGED: pages that L2 made dirty since L1 went on, the last ones */
    gpa_t logged_gpa2[LOGGED_KEPT];
};

struct nested {
    /* Constant after nested_init(). */
    struct vcpu *vcpu;
    uint8_t *scratch_page;                   /* where hardware writes of L2 go when L1 named no RAM */
    uint8_t *vmread_bitmap, *vmwrite_bitmap; /* for L1; NULL: vmcs02 is not shown to it */
    bool shows, small;                       /* L1 is shown something; not vmcs02 but copies: vmcs-shadowing=small */
    uint64_t field_offered[DIRTY_WORDS];     /* rows that the CPU has: nested/prepare */
    uint64_t rows_shown[DIRTY_WORDS];        /* that vmread_bitmap opens: nested/shadow */

    /* L1's own VMX state: nested/insn. */
    bool vmxon;
    gpa_t vmxon_pointer;
    struct vmcs12_slot *current; /* NULL: no current VMCS */
    hpa_t shown;                 /* vmcs01's link pointer; 0: nothing is shown (nested/shadow) */
    bool left_as_loaded;         /* L1's last entry left CS and interruptibility as an exit loads them */
    bool launch_state_lost;      /* an enlightened VMCS had to make room: nested/slot */
    uint64_t eptp12_valid;       /* an operand of INVEPT that passed the check: nested/insn_invalidate */
    uint16_t vpid_owner[64];     /* nested/vpid12.c: which vpid12 a hardware VPID serves */
    struct lint_vpid {
        uint16_t vpid12; /* 0: none, or INVVPID came since */
        gpa_t vmptr;     /* of the VMCS that was entered with it last */
        uint64_t ep4ta;
    } lint_vpid[64]; /* nested/lint: by the low bits of vpid12 */

    /* L1's VMCSs: nested/slot. What other processors may write to is inside the two lists, which mm/ guards. */
    struct vmcs12_slot slot[NESTED_SLOTS];
    unsigned slots_taken, slots_kept;             /* those that VMCLEAR left are not taken; KEPT_SLOTS at most */
    struct ept_bypass virtual_apic[NESTED_SLOTS]; /* L1's page that the slot's vmcs02 has as virtual-APIC page */
    struct ept_bypass posted[NESTED_SLOTS];       /* the same, with its posted-interrupt descriptor */
    struct watcher region[NESTED_SLOTS];          /* the slot's VMCS region, with the option lint=1 */
    gpa_t lint_from;                              /* where nested/lint goes on to compare EPT02, */
    unsigned lint_spent;                          /* and what it has done of that too lately */
    struct ept_pin apic_access[NESTED_SLOTS];     /* the slot's APIC-access page, when EPT01 serves its L2 */

    /* Tables and bitmaps of L2: nested/ept02/ and nested/bitmap/ alone look inside, and have their own locks and
     * watchers. */
    struct ept02s ept02s;
    struct sppt02 sppt02;         /* where L1 is offered sub-page permissions: nested/l2_ept, nested/prepare */
    struct merged_cache *bitmaps; /* all processors' */
    struct merged_owner bitmap_owner;

    uint32_t switched_due;             /* nested/switched: entry controls that vmcs01 needs once, ... */
    uint64_t switched[SWITCHED_COUNT]; /* ... and L2's values by then */
    bool loads_once;                   /* vmcs01 has such controls: an exit to L1 must write them again */

    struct msr_refusal refusal; /* of the last list of MSRs that failed: nested/msr_area */
    struct msr_undo msr_undo;   /* of the last list that was loaded straight: nested/straight_lists */
};
/* vmx/straight_l1.asm has its VMPTRLD change both. */
_Static_assert(offsetof(struct nested, shown) - offsetof(struct nested, current) ==
                   offsetof(struct straight_current, shown) - offsetof(struct straight_current, slot),
               "struct straight_current");

/* L1's EPTP as nested/ept02 takes it: with the meaning of X. Of the L2 that runs, slot->eptp12 is that. */
static inline uint64_t l2_eptp12(const struct vmcs12 *v)
{
    return v->EPT_POINTER | (vmcs12_proc2(v) & PROC2_MODE_BASED_EXECUTE ? EPTP12_MODE_BASED : 0);
}
/* True if EPT02 was made of L1's EPTP as it is now; another control asks for prepare_eptp() by itself, so
 * EPTP12_MODE_BASED is not looked at. */
static inline bool l2_eptp_stands(const struct vmcs12_slot *slot)
{
    return !((slot->eptp12 ^ slot->v->EPT_POINTER) << 1);
}

/* The part that the processors of one VM share: `*bitmaps` is all 0. Before nested_init(). 0, or -1 when pages run
 * out. */
MUST_CHECK int nested_init_shared(struct merged_cache *bitmaps, const struct vm *vm);
/* Registers the handlers of the VMX instructions and the hooks of vmx/run, and makes vcpu->nested. Current: vmcs01.
 * 0, or -1 when pages run out. */
MUST_CHECK int nested_init(struct vcpu *vcpu, struct ept02_shared *shared, struct merged_cache *bitmaps);

#endif
