/* The controls of vmcs02 from those of vmcs12. L2 must exit wherever L1 or L0 wants it to, so intercepting bits are
 * ORed. A feature that Nestor does in software is taken out, and one that Nestor itself needs, EPT above all, is put
 * in. What remains is settled against the CPU's capabilities: the checks of entry have seen that L1 asked for
 * nothing that it was not offered. */
#include "nested/rules/merge.h"

#include "kernel/msr.h"
#include "kernel/x86_bits.h"

/* Features that Nestor does for L1 itself, so that vmcs02 has them off. */
#define PROC2_IN_SOFTWARE (PROC2_PML | PROC2_EPT_VE | PROC2_VMCS_SHADOWING)

/* L0 switches these registers itself, whatever L1 asks for: vmcs02 always loads and saves them. */
#define ENTRY_L0 (ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER)
#define EXIT_L0 (EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER | EXITC_LOAD_EFER)

/* NMIs always exit to L0, and so does a kick, whatever L2 blocks: the blocking that L2 sees is virtual. */
static uint32_t merge_pin(const struct vmcs12 *v)
{
    return (uint32_t)(v->PIN_CONTROLS | PIN_NMI | PIN_VIRTUAL_NMIS);
}

enum io_mode merge_io(uint64_t proc, bool merged)
{
    if (proc & PROC_USE_IO_BITMAPS) /* "unconditional I/O exiting" is ignored then: SDM 3C 25.6.2 */
        return merged ? IO_MERGED_BITMAPS : IO_ALL_EXIT;
    return proc & PROC_UNCOND_IO ? IO_ALL_EXIT : IO_L0_BITMAPS;
}

/* L1's primary controls, with the three that choose bitmaps decided anew for vmcs02. */
static uint32_t merge_proc(const struct merge_input *in)
{
    enum io_mode io = merge_io(in->v->PROC_CONTROLS, in->io_bitmaps_merged);
    uint64_t proc = in->v->PROC_CONTROLS & ~(PROC_USE_MSR_BITMAPS | PROC_USE_IO_BITMAPS | PROC_UNCOND_IO);
    proc |= PROC_SECONDARY;
    proc |= io == IO_ALL_EXIT ? PROC_UNCOND_IO : PROC_USE_IO_BITMAPS;
    if (in->msr_bitmap_merged)
        proc |= PROC_USE_MSR_BITMAPS;
    return (uint32_t)proc;
}

/* Registers that entries load and exits change as L1 says. After an exit that L0 handles the CPU has L1's values, so
 * each entry loads L2's again. An exit saves all but IA32_PERF_GLOBAL_CTRL without being asked. */
static const struct {
    uint32_t exit, entry;
} switched[] = {
    {EXITC_CLEAR_UINV, ENTRY_LOAD_UINV},
    {EXITC_LOAD_CET, ENTRY_LOAD_CET},
    {EXITC_LOAD_PKRS, ENTRY_LOAD_PKRS},
};

/* Adds to both words. A register that exits alone change is left to nested/switched: an entry that loaded it again
 * would be judged by it. Of IA32_PERF_GLOBAL_CTRL any value that the register takes passes. */
static void merge_switched(const struct vmcs12 *v, uint64_t *exit, uint64_t *entry)
{
    uint64_t perf = v->EXIT_CONTROLS & (EXITC_LOAD_PERF_GLOBAL | EXITC_SAVE_PERF_GLOBAL);

    for (unsigned i = 0; i < ARRAY_SIZE(switched); i++) {
        if (!(v->ENTRY_CONTROLS & switched[i].entry))
            continue;
        *entry |= switched[i].entry;
        *exit |= v->EXIT_CONTROLS & switched[i].exit;
    }
    if (!(perf & EXITC_LOAD_PERF_GLOBAL) && !(v->ENTRY_CONTROLS & ENTRY_LOAD_PERF_GLOBAL)) {
        *exit |= perf;
        return;
    }
    *entry |= ENTRY_LOAD_PERF_GLOBAL;
    *exit |= perf | EXITC_SAVE_PERF_GLOBAL;
}

/* Cheap enough to be computed whenever L1 wrote a control, and pure, so that tests can try each bit of each word. */
struct merged_controls merge_controls(const struct merge_input *in)
{
    const struct vmcs12 *v = in->v;
    const struct vmx_caps *cpu = in->cpu;
    struct merged_controls out;
    uint64_t exit = EXIT_L0 | (v->EXIT_CONTROLS & EXITC_ACK_INTERRUPT);
    uint64_t entry = ENTRY_L0 | (v->ENTRY_CONTROLS & ENTRY_GUEST_64);
    out.pin = merge_pin(v);
    if (out.pin & PIN_PREEMPTION_TIMER)
        exit |= EXITC_SAVE_TIMER; /* so that it goes on where it was after an exit that L0 handled */
    out.proc = merge_proc(in);
    out.proc2 = caps_settle(cpu->proc2, (vmcs12_proc2(v) & ~PROC2_IN_SOFTWARE) | PROC2_EPT | PROC2_VPID);
    out.proc3 = cpu->proc3 & v->PROC3_CONTROLS;
    merge_switched(v, &exit, &entry);
    out.exit = caps_settle(cpu->exit, exit);
    out.entry = caps_settle(cpu->entry, entry);
    return out;
}

/* L1's EFER is read from vmcs01, since on a CPU it would be the register that the entry leaves alone. */
uint64_t merge_guest_efer(const struct vmcs12 *v, uint64_t l1_efer)
{
    if (v->ENTRY_CONTROLS & ENTRY_LOAD_EFER)
        return v->GUEST_EFER;
    /* Without the control EFER stays L1's, except that LMA and, with paging on, LME follow "IA-32e mode guest". SDM 3C
     * 27.3.2.1 */
    uint64_t efer = l1_efer & ~EFER_LMA;
    bool long_mode = (v->ENTRY_CONTROLS & ENTRY_GUEST_64) != 0;
    if (v->GUEST_CR0 & CR0_PG)
        efer = (efer & ~EFER_LME) | (long_mode ? EFER_LME : 0);
    return efer | (long_mode ? EFER_LMA : 0);
}

/* SDM 3C 28.5.1 "Loading Host Control Registers, Debug Registers, MSRs" */
uint64_t merge_host_efer(const struct vmcs12 *v, uint64_t l2_efer)
{
    if (v->EXIT_CONTROLS & EXITC_LOAD_EFER)
        return v->HOST_EFER;
    /* Without the control the host's EFER is L2's, with LMA and LME as "host address-space size" says. */
    return (l2_efer & ~(EFER_LMA | EFER_LME)) | (v->EXIT_CONTROLS & EXITC_HOST_64 ? EFER_LMA | EFER_LME : 0);
}
