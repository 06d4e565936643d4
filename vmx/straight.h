/* The straight way: an exit of L2 that is L1's whatever else it says, and L1's VMRESUME behind it, when nothing came
 * up since that was looked at in full last. vmx/straight.asm does them with L2's and L1's registers in place;
 * nested/quiet makes the plan and says when all is quiet; nested/settle brings Nestor's own state up to date when an
 * exit leaves the straight way. vmx/straight_l1.asm does the usual CPUID, VMREAD and VMWRITE of L1 likewise. A struct
 * straight belongs to its processor; `quiet` may be cleared by any. vmx/, nested/quiet and nested/settle use it. */
#ifndef VMX_STRAIGHT_H
#define VMX_STRAIGHT_H

#include "kernel/percpu.h"
#include "vmx/vcpu.h"
#include "vmx/vmcs.h"

enum straight_row {
#define ROW(field, value) STRAIGHT_##field,
#include "vmx/straight_rows.def"
#undef ROW
    STRAIGHT_ROWS
};
enum {
    STRAIGHT_ROWS_WRITTEN = 0
#define KEPT(field, value)
#define ROW(field, value) +1
#include "vmx/straight_rows.def"
#undef ROW
};

/* Work of straight.asm beside the image: nothing for a vmcs12 of Linux KVM's. */
enum {
    SHAPE_READ_DEBUG = 1 << 0, /* L2 starts with L1's DR7 and IA32_DEBUGCTL */
    SHAPE_READ_PAT = 1 << 1,   /* ... IA32_PAT */
    SHAPE_READ_EFER = 1 << 2,  /* ... IA32_EFER, which must be `l1_efer` still */
    SHAPE_DEBUG = 1 << 3,      /* vmcs02's DR7 and IA32_DEBUGCTL are written at each entry */
    SHAPE_PAT = 1 << 4,
    SHAPE_EFER = 1 << 5,
    SHAPE_TIMER = 1 << 6,     /* the preemption timer's field is not L2's to change */
    SHAPE_NO_VPID = 1 << 7,   /* entry and exit flush */
    SHAPE_KEEP_PAT = 1 << 8,  /* L1 goes on with L2's IA32_PAT */
    SHAPE_KEEP_EFER = 1 << 9, /* ... IA32_EFER, except for LME and LMA */
    SHAPE_NMI = 1 << 10,      /* blocking by NMI is no virtual one of L2's: it stays for L1, and events are looked at */
    SHAPE_PROC = 1 << 11,     /* L1 asked for the interrupt window, or no longer: `proc` is written at the next entry */
    SHAPE_MODE = 1 << 12,     /* the plan is for an L2 in 64-bit mode, which it may have left */
    SHAPE_ENTRY_LIST = 1 << 13, /* L1's entries load MSRs ... */
    SHAPE_EXIT_LISTS = 1 << 14, /* ... and exits store or load some */
    /* Those for which an entry or an exit has something to do, so that one test finds that there is nothing. */
    SHAPE_ENTRY = SHAPE_READ_DEBUG | SHAPE_READ_PAT | SHAPE_READ_EFER | SHAPE_DEBUG | SHAPE_PAT | SHAPE_EFER |
                  SHAPE_TIMER | SHAPE_NO_VPID | SHAPE_NMI | SHAPE_PROC | SHAPE_ENTRY_LIST,
    SHAPE_EXIT =
        SHAPE_TIMER | SHAPE_NO_VPID | SHAPE_KEEP_PAT | SHAPE_KEEP_EFER | SHAPE_NMI | SHAPE_MODE | SHAPE_EXIT_LISTS,
    /* No control that may be 0 is 1, as hypervisors begin: straight.asm has the whole of it without a test. */
    SHAPE_BARE = SHAPE_READ_DEBUG | SHAPE_READ_PAT | SHAPE_READ_EFER | SHAPE_DEBUG | SHAPE_PAT | SHAPE_EFER |
                 SHAPE_NO_VPID | SHAPE_KEEP_PAT | SHAPE_KEEP_EFER | SHAPE_NMI,
};

/* Encodings that the straight VMREAD and VMWRITE of L1 look up: nested/rules/vmcs12.h has a row for each. */
#define STRAIGHT_ENCODINGS 0x8000u

#define STRAIGHT_DIRTY_WORDS 3 /* a bit for each row of vmx/vmcs_fields.def */

/* All that entries and exits of one vmcs12 need. */
struct straight_plan {
    hpa_t vmcs02;
    uint32_t *revision; /* of vmcs02's region, whose highest bit is its type */
    uint64_t reasons;   /* exits of L2, as bits 0 to 63, that are L1's */
    uint64_t shape;
    uint64_t cr0_mask, cr0_kept; /* bits of L2's CR0 that an exit leaves alone; what they are in the image */
    uint64_t efer_kept;          /* LME and LMA of L1 */
    uint64_t dr7, debugctl, pat, efer, l1_efer;
    uint64_t timer; /* vmcs12's */
    uint64_t invvpid_type;
    uint64_t invvpid_l1[2], invvpid_l2[2]; /* descriptors */
    uint64_t proc;                         /* PROC_CONTROLS of vmcs02 */
    const uint8_t
        *msr_page; /* L1's MSR bitmap as it was merged, while all is quiet; NULL: decisions are not made by it */
    uint64_t image[STRAIGHT_ROWS];
    uint64_t mode;    /* ENTRY_GUEST_64 or 0, of L2 when the plan was made */
    bool made, valid; /* nothing that it was made of has changed; the straight way can do it */
    bool plain_ept;   /* and EPT violations of L2: L1 has none of the features that make more of them */
    /* For L1's VMPTRLD and its other instructions: the vmcs12 and its slot, as nested/ has them. */
    gpa_t vmptr;
    const uint32_t *region; /* in L1's memory, whose first word must be `identifier`; a word that never is, else */
    uint32_t identifier;
    void *slot;
    uint64_t *fields; /* its rows ... */
    /* ... which of them L1 wrote since the last entry, and what that touches: nested/slot. */
    uint64_t dirty[STRAIGHT_DIRTY_WORDS];
    uint32_t scope;
    uint64_t used; /* struct straight's clock when it became current last */
    uint64_t
        epoch; /* struct straight's when it was looked at: all is quiet while that is the same, and `quiet` stands */
    uint64_t moves; /* entries and exits of it that are not settled, up to the last VMPTRLD of another */
};

#define STRAIGHT_HELD 8 /* a power of two */

struct straight_current {
    void *slot; /* as in a plan */
    hpa_t shown;
};

/* Of `quiet`. The last: all but the row REVISIT of nested/quiet.def, which straight_ept_enter() is for. */
enum { QUIET_NOT, QUIET_ALL, QUIET_BUT_REVISIT };

/* The answer of straight_ept_exit() of nested/. */
enum straight_violation { VIOLATION_LONG, VIOLATION_OF_L1, VIOLATION_FILLED };

struct straight {
    uint64_t rax, rdx, rcx;     /* the guest's, while straight.asm works */
    struct straight_plan *plan; /* of the current vmcs12; NULL: none */
    uint8_t quiet;              /* QUIET_NOT: the next entry or exit looks at everything */
    uint8_t stop;               /* an NMI came: what is about to enter a guest looks again */
    bool decided;               /* the first of `moves` is an exit that the long way found to be L1's, and counted */
    uint8_t entered;            /* L1 or L2 straight since L1's last VMPTRLD that was not straight itself */
    uint8_t padding[4];
    hpa_t vmcs01;
    uint64_t moves;         /* entries and exits since Nestor's own state was last up to date: they take turns */
    uint64_t moves_then;    /* that at L1's last VMPTRLD since: the plan of each vmcs12 that was left has its part */
    uint64_t epoch;         /* counts how often `quiet` was set: what was known of another vmcs12 before is void */
    uint64_t vmx[7];        /* the same for VMX instructions, in the order of counters_vmx.def; COUNT_VMX=1 only */
    uint64_t by_reason[64]; /* exits of L2 by this way; not in vcpu->exits */
    /* L1's CPUID, VMREAD, VMWRITE, VMPTRLD, INVEPT and INVVPID, likewise in vcpu->exits later: all, and all but
     * VMWRITE. */
    uint64_t l1_exits, cpuids, vmreads, vmptrlds, invepts, invvpids;
    uint64_t plain_leaves;   /* of CPUID, see cpuid_is_plain() */
    uint64_t *fields;        /* the current plan's; NULL: L1's instructions take the long way */
    uint64_t row, reg, word; /* while straight.asm works */
    /* Plans of vmcs12s that were current, by the low bits of the page's number, or an empty one; nested/'s idea of
     * which vmcs12 is current, and what L1 is shown. */
    struct straight_plan *held[STRAIGHT_HELD];
    struct straight_current *current;
    uint64_t clock;       /* counts VMPTRLDs */
    uint64_t eptp_owed;   /* with eptp_is_owed: L1's INVEPT of this EPTP has nothing to do, as L2 was not entered ... */
    bool eptp_is_owed;    /* ... since the one before */
    uint64_t msr_counted; /* of by_reason: accesses to MSRs that are counted elsewhere already */
    uint64_t flags;       /* as `row` */
    /* IA32_SYSENTER_CS, _ESP and _EIP of vmcs01, and whose plan has loaded them by the long way; NULL: somebody has
     * written them since. */
    uint64_t sysenter[3];
    const struct straight_plan *sysenter_of;
};

static inline struct straight *straight_of(struct cpu *cpu)
{
    _Static_assert(sizeof(struct straight) <= sizeof(cpu->straight), "STRAIGHT_WORDS");
    return (struct straight *)cpu->straight;
}

/* True if L2 runs. vcpu->in_l2 says which level it was before the moves. */
static inline bool straight_in_l2(const struct vcpu *vcpu)
{
    return vcpu->in_l2 ^ (straight_of(vcpu->cpu)->moves & 1);
}

/* Exits of a level (0: L1, 1: L2) for a basic reason, by whatever way. */
static inline uint64_t straight_exits(const struct vcpu *vcpu, unsigned level, unsigned reason)
{
    uint64_t straight = level && reason < 64 ? straight_of(vcpu->cpu)->by_reason[reason] : 0;
    return vcpu->exits[level][reason] + straight;
}

/* In straight.asm: the rest of an exit of L2, or of L1's VMRESUME, of which the long way has asked what the straight
 * one would have. Where entry.asm goes for enum vcpu_next, with the guest's registers. */
void straight_to_l1(void);
void straight_to_l2(void);

/* True if vmcs01 has the IA32_SYSENTER MSRs that an exit by this plan loads: they are its own, or the same. */
bool straight_same_sysenter(const struct straight *straight, const struct straight_plan *plan);
static inline bool straight_has_sysenter(const struct straight *straight, const struct straight_plan *plan)
{
    return straight->sysenter_of == plan || straight_same_sysenter(straight, plan);
}

/* A condition of nested/quiet.def may have changed. By any processor, after the change. */
void straight_disturb(struct cpu *cpu);

/* In straight.asm: where exits of L1 and of L2 arrive (HOST_RIP of vmcs01 and of each vmcs02), and the ends of the
 * straight ways that an NMI must make look again: pairs of first and last address. */
void straight_exit_l1(void);
void straight_exit_l2(void);
extern const uint64_t straight_ends[][2];
extern const uint64_t straight_ends_count;

#endif
