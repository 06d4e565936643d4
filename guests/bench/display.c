#include "guests/bench/display.h"

#include "guests/lib/cpu.h"
#include "guests/lib/multiboot.h"
#include "guests/lib/paging.h"
#include "kernel/screen.h"

#define ADDRESSED (4 * GIB) /* the identity map of guests/lib/entry.asm */
#define REACHED BIT(47)     /* by paging of four levels */
#define VGA_COLUMNS 80u
#define VGA_ROWS 25u
#define VGA_COLOUR 0x0700u /* grey on black */

/* Of VGA's text; NULL: pixels. */
static volatile uint16_t *cells;
static unsigned row, column;

/* Integrated graphics have it above 4 GiB. */
static void map_pixels(uint64_t base, uint64_t size)
{
    uint64_t *root = (uint64_t *)(cpu_read_cr3() & PAGING_ADDRESS);

    for (uint64_t at = base & ~(LARGE_2M - 1); at < base + size; at += LARGE_2M)
        if (at >= ADDRESSED)
            *paging_entry(root, at, LARGE_2M) = at | PTE_P | PTE_W | PAGING_LARGE;
}

static bool start_pixels(const struct boot_framebuffer *screen)
{
    uint64_t size = (uint64_t)screen->pitch * screen->height;

    if (screen->base >= REACHED || size > REACHED - screen->base)
        return false;
    map_pixels(screen->base, size);
    return screen_init(screen, (void *)(uintptr_t)screen->base);
}

static bool start_text(const struct boot_framebuffer *screen)
{
    if (screen->width != VGA_COLUMNS || screen->height < VGA_ROWS)
        return false;
    cells = (volatile uint16_t *)(uintptr_t)screen->base;
    display_clear();
    return true;
}

bool display_start(void)
{
    const struct boot_framebuffer *screen = multiboot_screen();

    if (!screen)
        return false;
    return screen->type == SCREEN_TEXT ? start_text(screen) : start_pixels(screen);
}

void display_clear(void)
{
    row = column = 0;
    for (unsigned i = 0; cells && i < VGA_COLUMNS * VGA_ROWS; i++)
        cells[i] = VGA_COLOUR | ' ';
    if (!cells)
        screen_clear();
}

/* A page has no more lines than the screen: what is below it is lost. */
static void put_cell(char c)
{
    if (c == '\n' || column == VGA_COLUMNS) {
        row++;
        column = 0;
    }
    if (c != '\n' && row < VGA_ROWS)
        cells[row * VGA_COLUMNS + column++] = (uint16_t)(VGA_COLOUR | (uint8_t)c);
}

void display_put(char c)
{
    if (cells)
        put_cell(c);
    else
        screen_write(&c, 1);
}

unsigned display_columns(void)
{
    return cells ? VGA_COLUMNS : screen_columns();
}

unsigned display_rows(void)
{
    return cells ? VGA_ROWS : screen_rows();
}
