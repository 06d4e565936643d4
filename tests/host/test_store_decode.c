/* sources: vmx/store_decode.c */
#include "tests/host/host.h"

#include <stdlib.h>

#include "vmx/store_decode.h"

#define REGISTER_OF(width, n) false, 0, n, width
#define IMMEDIATE_OF(width, v) true, v, 0, width
#define REGISTER(n) REGISTER_OF(4, n)
#define IMMEDIATE(v) IMMEDIATE_OF(4, v)

static const struct row {
    const char *name;
    unsigned bits, size, length; /* length 0: refused */
    uint8_t bytes[STORE_LENGTH_MAX];
    bool immediate;
    uint32_t value;
    unsigned reg;
    unsigned width;
} rows[] = {
    {"mov [rax], ecx", 64, 15, 2, {0x89, 0x08}, REGISTER(1)},
    {"mov [rip+disp32], r9d", 64, 15, 7, {0x44, 0x89, 0x0d, 1, 2, 3, 4}, REGISTER(9)},
    {"mov [abs32], esi", 64, 15, 7, {0x89, 0x34, 0x25, 0, 3, 0xe0, 0xfe}, REGISTER(6)},
    {"mov [rbx+rax*8+8], edx", 64, 15, 4, {0x89, 0x54, 0xc3, 8}, REGISTER(2)},
    {"mov [rsp+disp32], edi", 64, 15, 7, {0x89, 0xbc, 0x24, 0, 1, 0, 0}, REGISTER(7)},
    {"mov dword [rdi+disp32], imm32", 64, 15, 10, {0xc7, 0x87, 0, 3, 0, 0, 0, 0x45, 0xc, 0}, IMMEDIATE(0xc4500)},
    {"mov moffs64, eax", 64, 15, 9, {0xa3, 0, 3, 0xe0, 0xfe, 0, 0, 0, 0}, REGISTER(0)},
    {"mov gs:[ecx], eax", 64, 15, 4, {0x65, 0x67, 0x89, 0x01}, REGISTER(0)},
    {"mov moffs32, eax", 32, 15, 5, {0xa3, 0, 3, 0xe0, 0xfe}, REGISTER(0)},
    {"mov [disp32], ebx", 32, 15, 6, {0x89, 0x1d, 0, 3, 0xe0, 0xfe}, REGISTER(3)},
    {"inc eax is no prefix", 32, 15, 0, {0x40, 0x89, 0x08}, REGISTER(0)},
    {"o32 mov [bx+disp8], eax", 16, 15, 4, {0x66, 0x89, 0x47, 1}, REGISTER(0)},
    {"o32 mov [disp16], imm32", 16, 15, 9, {0x66, 0xc7, 0x06, 0, 3, 1, 0, 0, 0}, IMMEDIATE(1)},
    {"o32 a32 mov [ebx], eax", 16, 15, 4, {0x66, 0x67, 0x89, 0x03}, REGISTER(0)},
    {"mov [rax], cx", 64, 15, 3, {0x66, 0x89, 0x08}, REGISTER_OF(2, 1)},
    {"mov [rax], rcx", 64, 15, 3, {0x48, 0x89, 0x08}, REGISTER_OF(8, 1)},
    {"REX.W comes before the prefix", 64, 15, 4, {0x66, 0x48, 0x89, 0x08}, REGISTER_OF(8, 1)},
    {"mov [bx], ax", 16, 15, 2, {0x89, 0x07}, REGISTER_OF(2, 0)},
    {"mov [rax], cl", 64, 15, 2, {0x88, 0x08}, REGISTER_OF(1, 1)},
    {"mov moffs8, al", 32, 15, 5, {0xa2, 0, 3, 0xe0, 0xfe}, REGISTER_OF(1, 0)},
    {"mov moffs16, ax", 16, 15, 3, {0xa3, 0, 3}, REGISTER_OF(2, 0)},
    {"mov byte [rax], imm8", 64, 15, 3, {0xc6, 0x00, 7}, IMMEDIATE_OF(1, 7)},
    {"mov word [rax], imm16", 64, 15, 5, {0x66, 0xc7, 0x00, 7, 1}, IMMEDIATE_OF(2, 0x107)},
    {"mov qword [rax], imm32", 64, 15, 7, {0x48, 0xc7, 0x00, 7, 1, 0, 0}, IMMEDIATE_OF(8, 0x107)},
    {"mov eax, ecx", 64, 15, 0, {0x89, 0xc8}, REGISTER(0)},
    {"or [rax], ecx", 64, 15, 0, {0x09, 0x08}, REGISTER(0)},
    {"c7 /1", 64, 15, 0, {0xc7, 0x08, 1, 2, 3, 4}, REGISTER(0)},
    {"cut immediate", 64, 5, 0, {0xc7, 0x00, 1, 2, 3}, REGISTER(0)},
    {"cut displacement", 64, 5, 0, {0x89, 0x88, 1, 2, 3}, REGISTER(0)},
    {"prefixes only",
     64,
     15,
     0,
     {0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65},
     REGISTER(0)},
    {"nothing", 64, 0, 0, {0}, REGISTER(0)},
};

static void decodes_rows(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct row *row = &rows[i];
        struct store store;
        bool known = store_decode(row->bytes, row->size, row->bits, &store);

        print_message("%s\n", row->name);
        assert_int_equal(known, row->length != 0);
        if (!known)
            continue;
        assert_int_equal(store.length, row->length);
        assert_int_equal(store.width, row->width);
        assert_int_equal(store.immediate, row->immediate);
        assert_int_equal(store.value, row->value);
        assert_int_equal(store.reg, row->reg);
    }
}

/* Whatever L1's memory holds: no byte behind `size` is read (the sanitizer sees it), no length beyond it is given. */
static void takes_any_bytes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        unsigned size = (unsigned)(host_random() >> 32) % (STORE_LENGTH_MAX + 1);
        uint8_t *bytes = malloc(size + 1);
        struct store store;

        host_random_fill(bytes, size + 1);
        bytes = realloc(bytes, size ? size : 1);
        if (size && store_decode(bytes, size, 16u << (host_random() >> 40) % 3, &store))
            assert_true(store.length <= size && store.reg < 16);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_rows),
        cmocka_unit_test(takes_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
