/* sources: kernel/string.c */
/* cflags: -fno-builtin -Dmemcpy=nestor_memcpy -Dmemmove=nestor_memmove -Dmemset=nestor_memset -Dmemcmp=nestor_memcmp
   -Dmemchr=nestor_memchr -Dstrlen=nestor_strlen -Dstrnlen=nestor_strnlen -Dstrcmp=nestor_strcmp
   -Dstrncmp=nestor_strncmp -Dstrchr=nestor_strchr */
#include "tests/host/host.h"

#include "kernel/string.h"

#define SIZE 64u

static void fill(uint8_t *bytes)
{
    for (unsigned i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
}

/* Every pair of places and every length in one buffer, against a copy by way of another. */
static void test_memmove_overlaps(void **state)
{
    (void)state;
    for (unsigned from = 0; from < SIZE; from++) {
        for (unsigned to = 0; to < SIZE; to++) {
            for (unsigned size = 0; size <= SIZE - MAX(from, to); size++) {
                uint8_t bytes[SIZE], old[SIZE];
                fill(bytes);
                fill(old);
                assert_ptr_equal(memmove(bytes + to, bytes + from, size), bytes + to);
                for (unsigned i = 0; i < SIZE; i++)
                    assert_int_equal(bytes[i], i >= to && i < to + size ? old[from + i - to] : old[i]);
            }
        }
    }
}

static void test_memcpy_and_memset(void **state)
{
    uint8_t from[SIZE], to[SIZE];

    (void)state;
    fill(from);
    assert_ptr_equal(memset(to, 0x1ff, SIZE), to);
    assert_ptr_equal(memcpy(to + 1, from, SIZE - 2), to + 1);
    assert_int_equal(to[0], 0xff);
    assert_int_equal(to[SIZE - 1], 0xff);
    assert_int_equal(memcmp(to + 1, from, SIZE - 2), 0);
}

static void test_compare(void **state)
{
    (void)state;
    assert_true(memcmp("a\xff", "a\x01", 2) > 0);
    assert_int_equal(memcmp("abc", "abd", 2), 0);
    assert_int_equal(strcmp("", ""), 0);
    assert_true(strcmp("ab", "abc") < 0);
    assert_true(strcmp("\xff", "a") > 0);
    assert_int_equal(strncmp("abcd", "abxx", 2), 0);
    assert_int_equal(strncmp("ab", "ab", 99), 0);
    assert_true(strncmp("abd", "abc", 3) > 0);
}

static void test_search(void **state)
{
    static const char text[] = "a=b=c";
    static const char open[3] = {'x', 'y', 'z'};

    (void)state;
    assert_ptr_equal(strchr(text, '='), text + 1);
    assert_ptr_equal(strchr(text, 0), text + 5);
    assert_null(strchr(text, 'z'));
    assert_ptr_equal(memchr(text, 'c', 5), text + 4);
    assert_null(memchr(text, 'c', 4));
    assert_int_equal(strlen(text), 5);
    assert_int_equal(strnlen(open, sizeof open), 3);
    assert_int_equal(strnlen(text, 99), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memmove_overlaps),
        cmocka_unit_test(test_memcpy_and_memset),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_search),
    };
    return cmocka_run_group_tests_name("string", tests, NULL, NULL);
}
