#include "kernel/log.h"

#include <stdarg.h>

#include "kernel/cmdline.h"
#include "kernel/format.h"
#include "kernel/serial.h"
#include "kernel/spinlock.h"
#include "kernel/vga.h"

#define RING_SIZE (64 * KIB)
#define LINE_SIZE 512 /* longer lines are cut */

#define CONSOLE_COM1 BIT(0)
#define CONSOLE_COM2 BIT(1)
#define CONSOLE_VGA BIT(2)

/* In the order of the values of the option "console". */
static const uint64_t console_choices[] = {CONSOLE_COM1, CONSOLE_COM2, CONSOLE_VGA, 0};

/* Guards all below. */
static struct spinlock lock = SPINLOCK(LOCK_LOG);
static bool machine_ends;
static uint64_t consoles;
static struct {
    uint64_t written; /* bytes ever; the next one goes to written % RING_SIZE. A debugger or a memory dump reads it. */
    char text[RING_SIZE];
} ring;

static void write_ring(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ring.text[ring.written++ % RING_SIZE] = text[i];
}

static void write_serial(uint16_t port, const char *text, size_t size)
{
    serial_write(port, text, size);
    if (machine_ends)
        serial_flush(port);
}

static void write_consoles(const char *text, size_t size)
{
    if (consoles & CONSOLE_COM1)
        write_serial(SERIAL_COM1, text, size);
    if (consoles & CONSOLE_COM2)
        write_serial(SERIAL_COM2, text, size);
    if (consoles & CONSOLE_VGA)
        vga_write(text, size);
}

/* `line` has room for one character more than its `length`. */
static void write_line(char *line, size_t length, bool visible)
{
    bool locked = !machine_ends;

    line[length++] = '\n';
    if (locked)
        spinlock_lock(&lock);
    write_ring(line, length);
    if (visible)
        write_consoles(line, length);
    if (locked)
        spinlock_unlock(&lock);
}

void log_line(enum log_level level, const char *subsys, const char *fmt, ...)
{
    char line[LINE_SIZE];
    va_list args;

    size_t length = format_text(line, sizeof line - 1, "nestor: %s: ", subsys);
    va_start(args, fmt);
    length += format_list(line + length, sizeof line - 1 - length, fmt, args);
    va_end(args);
    write_line(line, length, level <= options.log);
}

void log_raw(const char *fmt, ...)
{
    char line[LINE_SIZE];
    va_list args;

    va_start(args, fmt);
    size_t length = format_list(line, sizeof line - 1, fmt, args);
    va_end(args);
    write_line(line, length, true);
}

void log_init(void)
{
    vga_init();
    consoles = CONSOLE_VGA;
    if (serial_init(SERIAL_COM1))
        consoles |= CONSOLE_COM1;
    if (serial_init(SERIAL_COM2))
        consoles |= CONSOLE_COM2;
}

void log_l1_starts(void)
{
    spinlock_lock(&lock);
    consoles &= console_choices[options.console];
    spinlock_unlock(&lock);
}

void log_machine_ends(void)
{
    machine_ends = true;
}
