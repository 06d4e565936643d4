/* The commands print what Nestor prints at other times: the log is led to gdb meanwhile. */
#include "debug/monitor.h"

#include "debug/control.h"
#include "debug/level.h"
#include "kernel/log.h"
#include "kernel/string.h"
#include "kernel/trace.h"
#include "nested/bitmap/merged_dump.h"
#include "nested/nested.h"
#include "nested/summary.h"
#include "nested/vmcs12_dump.h"

#define TRACE_SHOWN 16u

static void say_vmcs12(struct vcpu *vcpu, const char *rest)
{
    (void)rest;
    if (level_exists(vcpu, DEBUG_L2))
        vmcs12_dump(vcpu->nested, vcpu->nested->current);
    else
        log_raw("L1 has no current VMCS");
}

/* While L1 runs the region is its shadow VMCS, and most of vmcs02's fields are then as they were. */
static void say_vmcs02(struct vcpu *vcpu, const char *rest)
{
    (void)rest;
    if (!vcpu->in_l2) {
        log_raw("L2 does not run: stop there first (monitor level l2, and a breakpoint or stepi in its thread)");
        return;
    }
    log_raw("vmcs02 at hpa=%lx, of vmcs12 at gpa1=%lx:", vcpu->nested->current->vmcs02, vcpu->nested->current->vmptr);
    for (unsigned row = 0; row < FIELD_COUNT; row++) {
        uint64_t value;
        if (bits_test(vcpu->nested->field_offered, row) && vmread_checked(vmcs_fields[row].encoding, &value) && value)
            log_raw("  %s = %lx", vmcs_fields[row].name, value);
    }
}

static void say_bitmap(struct vcpu *vcpu, const char *rest)
{
    (void)rest;
    log_raw("bits set in the merged MSR bitmaps, first-last; l0: Nestor keeps them, l1: L1 does");
    merged_cache_each(vcpu->nested->bitmaps, merged_dump);
}

static void say_trace(struct vcpu *vcpu, const char *rest)
{
    (void)vcpu, (void)rest;
    trace_dump(TRACE_SHOWN);
}

static void say_counters(struct vcpu *vcpu, const char *rest)
{
    (void)rest;
    summary_print(vcpu->vm);
}

/* Which level's breakpoints are met. */
static void choose_level(struct vcpu *vcpu, const char *rest)
{
    static const char *const names[] = {[0] = "any", [DEBUG_L1] = "l1", [DEBUG_L2] = "l2"};

    (void)vcpu;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i] && !strcmp(rest, names[i]))
            debug_control.only = (enum debug_level)i;
    log_raw("breakpoints stop in: %s", names[debug_control.only]);
}

static void say_place(struct vcpu *vcpu, enum debug_level level, gva_t gva)
{
    struct level_place place = level_find(vcpu, level, gva);

    if (!place.mapped)
        log_raw("L%u: gva=%lx is not mapped by its page tables", level - DEBUG_L0, gva);
    else if (level == DEBUG_L1)
        log_raw("L1: gva=%lx -> gpa1=%lx", gva, place.gpa1);
    else if (place.mapped_ept)
        log_raw("L2: gva=%lx -> gpa2=%lx -> gpa1=%lx", gva, place.gpa, place.gpa1);
    else
        log_raw("L2: gva=%lx -> gpa2=%lx, which EPT12 does not map for reading", gva, place.gpa);
}

static void translate(struct vcpu *vcpu, const char *rest)
{
    uint64_t gva;

    packet_word(&rest, "0x");
    if (!packet_number(&rest, &gva) || *rest) {
        log_raw("monitor translate wants an address in hexadecimal");
        return;
    }
    say_place(vcpu, DEBUG_L1, gva);
    if (level_exists(vcpu, DEBUG_L2))
        say_place(vcpu, DEBUG_L2, gva);
}

static const struct {
    const char *name, *text;
    void (*run)(struct vcpu *vcpu, const char *rest);
} commands[] = {
    {"vmcs12", "all of vmcs12 that is not 0; the next time, what has changed", say_vmcs12},
    {"vmcs02", "the same of vmcs02, while L2 runs", say_vmcs02},
    {"bitmap", "the merged MSR bitmaps: whose each bit is", say_bitmap},
    {"trace", "what this processor did last", say_trace},
    {"counters", "Nestor's summary so far", say_counters},
    {"level", "l1, l2 or any: where breakpoints stop", choose_level},
    {"translate", "ADDRESS: where L1's and L2's linear address leads", translate},
};

void monitor_run(struct vcpu *vcpu, const char *command)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        const char *rest = command;
        if (!packet_word(&rest, commands[i].name) || (*rest && *rest != ' '))
            continue;
        while (*rest == ' ')
            rest++;
        commands[i].run(vcpu, rest);
        return;
    }
    if (strcmp(command, "help"))
        log_raw("there is no monitor command \"%s\"; there are:", command);
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        log_raw("monitor %s: %s", commands[i].name, commands[i].text);
}
