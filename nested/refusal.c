#include "nested/refusal.h"

#include "kernel/format.h"
#include "kernel/log.h"
#include "vmx/exit_names.h"

static const struct row {
    const char *outcome, *text, *citation;
} rows[REFUSAL_COUNT] = {
#define REFUSAL(name, outcome, text, citation) [REFUSAL_##name] = {outcome, text, citation},
#include "nested/refusals.def"
#undef REFUSAL
};

static uint64_t said[REFUSAL_COUNT][(EXIT_REASON_COUNT + 63) / 64]; /* by any processor */

void refusal_log(const struct vcpu *vcpu, enum refusal refusal, uint64_t a, uint64_t b)
{
    const struct row *row = &rows[refusal];
    uint32_t reason = vcpu->exit.reason % EXIT_REASON_COUNT;
    char why[256];

    if (__atomic_fetch_or(&said[refusal][reason / 64], BIT(reason % 64), __ATOMIC_RELAXED) & BIT(reason % 64))
        return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* rows of refusals.def, which a test reads */
    format_text(why, sizeof why, row->text, a, b);
#pragma GCC diagnostic pop
    log_info("nested", "%s at rip=%lx refused: %s: %s; %s", exit_reason_name(reason), vcpu->exit.rip, row->outcome, why,
             row->citation);
}
