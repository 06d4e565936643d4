/* An entry that fails tells L1 a number: VMfail 7 or 8, or exit 33. The rule behind it is known here, and is said in
 * Nestor's log with the field, its value and the section of the SDM. tests/vm/entry-log.t makes each kind of mistake
 * and reads these lines. */
#include "nested/entry_log.h"

#include "kernel/log.h"
#include "nested/wrong_bits.h"
#include "vmx/vmcs.h"

/* Everything that may be said once, by number. */
enum {
    SAID_CHECK,
    SAID_MSR = SAID_CHECK + CHECK_RULES_MAX,
    SAID_CPU_EXIT = SAID_MSR + MSR_RULES,
    SAID_CPU_ERROR = SAID_CPU_EXIT + 64,
    SAID_NUMBERS = SAID_CPU_ERROR + 64,
};

static uint64_t said[(SAID_NUMBERS + 63) / 64]; /* by any processor */

/* True for the first processor that asks: each thing is said once, as an L1 may repeat its mistake a million times. */
static bool first_time(unsigned number)
{
    return !(__atomic_fetch_or(&said[number / 64], BIT(number % 64), __ATOMIC_RELAXED) & BIT(number % 64));
}

/* True if the rule was said now, for the first time: then the caller may dump vmcs12 as well. */
bool entry_log_check(gpa_t vmptr, const struct check_result *result, const struct vmx_caps *caps)
{
    char bits[WRONG_BITS_TEXT];
    static const char *const kinds[] = {"", "VMfail 7 (controls)", "VMfail 8 (host state)", "exit 33 (guest state)"};
    if (!first_time(SAID_CHECK + result->number))
        return false;
    wrong_bits(bits, sizeof bits, result->field, result->value, caps);
    log_info("nested", "entry of vmcs12 at gpa1=%lx refused: %s: rule \"%s\", %s = %lx%s; %s", vmptr,
             kinds[result->kind], result->rule, vmcs_fields[result->field].name, result->value, bits, result->citation);
    return true;
}

static const char *const msr_rules[MSR_RULES] = {
#define MSR_RULE(name, text) [name] = text,
    MSR_RULE_LIST
#undef MSR_RULE
};

void entry_log_msr(gpa_t vmptr, const struct msr_refusal *refusal)
{
    if (first_time(SAID_MSR + refusal->rule))
        log_info("nested",
                 "entry of vmcs12 at gpa1=%lx refused: exit 34 (MSR loading): rule \"%s\", entry %u, MSR %x = %lx",
                 vmptr, msr_rules[refusal->rule], refusal->number, refusal->index, refusal->value);
}

/* A rule that Nestor's tables lack. L1 gets what the CPU said; the line is for whoever adds the rule. */
void entry_log_cpu_exit(uint32_t reason)
{
    if (first_time(SAID_CPU_EXIT + reason % 64))
        log_warn("nested", "the CPU refused vmcs02 with exit reason %u: no rule of Nestor's did", reason);
}

void entry_log_cpu_error(uint32_t error)
{
    if (first_time(SAID_CPU_ERROR + error % 64))
        log_warn("nested", "the CPU refused vmcs02 with VM-instruction error %u: no rule of Nestor's did", error);
}

/* A list that fails at an exit is a VMX abort: the CPU would shut down, so this is an error and not a refusal. */
void entry_log_abort(gpa_t vmptr, const struct msr_refusal *refusal)
{
    log_err("nested", "exit to vmcs12 at gpa1=%lx: rule \"%s\", entry %u, MSR %x = %lx", vmptr,
            msr_rules[refusal->rule], refusal->number, refusal->index, refusal->value);
}
