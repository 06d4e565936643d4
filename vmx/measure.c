/* Each sample is the time-stamp counter after the instruction less that before, both between fences, as RDTSC itself
 * waits for nothing; what the same takes with no instruction in between is subtracted (SDM 3B 19.17 "Time-Stamp
 * Counter"). Of 1,000 samples the minimum is the instruction alone, and the median what it takes as a rule. The guest
 * is one VMCALL, with a VPID where there are any, so that its entries need not flush. */
#include "vmx/measure.h"

#include "kernel/log.h"
#include "kernel/msr.h"
#include "kernel/x86.h"
#include "mm/page.h"
#include "vmx/probe_guest.h"
#include "vmx/vmcs.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"

#define SAMPLES 1000
#define GUEST_VPID 1
#define LEAF_XSAVE 0xd
#define EPTP_WB_4_LEVELS (6 | 3 << 3)

/* vmx/measure.asm: from before the entry until after the exit, which comes to measure_exit. FAILED: VMfail. */
enum { BY_VMLAUNCH, BY_VMRESUME, BY_NOTHING };
#define FAILED (~0ull)
uint64_t measure_round_trip(unsigned how);
extern const uint8_t measure_exit[], measure_guest[];

/* The state that all rows share. */
struct measure {
    struct probe_guest guest;
    hpa_t other;   /* a second VMCS */
    uint64_t eptp; /* of an empty table, in no VMCS */
    uint64_t proc; /* the guest's PROC_CONTROLS */
    bool failed;   /* an instruction of this row did */
};

static inline uint64_t fenced_tsc(void)
{
    __asm__ volatile("lfence" : : : "memory");
    uint64_t now = rdtsc();
    __asm__ volatile("lfence" : : : "memory");
    return now;
}

/* A function that times `instruction`, true when it succeeded. */
#define TIMED(name, instruction)                                                                                       \
    static uint64_t name(struct measure *m)                                                                            \
    {                                                                                                                  \
        uint64_t start = fenced_tsc();                                                                                 \
        m->failed |= !(instruction);                                                                                   \
        return fenced_tsc() - start;                                                                                   \
    }                                                                                                                  \
    _Static_assert(true, "a semicolon follows")

/* No instruction, but flags that are looked at, as behind those that are timed. */
static bool do_nothing(void)
{
    bool succeeded;
    __asm__ volatile("" : "=@cca"(succeeded) : : "memory");
    return succeeded || true;
}

static bool do_vmread(void)
{
    uint64_t value;
    return vmread_checked(GUEST_RIP.encoding, &value);
}

static bool do_vmptrst(void)
{
    hpa_t current;
    __asm__ volatile("vmptrst %0" : "=m"(current) : : "cc");
    return true;
}

static struct invalidate_descriptor one_eptp(const struct measure *m)
{
    return (struct invalidate_descriptor){.context = m->eptp};
}

static struct invalidate_descriptor one_address(void)
{
    return (struct invalidate_descriptor){.context = GUEST_VPID, .address = (uint64_t)measure_guest};
}

static bool do_wrmsr(uint64_t value)
{
    wrmsr(IA32_KERNEL_GS_BASE, value);
    return true;
}

TIMED(nothing, do_nothing());
TIMED(vmread, do_vmread());
TIMED(vmwrite, vmwrite_checked(GUEST_RIP.encoding, (uint64_t)measure_guest));
TIMED(vmwrite_control, vmwrite_checked(PROC_CONTROLS.encoding, m->proc));
TIMED(vmptrld_same, insn_vmptrld(m->guest.vmcs));
TIMED(vmptrld_other, insn_vmptrld(m->other));
TIMED(vmptrst, do_vmptrst());
TIMED(vmclear, insn_vmclear(m->other));
TIMED(invept_single, insn_invept(INVEPT_SINGLE, one_eptp(m)));
TIMED(invept_all, insn_invept(INVEPT_ALL, (struct invalidate_descriptor){0}));
TIMED(invvpid_address, insn_invvpid(INVVPID_ADDRESS, one_address()));
TIMED(invvpid_single, insn_invvpid(INVVPID_SINGLE, one_address()));
TIMED(invvpid_nonglobal, insn_invvpid(INVVPID_SINGLE_NONGLOBAL, one_address()));
TIMED(invvpid_all, insn_invvpid(INVVPID_ALL, (struct invalidate_descriptor){0}));
TIMED(read_msr, rdmsr(IA32_EFER) & EFER_LMA);
TIMED(write_msr, do_wrmsr(0));
TIMED(cpuid_0, cpuid(0, 0).eax != 0);
TIMED(cpuid_xsave, cpuid(LEAF_XSAVE, 1).edx != ~0u); /* which no CPU says */

static uint64_t round_trip(struct measure *m, unsigned how)
{
    uint64_t time = measure_round_trip(how);
    m->failed |= time == FAILED;
    return time;
}

static uint64_t no_round_trip(struct measure *m)
{
    return round_trip(m, BY_NOTHING);
}

static uint64_t enter(struct measure *m)
{
    unsigned how = m->guest.launched ? BY_VMRESUME : BY_VMLAUNCH;
    m->guest.launched = true;
    return round_trip(m, how);
}

/* The next ones come before a sample, and are not in its time. An entry has its own VMCS current and, after the first
 * one, launched. */
static void load_own(struct measure *m)
{
    vmcs_load(m->guest.vmcs);
}

static void use_other(struct measure *m)
{
    vmcs_load(m->other);
    vmcs_write(GUEST_RIP, 0);
}

static void write_control(struct measure *m)
{
    vmcs_write(PROC_CONTROLS, (uint32_t)m->proc);
}

static void clear(struct measure *m)
{
    m->failed |= !insn_vmclear(m->guest.vmcs);
    m->guest.launched = false;
    load_own(m);
}

static void clear_and_write_control(struct measure *m)
{
    clear(m);
    write_control(m);
}

static const struct row {
    const char *name;
    uint64_t (*sample)(struct measure *m);
    void (*before)(struct measure *m); /* NULL: nothing */
    uint64_t needs;                    /* bits of IA32_VMX_EPT_VPID_CAP */
} rows[] = {
    {"VMREAD", vmread, NULL, 0},
    {"VMWRITE of guest state", vmwrite, NULL, 0},
    {"VMWRITE of a major control", vmwrite_control, NULL, 0},
    {"VMPTRLD of the current VMCS", vmptrld_same, NULL, 0},
    {"VMPTRLD of another VMCS", vmptrld_other, load_own, 0},
    {"VMPTRST", vmptrst, NULL, 0},
    {"VMCLEAR", vmclear, use_other, 0},
    {"INVEPT, one EPTP", invept_single, NULL, EPT_CAP_INVEPT | EPT_CAP_INVEPT_SINGLE},
    {"INVEPT, all", invept_all, NULL, EPT_CAP_INVEPT | EPT_CAP_INVEPT_ALL},
    {"INVVPID, one address", invvpid_address, NULL, VPID_CAP_INVVPID | VPID_CAP_ADDRESS},
    {"INVVPID, one VPID", invvpid_single, NULL, VPID_CAP_INVVPID | VPID_CAP_SINGLE},
    {"INVVPID, one VPID without global pages", invvpid_nonglobal, NULL, VPID_CAP_INVVPID | VPID_CAP_SINGLE_NONGLOBAL},
    {"INVVPID, all", invvpid_all, NULL, VPID_CAP_INVVPID | VPID_CAP_ALL},
    {"entry and exit", enter, NULL, 0},
    {"entry and exit, a major control written", enter, write_control, 0},
    {"entry and exit, after VMCLEAR", enter, clear, 0},
    {"entry and exit, after VMCLEAR, control written", enter, clear_and_write_control, 0},
    {"RDMSR", read_msr, NULL, 0},
    {"WRMSR", write_msr, NULL, 0},
    {"CPUID, leaf 0", cpuid_0, NULL, 0},
    {"CPUID, leaf 0DH", cpuid_xsave, NULL, 0},
};

/* In ascending order, by gaps that halve. */
static void sort(uint64_t *sample)
{
    for (unsigned gap = SAMPLES / 2; gap > 0; gap /= 2)
        for (unsigned i = gap; i < SAMPLES; i++)
            for (unsigned j = i; j >= gap && sample[j - gap] > sample[j]; j -= gap) {
                uint64_t larger = sample[j - gap];
                sample[j - gap] = sample[j];
                sample[j] = larger;
            }
}

/* All samples of a row, in order. NULL: an instruction failed. */
static const uint64_t *take_samples(struct measure *m, const struct row *row)
{
    static uint64_t sample[SAMPLES];
    m->failed = false;
    for (unsigned i = 0; i < SAMPLES; i++) {
        if (row->before)
            row->before(m);
        sample[i] = row->sample(m);
    }
    load_own(m);
    sort(sample);
    return m->failed ? NULL : sample;
}

/* The minimum, as it is subtracted from minima: a median less a median would hide an instruction of few cycles. */
static uint64_t overhead_of(struct measure *m, uint64_t (*sample)(struct measure *m))
{
    const struct row row = {.sample = sample};
    const uint64_t *none = take_samples(m, &row);
    return none ? none[0] : 0;
}

/* A counter that moves in steps may take less time with an instruction than without. */
static uint64_t less(uint64_t time, uint64_t overhead)
{
    return time > overhead ? time - overhead : 0;
}

static void print_rows(struct measure *m, const struct vmx_caps *caps)
{
    uint64_t of_instruction = overhead_of(m, nothing), of_entry = overhead_of(m, no_round_trip);
    log_raw("measure: %-48s %9s %9s", "time-stamp counter, of 1,000 samples", "minimum", "median");
    for (const struct row *row = rows; row < rows + ARRAY_SIZE(rows); row++) {
        if ((caps->ept_vpid & row->needs) != row->needs) {
            log_raw("measure: %-48s not on this CPU", row->name);
            continue;
        }
        const uint64_t *sample = take_samples(m, row);
        uint64_t overhead = row->sample == enter ? of_entry : of_instruction;
        if (sample)
            log_raw("measure: %-48s %9lu %9lu", row->name, less(sample[0], overhead),
                    less(sample[SAMPLES / 2], overhead));
        else
            log_raw("measure: %-48s failed", row->name);
    }
    log_raw("measure: end; in an emulator these are no cycles, and say nothing about a CPU");
}

/* With a VPID where there are any: without one each entry and exit would flush the TLB, and no VMCS of L2 is so. */
static void prepare_guest(struct measure *m, const struct vmx_caps *caps)
{
    vmcs_write(HOST_RIP, (uint64_t)measure_exit);
    vmcs_write(GUEST_RIP, (uint64_t)measure_guest);
    vmcs_write(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    if (caps->proc2.may & PROC2_VPID) {
        vmcs_write(PROC_CONTROLS, caps_settle(caps->proc, PROC_SECONDARY));
        vmcs_write(PROC2_CONTROLS, caps_settle(caps->proc2, PROC2_VPID));
        vmcs_write(VPID, GUEST_VPID);
    }
    m->proc = vmcs_read(PROC_CONTROLS);
}

void measure_print(const struct vmx_caps *caps)
{
    struct measure m = {0};
    uint64_t kernel_gs = rdmsr(IA32_KERNEL_GS_BASE);
    void *table = page_alloc();
    if (!table || !probe_begin(&m.guest, caps, 0)) {
        log_raw("measure: no memory, or VMX could not be set up");
        return;
    }
    m.eptp = va_to_hpa(table) | EPTP_WB_4_LEVELS;
    m.other = vmcs_alloc(caps);
    if (m.other) {
        prepare_guest(&m, caps);
        print_rows(&m, caps);
        vmcs_free(m.other);
    }
    probe_end(&m.guest);
    page_free(table);
    wrmsr(IA32_KERNEL_GS_BASE, kernel_gs);
}
