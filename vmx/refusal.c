/* A refused instruction is the most frequent mistake of a young hypervisor, and the hardest to see: on a CPU all it
 * gets is a flag or a #GP without a reason. Here the reason is known at the very place that refuses, and the rows of
 * vmx/refusals.def put it in words, with the section of the SDM that demands it.
 *
 * A guest may repeat its mistake for ever, and a serial line is slow. So each pair of reason and instruction is said
 * once in a run; the tests read these lines, and a table in docs/MISTAKES.md lists them. */
#include "vmx/refusal.h"

#include "kernel/format.h"
#include "kernel/log.h"
#include "vmx/exit_names.h"
#include "vmx/msr_policy.h"
#include "vmx/vmcs_setup.h"

static const struct row {
    const char *outcome, *text, *citation;
} rows[REFUSAL_COUNT] = {
#define REFUSAL(name, outcome, text, citation) [REFUSAL_##name] = {outcome, text, citation},
#include "vmx/refusals.def"
#undef REFUSAL
};

static uint64_t said[2][REFUSAL_COUNT][(EXIT_REASON_COUNT + 63) / 64]; /* of L1 and L2, by any processor */

/* The fetch-and-or asks and answers at once: of processors that meet the same refusal together, one finds the bit
 * clear. */
void refusal_log(const struct vcpu *vcpu, enum refusal refusal, uint64_t a, uint64_t b)
{
    EXPECT_GUEST(vcpu);
    const struct row *row = &rows[refusal];
    uint32_t reason = vcpu->exit.reason % EXIT_REASON_COUNT;
    char why[256];

    if (__atomic_fetch_or(&said[vcpu->in_l2][refusal][reason / 64], BIT(reason % 64), __ATOMIC_RELAXED) &
        BIT(reason % 64))
        return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* rows of refusals.def, which a test reads */
    format_text(why, sizeof why, row->text, a, b);
#pragma GCC diagnostic pop
    log_info("nested", "%s%s at rip=%lx refused: %s: %s; %s", vcpu->in_l2 ? "L2's " : "", exit_reason_name(reason),
             vcpu->exit.rip, row->outcome, why, row->citation);
}

/* The row's number; behind all rows one of 64 for an MSR of no row, by a hash of its number: a kernel tries some that
 * are not there, and a later mistake with another one must not be silent for that. */
static unsigned number_of(const struct msr_policy_row *row, uint32_t msr)
{
    unsigned count;
    const struct msr_policy_row *rows_of_policy = msr_policy_rows(&count);
    return row ? (unsigned)(row - rows_of_policy) % 64 : 64 + (msr * 2654435761u >> 26);
}

/* Rows of the MSR policy take the place of the reasons here: each has the text that says why L0 keeps the MSR. */
void refusal_log_msr(const struct vcpu *vcpu, uint32_t msr, enum msr_access access, uint64_t value)
{
    EXPECT_GUEST(vcpu);
    static uint64_t said_msr[2][2]; /* by access: a bit for each number_of() */
    const struct msr_policy_row *row = msr_policy_find(msr, access);
    unsigned number = number_of(row, msr);
    uint64_t bit = BIT(number % 64);

    if (__atomic_fetch_or(&said_msr[access][number / 64], bit, __ATOMIC_RELAXED) & bit)
        return;
    log_info("nested", "%s%s at rip=%lx refused: #GP(0): MSR %x = %lx: %s; SDM 3C 26.1.3", vcpu->in_l2 ? "L2's " : "",
             exit_reason_name(vcpu->exit.reason), vcpu->exit.rip, msr, value,
             row ? row->reason : "the CPU that L1 sees has no such MSR, or does not take the value");
}
