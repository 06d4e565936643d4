/* A scenario: a named, independent piece of L1 that asserts something about the VMX that it sees.
 * Each starts outside VMX operation with no page allocated; main.c restores that whatever a scenario does. */
#ifndef GUESTS_SCENARIOS_SCENARIO_H
#define GUESTS_SCENARIOS_SCENARIO_H

#include "guests/lib/check.h"
#include "guests/lib/vm.h"

struct scenario {
    const char *name; /* theme-what */
    void (*run)(void);
    const char *(*unavailable)(void); /* NULL, or gives the reason to skip it here, or NULL */
};

/* How many random steps are to be taken, by those that take some; 0: as many as they think. */
extern unsigned scenario_steps;

/* Each theme's list ends with a row without a name. */
extern const struct scenario l1_scenarios[];
extern const struct scenario insn_scenarios[];
extern const struct scenario field_scenarios[];
extern const struct scenario caps_scenarios[];
extern const struct scenario entry_scenarios[];
extern const struct scenario exit_insn_scenarios[];
extern const struct scenario exit_cr_scenarios[];
extern const struct scenario exit_io_scenarios[];
extern const struct scenario exit_msr_scenarios[];
extern const struct scenario exit_msr_form_scenarios[];
extern const struct scenario exit_event_scenarios[];
extern const struct scenario nmi_scenarios[];
extern const struct scenario exit_apic_scenarios[];
extern const struct scenario apicv_scenarios[];
extern const struct scenario inject_scenarios[];
extern const struct scenario msrarea_scenarios[];
extern const struct scenario ept_scenarios[];
extern const struct scenario invept_scenarios[];
extern const struct scenario pml_scenarios[];
extern const struct scenario ve_scenarios[];
extern const struct scenario vmfunc_scenarios[];
extern const struct scenario shadow_scenarios[];
extern const struct scenario shadow_operand_scenarios[];
extern const struct scenario paging_scenarios[];
extern const struct scenario mode_scenarios[];
extern const struct scenario bitmap_scenarios[];
extern const struct scenario bitmap_roles_scenarios[];
extern const struct scenario bitmap_store_scenarios[];
extern const struct scenario bitmap_stress_scenarios[];
extern const struct scenario trace_scenarios[];
extern const struct scenario protect_scenarios[];
extern const struct scenario state_scenarios[];
extern const struct scenario state_msr_scenarios[];
extern const struct scenario found_scenarios[];
extern const struct scenario l1_task_scenarios[];
extern const struct scenario l1_task_gate_scenarios[];
extern const struct scenario l1_task_paging_scenarios[];
extern const struct scenario l1_debug_scenarios[];
extern const struct scenario l1_register_scenarios[];
extern const struct scenario l1_event_scenarios[];
extern const struct scenario l1_io_scenarios[];
extern const struct scenario l1_memory_scenarios[];
extern const struct scenario l1_mode_scenarios[];

/* Reasons to skip. */
const char *without_ept(void);
const char *without_counters(void);
const char *without_carveout(void);
const char *without_unrestricted(void);

#endif
