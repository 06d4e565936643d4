/* The assertions of a scenario. CHECK reports and goes on; REQUIRE reports and gives the scenario up.
 * check_run() sets the place to which giving up returns. Anyone may assert. */
#ifndef GUESTS_LIB_CHECK_H
#define GUESTS_LIB_CHECK_H

#include "guests/lib/console.h"
#include "guests/lib/trap.h"

/* Runs `body` to its end or until it gives up; true when nothing failed. */
MUST_CHECK bool check_run(void (*body)(void));
/* Reports; false makes check_run() return false. */
bool check_equal(uint64_t got, uint64_t want, const char *what, const char *file, int line);
void check_report(const char *format, ...) PRINTF_LIKE(1, 2);
void check_abort(void) NORETURN;
/* Gives the scenario up, which has met something that is not there: the reason, or NULL. */
void check_skip(const char *reason) NORETURN;
const char *check_skipped(void);
unsigned check_failures(void);
/* Called before a scenario is given up; does not return on a processor that the scenario does not run on. */
extern void (*check_on_abort)(void);

#define CHECK_EQ(got, want) ((void)check_equal((uint64_t)(got), (uint64_t)(want), #got, __FILE__, __LINE__))
#define CHECK(condition) CHECK_EQ(!!(condition), true)
#define REQUIRE_EQ(got, want)                                                                                          \
    do {                                                                                                               \
        if (!check_equal((uint64_t)(got), (uint64_t)(want), #got, __FILE__, __LINE__))                                 \
            check_abort();                                                                                             \
    } while (0)
#define REQUIRE(condition) REQUIRE_EQ(!!(condition), true)
/* The vector of the fault that the statement must raise. */
#define CHECK_FAULT(statement, vector)                                                                                 \
    ((void)check_equal(FAULT_OF(statement), vector, "fault of " #statement, __FILE__, __LINE__))

#endif
