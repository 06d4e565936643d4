#include "kernel/vga.h"

#include "kernel/layout.h"
#include "kernel/string.h"

#define VGA_TEXT 0xb8000ull
#define COLUMNS 80u
#define ROWS VGA_ROWS
#define COLOUR 0x0700u /* grey on black */

static unsigned row, column;

static volatile uint16_t *cell(unsigned r, unsigned c)
{
    return (volatile uint16_t *)hpa_to_va(VGA_TEXT) + r * COLUMNS + c;
}

static void clear_row(unsigned r)
{
    for (unsigned c = 0; c < COLUMNS; c++)
        *cell(r, c) = COLOUR | ' ';
}

void vga_init(void)
{
    for (unsigned r = 0; r < ROWS; r++)
        clear_row(r);
    row = column = 0;
}

static void new_line(void)
{
    column = 0;
    if (++row < ROWS)
        return;
    row = ROWS - 1;
    for (unsigned r = 0; r + 1 < ROWS; r++)
        for (unsigned c = 0; c < COLUMNS; c++)
            *cell(r, c) = *cell(r + 1, c);
    clear_row(row);
}

void vga_write(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') {
            new_line();
            continue;
        }
        if (column == COLUMNS)
            new_line();
        *cell(row, column++) = (uint16_t)(COLOUR | (uint8_t)text[i]);
    }
}
