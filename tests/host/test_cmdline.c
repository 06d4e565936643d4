/* sources: kernel/cmdline.c kernel/format.c */
#include "tests/host/host.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/base.h"
#include "kernel/cmdline.h"

static unsigned warnings, errors;
static char first_warning[256], first_error[256];

static void report(bool error, const char *text)
{
    unsigned *count = error ? &errors : &warnings;
    char *first = error ? first_error : first_warning;

    if ((*count)++ == 0)
        strncpy(first, text, 255);
}

static unsigned count_options(void)
{
    return (unsigned)(sizeof(struct options) / sizeof(uint64_t));
}

static int parse(const char *text, struct options *to)
{
    /* A copy of its own size, so that the sanitizer sees a read beyond the end. */
    char *copy = malloc(strlen(text) + 1);

    strcpy(copy, text);
    warnings = errors = 0;
    *to = options;
    int result = cmdline_parse(copy, to, report);
    free(copy);
    return result;
}

static void assert_bad(const char *text, const char *message)
{
    struct options to;

    assert_int_equal(parse(text, &to), -1);
    assert_int_equal(errors, 1);
    assert_string_equal(first_error, message);
    assert_memory_equal(&to, &options, sizeof to);
}

static void test_empty_gives_defaults(void **state)
{
    struct options to;

    (void)state;
    assert_int_equal(parse("", &to), 0);
    assert_int_equal(parse("    ", &to), 0);
    assert_memory_equal(&to, &options, sizeof to);
    assert_int_equal(warnings + errors, 0);
    assert_int_equal(to.console, 1);
    assert_int_equal(to.summary, 1);
}

static void test_numbers(void **state)
{
    struct options to;

    (void)state;
    assert_int_equal(parse("debug-exit=0xF4 memory=64", &to), 0);
    assert_int_equal(to.debug_exit, 0xf4);
    assert_int_equal(to.memory, 64);
    assert_int_equal(parse("  memory=65536  debug-exit=0xffff ", &to), 0);
    assert_int_equal(to.memory, 65536);
    assert_int_equal(to.debug_exit, 0xffff);
}

static void test_choices_and_flags(void **state)
{
    struct options to;

    (void)state;
    assert_int_equal(parse("console=none log=err on-exit=bochs summary=0", &to), 0);
    assert_int_equal(to.console, 3);
    assert_int_equal(to.log, 0);
    assert_int_equal(to.on_exit, 1);
    assert_int_equal(to.summary, 0);
    assert_int_equal(parse("summary=0 summary", &to), 0);
    assert_int_equal(to.summary, 1);
}

static void test_last_one_wins(void **state)
{
    struct options to;

    (void)state;
    assert_int_equal(parse("log=dbg log=warn", &to), 0);
    assert_int_equal(to.log, 1);
}

static void test_unknown_option_lists_known_ones_once(void **state)
{
    struct options to;

    (void)state;
    assert_int_equal(parse("fnord=1 log=err --help", &to), 0);
    assert_int_equal(errors, 0);
    assert_int_equal(warnings, 2 + count_options());
    assert_string_equal(first_warning, "unknown option \"fnord\" is ignored; the known ones are:");
    assert_int_equal(to.log, 0);
}

static void test_bad_values_are_errors(void **state)
{
    (void)state;
    assert_bad("memory=65537", "option memory: \"65537\" is not one of 0..65536");
    assert_bad("memory=12MB", "option memory: \"12MB\" is not one of 0..65536");
    assert_bad("memory=-1", "option memory: \"-1\" is not one of 0..65536");
    assert_bad("memory=", "option memory: \"\" is not one of 0..65536");
    assert_bad("memory", "option memory needs a value, one of 0..65536");
    assert_bad("memory=0x", "option memory: \"0x\" is not one of 0..65536");
    assert_bad("memory=99999999999999999999999", "option memory: \"99999999999999999999999\" is not one of 0..65536");
    assert_bad("console=com:", "option console: \"com:\" is not one of com1|com2|vga|none|com:PORT");
    assert_bad("console=com:0xff", "option console: \"com:0xff\" is not one of com1|com2|vga|none|com:PORT");
    assert_bad("console=com:0xfff9", "option console: \"com:0xfff9\" is not one of com1|com2|vga|none|com:PORT");
    assert_bad("console=PORT", "option console: \"PORT\" is not one of com1|com2|vga|none|com:PORT");
    assert_bad("console=com3", "option console: \"com3\" is not one of com1|com2|vga|none|com:PORT");
    assert_bad("console=com", "option console: \"com\" is not one of com1|com2|vga|none|com:PORT");
    assert_bad("console=", "option console: \"\" is not one of com1|com2|vga|none|com:PORT");
    assert_bad("console", "option console needs a value, one of com1|com2|vga|none|com:PORT");
    assert_bad("summary=yes", "option summary: \"yes\" is not one of 0|1");
    assert_bad("log=err|warn", "option log: \"err|warn\" is not one of err|warn|info|dbg");
}

static void test_error_does_not_hide_the_rest(void **state)
{
    struct options to;

    (void)state;
    assert_int_equal(parse("memory=x on-exit=qemu log=y", &to), -1);
    assert_int_equal(errors, 2);
    assert_int_equal(to.on_exit, 2);
}

static void test_odd_words(void **state)
{
    struct options to;

    (void)state;
    assert_int_equal(parse("=", &to), 0);
    assert_string_equal(first_warning, "unknown option \"\" is ignored; the known ones are:");
    assert_int_equal(parse("=1 ==", &to), 0);
    assert_int_equal(parse("log=err=err", &to), -1);
    assert_int_equal(parse("log\t=err", &to), 0);
    assert_int_equal(warnings, 1 + count_options());
}

static void test_long_words_are_cut_in_messages(void **state)
{
    static char text[8192];
    struct options to;

    (void)state;
    memset(text, 'a', sizeof text - 1);
    assert_int_equal(parse(text, &to), 0);
    assert_true(strlen(first_warning) < 160);
    memcpy(text, "memory=", 7);
    assert_int_equal(parse(text, &to), -1);
    assert_true(strlen(first_error) < 160);
}

static void test_random_text(void **state)
{
    static const char letters[] = "  =|.0x19afmemorylogconsole-exit";
    struct options to;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        char text[64];
        size_t length = host_random() % sizeof text;
        for (size_t i = 0; i < length; i++)
            text[i] = letters[host_random() % (sizeof letters - 1)];
        text[length] = 0;
        int result = parse(text, &to);
        assert_int_equal(result, errors ? -1 : 0);
        assert_true(to.memory <= 65536 && to.log <= 3 && to.console <= 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_gives_defaults),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_choices_and_flags),
        cmocka_unit_test(test_last_one_wins),
        cmocka_unit_test(test_unknown_option_lists_known_ones_once),
        cmocka_unit_test(test_bad_values_are_errors),
        cmocka_unit_test(test_error_does_not_hide_the_rest),
        cmocka_unit_test(test_odd_words),
        cmocka_unit_test(test_long_words_are_cut_in_messages),
        cmocka_unit_test(test_random_text),
    };
    return cmocka_run_group_tests_name("cmdline", tests, NULL, NULL);
}
