/* sources: kernel/format.c */
#include "tests/host/host.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "kernel/format.h"

/* The C library is the reference. */
#define ASSERT_SAME(...)                                                                                               \
    do {                                                                                                               \
        char expected[256], got[256];                                                                                  \
        int length = snprintf(expected, sizeof expected, __VA_ARGS__);                                                 \
        assert_int_equal(format_text(got, sizeof got, __VA_ARGS__), length);                                           \
        assert_string_equal(got, expected);                                                                            \
    } while (0)

static void test_plain_text(void **state)
{
    (void)state;
    ASSERT_SAME("nothing to convert");
    ASSERT_SAME("100%% of %s", "it");
    ASSERT_SAME("[%c%c]", 'a', 'z');
}

static void test_integers(void **state)
{
    (void)state;
    ASSERT_SAME("%d %i %d", 0, -1, 42);
    ASSERT_SAME("%d %d", INT_MIN, INT_MAX);
    ASSERT_SAME("%ld %ld", INT64_MIN, INT64_MAX);
    ASSERT_SAME("%u %lu %llu %zu", UINT_MAX, UINT64_MAX, ULLONG_MAX, SIZE_MAX);
    ASSERT_SAME("%x %X %lx %#x %#lx %#x", 0xbeefu, 0xbeefu, UINT64_MAX, 0x10u, UINT64_MAX, 0u);
}

static void test_width_and_flags(void **state)
{
    (void)state;
    ASSERT_SAME("[%5d] [%-5d] [%05d] [%05d]", 42, 42, 42, -42);
    ASSERT_SAME("[%016lx] [%16lx] [%-16lx] [%#010x]", 0xabcul, 0xabcul, 0xabcul, 0xabcu);
    ASSERT_SAME("[%*d] [%-*d] [%3d]", 8, 7, 8, 7, 123456);
    ASSERT_SAME("[%4c] [%-4c]", 'x', 'x');
}

static void test_strings(void **state)
{
    static const char open[3] = {'a', 'b', 'c'}; /* not terminated: the precision must bound the reading */

    (void)state;
    ASSERT_SAME("[%s] [%8s] [%-8s] [%s]", "abc", "abc", "abc", "");
    ASSERT_SAME("[%.2s] [%5.2s] [%.9s] [%.*s]", "abc", "abc", "abc", 1, "abc");
    ASSERT_SAME("[%.3s]", open);
}

static void test_null_string_and_pointer(void **state)
{
    char text[64];
    const char *volatile null = NULL; /* hidden from the compiler */

    (void)state;
    format_text(text, sizeof text, "%s %p", null, (void *)0x1234);
    assert_string_equal(text, "(null) 0x1234");
}

static void test_truncation_terminates(void **state)
{
    char text[8];

    (void)state;
    for (size_t size = 1; size <= sizeof text; size++) {
        memset(text, '#', sizeof text);
        assert_int_equal(format_text(text, size, "%s-%08d", "long text", 123), size - 1);
        assert_int_equal(strlen(text), size - 1);
        for (size_t i = size; i < sizeof text; i++)
            assert_int_equal(text[i], '#');
    }
}

static void test_no_room_at_all(void **state)
{
    char byte = '#';

    (void)state;
    assert_int_equal(format_text(&byte, 0, "text %d", 1), 0);
    assert_int_equal(byte, '#');
}

static void test_broken_formats_end(void **state)
{
    static const char *const broken[] = {"%", "%-", "%0", "%08", "%l", "%.", "text %5."};
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        const char *volatile fmt = broken[i]; /* hidden from the compiler, which knows that it is broken */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        assert_true(format_text(text, sizeof text, fmt) < sizeof text);
#pragma GCC diagnostic pop
    }
}

static void test_random_numbers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t value = host_random() >> (host_random() % 64);
        int width = (int)(host_random() % 24);
        ASSERT_SAME("%lu %lx %ld|%*lx|%-*ld|%d", value, value, (int64_t)value, width, value, width, (int64_t)value,
                    (int)value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_text),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_width_and_flags),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_null_string_and_pointer),
        cmocka_unit_test(test_truncation_terminates),
        cmocka_unit_test(test_no_room_at_all),
        cmocka_unit_test(test_broken_formats_end),
        cmocka_unit_test(test_random_numbers),
    };
    return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
