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
#define THEME(name) extern const struct scenario name##_scenarios[];
#include "guests/scenarios/themes.def"
#undef THEME

#ifdef ENLIGHTENED
extern const struct scenario evmcs_scenarios[]; /* guests/evmcs */
#endif

/* Reasons to skip. */
const char *without_ept(void);
const char *without_counters(void);
const char *without_carveout(void);
const char *without_unrestricted(void);

#endif
