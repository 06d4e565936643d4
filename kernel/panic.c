#include "kernel/panic.h"

#include <stdarg.h>

#include "kernel/cmdline.h"
#include "kernel/format.h"
#include "kernel/log.h"
#include "kernel/percpu.h"
#include "kernel/smp.h"
#include "kernel/trace.h"
#include "kernel/x86.h"

#define BOCHS_SHUTDOWN_PORT 0x8900
#define QEMU_PM1A_CONTROL 0x604
#define QEMU_SLEEP_S5 0x2000
#define QEMU_DEBUG_EXIT_PORT 0xf4 /* of `-device isa-debug-exit`; nothing listens there otherwise */
#define RESET_CONTROL_PORT 0xcf9
#define RESET_HARD 0x6
#define RESET_AFTER_MS 10000 /* so that somebody can read the screen */
#define TRACE_SHOWN 32

static void (*print_at_end)(void);
static void (*tell_status_at_end)(int status);
static void (*stop_others_at_end)(void);
static void (*give_back_at_end)(const char *reason);
/* How often the end began: a failure inside it must not start over for ever. */
static unsigned ends;

void machine_on_stop(void (*stop_others)(void))
{
    stop_others_at_end = stop_others;
}

/* The first processor that comes here ends the run; others halt, wherever they are. */
static void claim_end(void)
{
    static uint32_t owner; /* processor number + 1 */
    uint32_t none = 0, self = this_cpu()->id + 1;

    if (!__atomic_compare_exchange_n(&owner, &none, self, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        while (none != self) {
            this_cpu()->stopped = true;
            cpu_halt();
        }
        return;
    }
    if (stop_others_at_end)
        stop_others_at_end();
}

void machine_on_end(void (*print)(void))
{
    print_at_end = print;
}

void machine_on_status(void (*tell)(int status))
{
    tell_status_at_end = tell;
}

void machine_on_refusal(void (*give_back)(const char *reason))
{
    give_back_at_end = give_back;
}

static void stop_bochs(void)
{
    for (const char *c = "Shutdown"; *c; c++)
        out8(BOCHS_SHUTDOWN_PORT, (uint8_t)*c);
}

static NORETURN void stop(int status)
{
    switch ((enum on_exit)options.on_exit) {
    case ON_EXIT_BOCHS:
        stop_bochs();
        break;
    case ON_EXIT_QEMU:
        out16(QEMU_PM1A_CONTROL, QEMU_SLEEP_S5);
        out32(QEMU_DEBUG_EXIT_PORT, (uint32_t)status);
        break;
    case ON_EXIT_RESET:
        for (unsigned i = 0; i < RESET_AFTER_MS && log_has_screen(); i++)
            smp_delay_us(1000);
        out8(RESET_CONTROL_PORT, RESET_HARD);
        break;
    case ON_EXIT_PORT:
        if (options.debug_exit)
            out32((uint16_t)options.debug_exit, (uint32_t)status);
        break;
    case ON_EXIT_HALT:
        break;
    }
    for (;;)
        cpu_halt();
}

void machine_report(int status, const char *reason)
{
    void (*print)(void) = print_at_end;

    claim_end();
    log_machine_ends();
    print_at_end = NULL;
    if (print)
        print();
    log_raw("nestor: exit status %d (%s)", status, reason);
    if (tell_status_at_end)
        tell_status_at_end(status);
    cpu_wbinvd(); /* a reset may leave the caches' lines behind, and the next start looks for the log in RAM */
}

static NORETURN void end(int status, const char *reason)
{
    if (give_back_at_end && !ends) {
        log_raw("nestor: not started (%s)", reason);
        give_back_at_end(reason);
    }
    machine_report(status, reason);
    stop(status);
}

/* Of machine_end() and panic(). While all can be given back, each processor that refuses goes its own way, once. */
static void begin_end(int status)
{
    if (give_back_at_end && !this_cpu()->stopped) {
        this_cpu()->stopped = true;
        return;
    }
    claim_end();
    if (++ends > 2)
        stop(status);
}

void machine_end(int status, const char *fmt, ...)
{
    char reason[256];
    va_list args;

    begin_end(status);
    va_start(args, fmt);
    format_list(reason, sizeof reason, fmt, args);
    va_end(args);
    end(status, reason);
}

void panic(const char *fmt, ...)
{
    char reason[256];
    va_list args;

    begin_end(STATUS_PANIC);
    va_start(args, fmt);
    format_list(reason, sizeof reason, fmt, args);
    va_end(args);
    log_machine_ends();
    log_err("panic", "%s", reason);
    trace_dump(TRACE_SHOWN);
    end(STATUS_PANIC, reason);
}
