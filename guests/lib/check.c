#include "guests/lib/check.h"

static struct jump_buffer abort_jump;
static unsigned failures;
static const char *skipped;

void (*check_on_abort)(void);

bool check_run(void (*body)(void))
{
    failures = 0;
    skipped = NULL;
    if (!jump_set(&abort_jump))
        body();
    return !failures;
}

void check_report(const char *format, ...)
{
    va_list args;

    failures++;
    print("# ");
    va_start(args, format);
    print_list(format, args);
    va_end(args);
    print("\n");
}

bool check_equal(uint64_t got, uint64_t want, const char *what, const char *file, int line)
{
    if (got == want)
        return true;
    check_report("%s:%d: %s: got 0x%lx, expected 0x%lx", file, line, what, got, want);
    return false;
}

void check_abort(void)
{
    failures++;
    if (check_on_abort)
        check_on_abort();
    jump_to(&abort_jump, 1);
}

void check_skip(const char *reason)
{
    skipped = reason;
    jump_to(&abort_jump, 1);
}

const char *check_skipped(void)
{
    return skipped;
}

unsigned check_failures(void)
{
    return failures;
}
