/* One virtual processor of L1: its registers, the snapshot of its last exit, what it waits for.
 * start/processors.c makes it, all 0. It belongs to the processor that runs it, except what any processor may set:
 * `requests`, `sipi_vector`, `waiting` and `attention`, without a lock.
 * vmx/ and nested/ work on it. */
#ifndef VMX_VCPU_H
#define VMX_VCPU_H

#include "kernel/base.h"
#include "kernel/percpu.h"
#include "kernel/spinlock.h"
#include "mm/ept.h"
#include "mm/ept_watch.h"
#include "mm/gmem.h"
#include "mm/memmap.h"
#include "vmx/caps.h"
#include "vmx/cpuid_policy.h"
#include "vmx/hyperv.h"
#include "vmx/vmcs.h"
#include "vmx/vmexit.h"

/* The state that all virtual processors of L1 share. */
struct vm {
    struct memmap map; /* L1's view of physical memory */
    struct ept ept01;
    struct ept_watch watch;
    struct gmem gmem;
    struct vmx_caps caps;
    uint8_t *msr_bitmap;            /* L0's policy as a page, for L2; vmx/msr_guest.c */
    uint8_t *msr_bitmap01;          /* the same and the writes that are watched of L1; vmcs01's */
    uint64_t msr_policy_generation; /* moves after each change of the page; read without the lock */
    struct spinlock msr_policy_lock;
    uint8_t *io_bitmap_a, *io_bitmap_b;  /* L0's own ports, for vmcs01; vmx/io.c */
    uint16_t pm1a_control, pm1b_control; /* ports by which L1 turns the machine off; 0: none */
    uint16_t reset_port;                 /* of the FADT; 0: none, or no port */
    uint8_t reset_value;
    uint64_t cr4_hidden;    /* bits of CR4 that the CPU has and L1 does not: setting one is #GP */
    struct vmx_caps caps12; /* what is offered to L1 (nested/rules/caps12) */
    /* Value of a capability MSR of caps12, false for #GP: nested/rules/caps12 fills the slot. */
    bool (*capability_msr)(const struct vmx_caps *offered, uint32_t msr, uint64_t *value);
    bool apic_stays_on;      /* L1's disabling of its APIC is remembered and not done: other processors kick by it */
    bool apic_is_final;      /* option apic-disable=0: once disabled it never comes back, so it stays on, too */
    bool debug_store_hidden; /* the CPU has a debug store (BTS, PEBS), which L1 is not shown */
    uint64_t debugctl;       /* bits of IA32_DEBUGCTL that the CPU takes */
    bool in_place;           /* L1 is a firmware that ran before Nestor did */
    bool startup_trapped;    /* L1's INIT, start-up and NMI IPIs are done by vmx/startup, not by the CPU */
    gpa_t apic_page;         /* whose stores exit then, or since L1 turned one of several APICs off; 0: none */
    struct vcpu *stepper;    /* who has pages of the carve-out open in EPT01; atomic */
    struct vcpu *vcpu[MAX_CPUS];
    unsigned vcpus;
    struct cpuid_context cpuid; /* what L1's CPUID depends on, except for cr4 */
    struct hyperv hyperv;       /* with cpuid.hyperv */
};

struct nested; /* nested/nested.h */

enum { VCPU_INIT = 1, VCPU_SIPI = 2, VCPU_NMI = 4 };
/* Who waits for a start-up IPI. L1 does after INIT, and what else comes is lost; L2 in its activity state, and NMIs
 * come later. */
enum waiting { WAITING_NOT, WAITING_L1, WAITING_L2 };

/* A walk of gva_plain()'s and the entries that it met: while they are what they were, so is its result. */
struct plain_walk {
    gva_t page;               /* in L1's linear memory */
    uint64_t cr3, cr4, efer;  /* cr4 is 0, as L1's never is: nothing was walked yet, or to no end */
    const uint64_t *entry[4]; /* where; the last twice when the walk ended above it */
    uint64_t value[4];
    const uint8_t *at;   /* the page in the direct map */
    uint64_t padding[3]; /* a power of two in all */
};
#define PLAIN_WALKS 4 /* a power of two */

#define STEP_MAX 8 /* pages that one instruction may store to: crossing ones count twice */

/* The way on for entry.asm when an exit that took the long way is through. */
enum vcpu_next {
    NEXT_ENTER,          /* enters the guest of the current VMCS */
    NEXT_STRAIGHT_TO_L1, /* vmcs02 is current: the rest of the exit to L1 is done by straight.asm ... */
    NEXT_STRAIGHT_TO_L2, /* vmcs01 is current: ... or L1's VMRESUME */
};

struct vcpu {
    uint64_t regs[GPR_COUNT]; /* regs[RSP] is unused: GUEST_RSP holds it. First: entry.asm addresses it. */
    bool launched;            /* of the current VMCS: VMRESUME, else VMLAUNCH. entry.asm reads it. */
    /* Something came up after the last look before entry: requests below, or an NMI. entry.asm reads it; the NMI
     * handler and this processor set it. */
    volatile bool attention;

    /* Written by any processor, which kicks this one then. */
    uint32_t requests;            /* VCPU_*, atomic: set by any processor, which kicks this one then */
    volatile uint8_t sipi_vector; /* of VCPU_SIPI */
    volatile uint8_t waiting;     /* enum waiting; it passes an INVEPT before it runs, no kick need reach it */

    /* Constant once start/ made it; nested/ looks inside `nested`. */
    struct vm *vm;
    struct cpu *cpu;
    struct nested *nested;
    hpa_t vmcs01;

    /* Read by other processors (vmx/kick). */
    uint64_t ept01_generation; /* of ept01 when this processor last passed INVEPT */

    /* Which guest runs, and on which VMCS: nested/enter. */
    bool in_l2; /* vmcs02 is current and L2 runs */
    /* While L2 runs: reasons, as bits 0 to 63, that are L1's whatever else the exit says, and whose information L1 can
     * read where the CPU left it. */
    uint64_t l2_straight;
    bool l1_in_vmx;       /* L1 executed VMXON: its CR0 and CR4 have fixed bits; nested/ sets it */
    bool vmcs01_launched; /* kept here while vmcs02 is current */

    /* The exit that is being handled: vmx/run. */
    struct vmexit exit;
    enum vcpu_next next; /* vcpu_handle_exit()'s answer */
    bool only_filled;    /* of an EPT violation of L2: EPT02 has a leaf more, and nothing else has changed */
    bool completed;      /* L0 has executed the instruction that exited, or one iteration of it (vmx/skip) */
    uint32_t debug_hits; /* breakpoints that it met so far, as in GUEST_PENDING_DEBUG (vmx/breakpoint) */
    bool l2_unmapped;    /* nested_hooks.l2_translate() found an exit for L1 */
    uint16_t l2_page;    /* for it: what L2's paging allows of the page, as struct fault has it */

    /* vmx/event. The event that the next entry of the current VMCS delivers, in interruption-information format; 0:
     * none. */
    uint32_t inject_info, inject_error_code, inject_length;
    bool l2_event_written;   /* vmcs02's event is not the one that L1 sees there */
    bool inject_is_fault;    /* it is a fault that L0 found, not an event that an exit interrupted */
    uint64_t inject_address; /* CR2 of such a #PF */
    bool nmi_window;         /* L0 itself waits for the window in the current VMCS */

    /* The processor as L1 sees it: vmx/msr_guest, vmx/startup. */
    uint64_t feature_control;         /* IA32_FEATURE_CONTROL as L1 reads it */
    struct mtrr mtrr;                 /* L1's MTRRs; the CPU's stay as the firmware set them */
    uint64_t apic_base;               /* IA32_APIC_BASE as L1 reads it, with apic_stays_on only */
    uint64_t vp_assist;               /* HV_X64_MSR_VP_ASSIST_PAGE: vmx/hyperv */
    uint32_t inspect_offset;          /* of the word that the port of the option inspect= gives next */
    uint64_t started_at;              /* the TSC at the last start-up IPI; 0: none yet */
    uint32_t apic_ldr, apic_icr_high; /* as L1 wrote them, where its writes are trapped */

    struct {
        uint8_t active;   /* STEP_: what must be looked at first at the next exit */
        bool by_trap;     /* by the monitor trap flag, which ... */
        bool guest_traps; /* ... the guest has on itself */
        unsigned open;    /* leaves whose page is open meanwhile */
        struct step_page {
            uint64_t *entry; /* of EPT01; NULL: of EPT02 ... */
            gpa_t gpa2;      /* ... at this address */
        } page[STEP_MAX];
        uint32_t pin_controls, timer; /* as they were before it */
        uint32_t units;               /* that the last one got, and where it began */
        uint64_t rip, regs[GPR_COUNT];
    } step;
    struct plain_walk walk[PLAIN_WALKS]; /* by the low bits of the page's number */

    uint64_t unasked_told[2];             /* reasons of exits that nobody asked for, as bits: told in the log */
    uint64_t exits[2][EXIT_REASON_COUNT]; /* by level (0: L1, 1: L2) and basic reason, for the summary */
};

#endif
