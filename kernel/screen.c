#include "kernel/screen.h"

#include "kernel/font.h"
#include "kernel/string.h"

#define MAX_COLUMNS 256u
#define MAX_ROWS 128u
/* A larger screen gets larger characters, as long as so many fit. */
#define GOOD_COLUMNS 100u
#define GOOD_ROWS 40u
#define SCROLL_SHARE 4u /* of the screen at a time: each line that moves is drawn anew */
#define GREY 0xc0u

static struct {
    uint8_t *pixels;
    uint32_t pitch, width, height, bytes; /* of a pixel */
    uint32_t ink;
    unsigned scale, columns, rows;
    unsigned row, column; /* of the next character */
    char text[MAX_ROWS][MAX_COLUMNS];
} screen;

static uint32_t colour_bits(struct boot_colour colour)
{
    uint32_t size = MIN(colour.size, 8);

    return colour.position < 32 ? GREY >> (8 - size) << colour.position : 0;
}

static void put_pixel(uint8_t *at, uint32_t value)
{
    if (screen.bytes == 4)
        *(volatile uint32_t *)(void *)at = value;
    else
        for (uint32_t i = 0; i < screen.bytes; i++)
            ((volatile uint8_t *)at)[i] = (uint8_t)(value >> 8 * i);
}

static void draw_line(uint8_t *at, uint8_t bits)
{
    for (unsigned x = 0; x < FONT_WIDTH; x++)
        for (unsigned i = 0; i < screen.scale; i++, at += screen.bytes)
            put_pixel(at, bits & 0x80u >> x ? screen.ink : 0);
}

static void draw(unsigned row, unsigned column, char c)
{
    unsigned glyph = (uint8_t)c - FONT_FIRST;
    const uint8_t *lines = font_glyphs[glyph < FONT_GLYPHS ? glyph : '?' - FONT_FIRST];
    uint64_t top = (uint64_t)row * FONT_HEIGHT * screen.scale;
    uint8_t *at = screen.pixels + top * screen.pitch + (uint64_t)column * FONT_WIDTH * screen.scale * screen.bytes;

    for (unsigned y = 0; y < FONT_HEIGHT * screen.scale; y++, at += screen.pitch)
        draw_line(at, lines[y / screen.scale]);
}

static void show(unsigned row, unsigned column, char c)
{
    if (screen.text[row][column] == c)
        return;
    screen.text[row][column] = c;
    draw(row, column, c);
}

bool screen_init(const struct boot_framebuffer *from, void *pixels)
{
    uint32_t bytes = (from->bits + 7u) / 8;

    screen.rows = 0;
    if (from->type != SCREEN_RGB || bytes < 2 || bytes > 4 || from->width < FONT_WIDTH || from->height < FONT_HEIGHT ||
        from->pitch / bytes < from->width)
        return false;
    screen.pixels = pixels;
    screen.pitch = from->pitch;
    screen.width = from->width;
    screen.height = from->height;
    screen.bytes = bytes;
    screen.ink = colour_bits(from->red) | colour_bits(from->green) | colour_bits(from->blue);
    screen.scale = MAX(MIN(from->width / (FONT_WIDTH * GOOD_COLUMNS), from->height / (FONT_HEIGHT * GOOD_ROWS)), 1);
    screen.columns = MIN(from->width / (FONT_WIDTH * screen.scale), MAX_COLUMNS);
    screen.rows = MIN(from->height / (FONT_HEIGHT * screen.scale), MAX_ROWS);
    screen_clear();
    return true;
}

void screen_move(void *pixels)
{
    screen.pixels = pixels;
}

void screen_clear(void)
{
    for (uint32_t y = 0; y < screen.height; y++) {
        uint8_t *at = screen.pixels + (uint64_t)y * screen.pitch;
        for (uint32_t x = 0; x < screen.width; x++, at += screen.bytes)
            put_pixel(at, 0);
    }
    memset(screen.text, ' ', sizeof screen.text);
    screen.row = screen.column = 0;
}

static void scroll(unsigned lines)
{
    for (unsigned row = 0; row < screen.rows; row++)
        for (unsigned column = 0; column < screen.columns; column++)
            show(row, column, row + lines < screen.rows ? screen.text[row + lines][column] : ' ');
    screen.row -= lines;
}

static void new_line(void)
{
    screen.column = 0;
    if (++screen.row == screen.rows)
        scroll(MAX(screen.rows / SCROLL_SHARE, 1));
}

void screen_write(const char *text, size_t size)
{
    for (size_t i = 0; i < size && screen.rows; i++) {
        if (text[i] == '\n') {
            new_line();
            continue;
        }
        if (screen.column == screen.columns)
            new_line();
        show(screen.row, screen.column++, text[i]);
    }
}

unsigned screen_rows(void)
{
    return screen.rows;
}

unsigned screen_columns(void)
{
    return screen.columns;
}
