/* The world of the tests of nested/rules/decide: one exit of L2, and the vmcs12 and pages that say whose it is.
 * fresh() before each test; each program has its own copy.
 * tests/host/ only. */
#ifndef TESTS_HOST_DECIDE_WORLD_H
#define TESTS_HOST_DECIDE_WORLD_H

#include "tests/host/host.h"

#include <string.h>

#include "nested/rules/decide.h"

/* One exit of L2 under a vmcs12 that asks for nothing. Each test sets what it is about. */
static struct vmcs12 v;
static struct vmexit the_exit;
static uint64_t regs[GPR_COUNT];
static struct decide_input in;
static uint8_t page_a[PAGE_SIZE], page_b[PAGE_SIZE];

static inline int fresh(void **state)
{
    (void)state;
    memset(&v, 0, sizeof v);
    memset(&the_exit, 0, sizeof the_exit);
    memset(regs, 0, sizeof regs);
    memset(page_a, 0, sizeof page_a);
    memset(page_b, 0, sizeof page_b);
    in = (struct decide_input){.exit = &the_exit, .v = &v, .regs = regs};
    return 0;
}

static inline enum decision decide(uint32_t reason)
{
    the_exit.reason = reason;
    return decide_exit(&in);
}

static inline void set_proc2(uint32_t bits)
{
    v.PROC_CONTROLS |= PROC_SECONDARY;
    v.PROC2_CONTROLS = bits;
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

#endif
