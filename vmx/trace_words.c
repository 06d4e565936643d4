/* kernel/trace stores a record as two words, and knows neither exit reasons nor events: those belong to this layer,
 * which lies above it. So it calls through a pointer, and here is the function behind it. Records stay binary until
 * somebody wants to read them, as making text at each exit would cost more than the exit. */
#include "vmx/trace_words.h"

#include "kernel/format.h"
#include "kernel/trace.h"
#include "vmx/exit_names.h"
#include "vmx/vmx_bits.h"

/* Bits 10:8 of interruption information. SDM 3C 25.8.3 "VM-Entry Controls for Event Injection" */
static const char *event_type(uint32_t info)
{
    static const char *const types[] = {
        "external interrupt", "type 1",     "NMI", "exception", "software interrupt", "privileged software exception",
        "software exception", "other event"};
    return types[GET(info, INTR_TYPE)];
}

/* `a` and `b` are as the comment of each type in kernel/trace.h has them. */
static void describe(char *text, size_t size, enum trace_type type, uint32_t a, uint64_t b)
{
    switch (type) {
    case TRACE_EXIT_L1:
    case TRACE_EXIT_L2:
        format_text(text, size, "%s exits: %u (%s) at rip=%lx", type == TRACE_EXIT_L1 ? "L1" : "L2", a,
                    exit_reason_name(a), b);
        return;
    case TRACE_INJECT:
        format_text(text, size, "injects %s %u, error code %lx", event_type(a), (unsigned)GET(a, INTR_VECTOR), b);
        return;
    case TRACE_WATCH:
        format_text(text, size, "%s stored to the traced page at gpa1=%lx", a ? "L2" : "L1", b);
        return;
    case TRACE_MERGE:
        format_text(text, size, "merges L1's MSR bitmap at gpa1=%lx with Nestor's", b);
        return;
    case TRACE_KICK:
        format_text(text, size, "kicks processor %u to pass an INVEPT (generation %lu)", a, b);
        return;
    case TRACE_STRAIGHT:
        format_text(text, size, "the straight way: %u entries of L2 and %lu exits to L1, since the last line", a, b);
        return;
    default:
        format_text(text, size, "%s is entered", type == TRACE_ENTER_L2 ? "L2" : "L1");
    }
}

/* From here on kernel/trace can put its records in words. */
void trace_words_init(void)
{
    trace_describe = describe;
}
