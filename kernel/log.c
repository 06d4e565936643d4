#include "kernel/log.h"

#include <stdarg.h>

#include "kernel/cmdline.h"
#include "kernel/format.h"
#include "kernel/layout.h"
#include "kernel/pci.h"
#include "kernel/screen.h"
#include "kernel/serial.h"
#include "kernel/spinlock.h"
#include "kernel/vga.h"

#define LINE_SIZE 512 /* longer lines are cut */

#define CONSOLE_COM1 BIT(0)
#define CONSOLE_COM2 BIT(1)
#define CONSOLE_PORT BIT(2) /* a port that the option names by its address */
#define CONSOLE_TEXT BIT(3) /* VGA's text screen */
#define CONSOLE_PIXELS BIT(4)
#define CONSOLE_SCREEN (CONSOLE_TEXT | CONSOLE_PIXELS)

static const uint64_t console_choices[] = {
    [LOG_ON_COM1] = CONSOLE_COM1, [LOG_ON_COM2] = CONSOLE_COM2, [LOG_ON_VGA] = CONSOLE_SCREEN, [LOG_ON_NONE] = 0};

/* Guards all below. */
static struct spinlock lock = SPINLOCK(LOCK_LOG);
static bool machine_ends;
static void (*redirected)(const char *line, size_t length);
static uint64_t consoles;
static uint64_t own_screen; /* what the machine has of CONSOLE_SCREEN */
static hpa_t pixels_at;     /* of CONSOLE_PIXELS */
static struct pci_place pixels_home;
struct log_ring log_ring;
struct log_text log_previous;

static void write_serial(uint16_t port, const char *text, size_t size)
{
    serial_write(port, text, size);
    if (machine_ends)
        serial_flush(port);
}

static void write_to(uint64_t where, const char *text, size_t size)
{
    if (where & CONSOLE_COM1)
        write_serial(SERIAL_COM1, text, size);
    if (where & CONSOLE_COM2)
        write_serial(SERIAL_COM2, text, size);
    if (where & CONSOLE_PORT)
        write_serial((uint16_t)options.console, text, size);
    if (where & CONSOLE_TEXT)
        vga_write(text, size);
    if (where & CONSOLE_PIXELS)
        screen_write(text, size);
}

/* Writes the newest `lines` lines of the ring to a console that joins later. */
static void replay(uint64_t where, unsigned lines)
{
    const struct log_text *log = &log_ring.log;
    uint64_t oldest = log->written > LOG_RING_SIZE ? log->written - LOG_RING_SIZE : 0, at = log->written;

    while (at > oldest && (log->text[(at - 1) % LOG_RING_SIZE] != '\n' || lines-- > 0))
        at--;
    for (; at < log->written; at++)
        write_to(where, &log->text[at % LOG_RING_SIZE], 1);
}

/* All that was said before the console was known. */
static void add_console(uint64_t which)
{
    spinlock_lock(&lock);
    consoles |= which;
    replay(which, UINT32_MAX);
    spinlock_unlock(&lock);
}

/* `line` has room for one character more than its `length`. */
static void write_line(char *line, size_t length, bool visible)
{
    bool locked = !machine_ends;

    line[length++] = '\n';
    if (redirected) {
        redirected(line, length);
        return;
    }
    if (locked)
        spinlock_lock(&lock);
    log_ring_write(&log_ring, line, length);
    if (visible)
        write_to(consoles, line, length);
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
    log_ring_seal(&log_ring);
    if (serial_init(SERIAL_COM1))
        consoles |= CONSOLE_COM1;
    if (serial_init(SERIAL_COM2))
        consoles |= CONSOLE_COM2;
}

void log_screen(const struct boot_framebuffer *screen, void *pixels)
{
    if (screen->type == SCREEN_RGB) {
        own_screen = screen_init(screen, pixels) ? CONSOLE_PIXELS : 0;
        pixels_at = screen->base;
        pixels_home = pci_find(pixels_at);
    } else {
        vga_init();
        own_screen = CONSOLE_TEXT;
    }
    add_console(own_screen);
}

void log_redirect(void (*to)(const char *line, size_t length))
{
    redirected = to;
}

void log_options(void)
{
    if (options.gdb == SERIAL_COM2)
        consoles &= ~CONSOLE_COM2;
    if (options.console >= ARRAY_SIZE(console_choices) && serial_init((uint16_t)options.console))
        add_console(CONSOLE_PORT);
}

void log_find_previous(void *start, uint64_t size)
{
    struct log_ring *ring = log_ring_find(start, size);

    if (!ring)
        return;
    unsigned lost = log_ring_take(ring, &log_previous);
    log_info("log", "memory still has the log of the run before, %llu bytes%s: nestorctl log --previous",
             MIN(log_previous.written, LOG_RING_SIZE), lost ? " with gaps" : "");
}

void log_l1_starts(void)
{
    uint64_t wanted = options.console < ARRAY_SIZE(console_choices) ? console_choices[options.console] : CONSOLE_PORT;

    spinlock_lock(&lock);
    consoles &= wanted;
    spinlock_unlock(&lock);
}

/* L1 may have moved the device's memory. Beyond what the tables of mm/hpt map for sure the screen is given up. */
static void follow_pixels(void)
{
    hpa_t now = pci_where(&pixels_home);

    if (!now || now == pixels_at)
        return;
    if (now < 4 * GIB || now / GIB == pixels_at / GIB)
        screen_move(hpa_to_va(now));
    else
        own_screen = 0;
    pixels_at = now;
}

/* L1 has drawn on the screen meanwhile. The last lines are written there again, in half of it. */
static void take_screen_back(void)
{
    if (own_screen & CONSOLE_PIXELS)
        follow_pixels();
    unsigned rows = own_screen & CONSOLE_PIXELS ? screen_rows() : VGA_ROWS;

    consoles |= own_screen;
    if (own_screen & CONSOLE_PIXELS)
        screen_clear();
    if (own_screen & CONSOLE_TEXT)
        vga_init();
    replay(own_screen, rows / 2);
}

bool log_has_screen(void)
{
    return own_screen != 0;
}

void log_machine_ends(void)
{
    machine_ends = true;
    redirected = NULL;
    if (own_screen & ~consoles)
        take_screen_back();
}
