/* sources: kernel/screen.c kernel/font.c */
#include "tests/host/host.h"

#include <stdlib.h>

#include "kernel/font.h"
#include "kernel/screen.h"

static uint8_t *memory;
static struct boot_framebuffer screen;

/* Of exactly the size, so that the sanitizer sees a pixel beyond it. */
static void make(uint32_t width, uint32_t height, uint8_t bits, uint32_t padding)
{
    uint32_t pitch = width * (bits / 8) + padding;

    screen = (struct boot_framebuffer){SCREEN_RGB, 0, pitch, width, height, bits, {16, 8}, {8, 8}, {0, 8}};
    free(memory);
    memory = malloc((size_t)pitch * height);
    for (size_t i = 0; i < (size_t)pitch * height; i++)
        memory[i] = 0x77;
}

static bool is_lit(uint32_t x, uint32_t y)
{
    const uint8_t *at = memory + (size_t)y * screen.pitch + (size_t)x * (screen.bits / 8);
    bool lit = at[0] != 0;

    for (unsigned i = 0; i < 3u && i < screen.bits / 8u; i++)
        assert_int_equal(at[i], lit ? 0xc0 : 0);
    return lit;
}

/* True if the cell shows that character. */
static bool shows(unsigned row, unsigned column, char c, unsigned scale)
{
    for (unsigned y = 0; y < FONT_HEIGHT * scale; y++)
        for (unsigned x = 0; x < FONT_WIDTH * scale; x++) {
            bool want = font_glyphs[c - FONT_FIRST][y / scale] & 0x80u >> x / scale;
            if (is_lit(column * FONT_WIDTH * scale + x, row * FONT_HEIGHT * scale + y) != want)
                return false;
        }
    return true;
}

static void write(const char *text)
{
    size_t size = 0;

    while (text[size])
        size++;
    screen_write(text, size);
}

static void test_depths(void **state)
{
    static const uint8_t bits[] = {24, 32};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
        make(800, 600, bits[i], 40);
        assert_true(screen_init(&screen, memory));
        assert_int_equal(screen_rows(), 600 / FONT_HEIGHT);
        write("Ab\n~");
        assert_true(shows(0, 0, 'A', 1) && shows(0, 1, 'b', 1) && shows(0, 2, ' ', 1) && shows(1, 0, '~', 1));
        assert_int_equal(memory[800 * bits[i] / 8], 0x77); /* what is beside the picture is not ours */
    }
}

static void test_large_screens_get_large_characters(void **state)
{
    (void)state;
    make(3840, 2160, 32, 0);
    assert_true(screen_init(&screen, memory));
    write("Z");
    assert_true(shows(0, 0, 'Z', 4));
    assert_true(screen_rows() >= 40);
}

static void test_scrolls(void **state)
{
    unsigned rows, moved;

    (void)state;
    make(160, 130, 32, 0); /* 20 by 10 */
    assert_true(screen_init(&screen, memory));
    rows = screen_rows();
    moved = rows / 4;
    assert_int_equal(rows, 10);
    for (unsigned i = 0; i < rows; i++)
        write((char[]){(char)('a' + i), '\n', 0});
    for (unsigned i = 0; i + moved < rows; i++)
        assert_true(shows(i, 0, (char)('a' + i + moved), 1));
    assert_true(shows(rows - 1, 0, ' ', 1));
    write("new");
    assert_true(shows(rows - moved, 0, 'n', 1));
}

static void test_long_lines_wrap(void **state)
{
    (void)state;
    make(160, 130, 32, 0);
    assert_true(screen_init(&screen, memory));
    write("0123456789012345678xy\n!");
    assert_true(shows(0, 19, 'x', 1) && shows(1, 0, 'y', 1) && shows(2, 0, '!', 1));
}

/* L1's drawing goes, and what was there before does not count as drawn. */
static void test_clear_takes_it_back(void **state)
{
    (void)state;
    make(160, 130, 32, 0);
    assert_true(screen_init(&screen, memory));
    write("same");
    for (size_t i = 0; i < 160 * 130 * 4; i++)
        memory[i] = 0x77;
    screen_clear();
    write("same");
    assert_true(shows(0, 0, 's', 1) && shows(0, 3, 'e', 1) && shows(9, 19, ' ', 1));
}

static void test_odd_characters(void **state)
{
    (void)state;
    make(160, 130, 32, 0);
    assert_true(screen_init(&screen, memory));
    write("\x01\xe4");
    assert_true(shows(0, 0, '?', 1) && shows(0, 1, '?', 1));
}

static void test_screens_that_cannot_be(void **state)
{
    (void)state;
    make(160, 130, 32, 0);
    screen.pitch = 100;
    assert_false(screen_init(&screen, memory));
    write("nothing"); /* and nothing is written to */
    make(160, 130, 32, 0);
    screen.type = SCREEN_INDEXED;
    assert_false(screen_init(&screen, memory));
    make(160, 130, 32, 0);
    screen.bits = 8;
    assert_false(screen_init(&screen, memory));
    screen.bits = 40;
    assert_false(screen_init(&screen, memory));
    make(4, 130, 32, 0);
    assert_false(screen_init(&screen, memory));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depths),
        cmocka_unit_test(test_large_screens_get_large_characters),
        cmocka_unit_test(test_scrolls),
        cmocka_unit_test(test_long_lines_wrap),
        cmocka_unit_test(test_clear_takes_it_back),
        cmocka_unit_test(test_odd_characters),
        cmocka_unit_test(test_screens_that_cannot_be),
    };
    int failed = cmocka_run_group_tests_name("screen", tests, NULL, NULL);
    free(memory);
    return failed;
}
