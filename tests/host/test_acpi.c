/* sources: kernel/acpi.c */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/acpi.h"

#define MEMORY_SIZE 32768u
#define RSDT 0x100u
#define XSDT 0x200u
#define MADT 0x400u
#define FADT 0x6000u
#define DSDT 0x7000u

/* The machine's memory, from `base` on; nothing else can be read. */
static uint8_t memory[MEMORY_SIZE];
static hpa_t base;
static uint8_t rsdp[36];
static unsigned madt_size;
static struct acpi_info info;

static bool read_memory(void *context, hpa_t address, void *buffer, uint64_t size)
{
    assert_ptr_equal(context, memory);
    if (address < base || address - base > MEMORY_SIZE || size > MEMORY_SIZE - (address - base))
        return false;
    memcpy(buffer, memory + (address - base), size);
    return true;
}

static int parse_size(uint64_t size)
{
    return acpi_parse(rsdp, size, read_memory, memory, &info);
}

static int parse(void)
{
    return parse_size(sizeof rsdp);
}

static void put(void *at, uint64_t value, unsigned size)
{
    memcpy(at, &value, size);
}

static void fix_sum(uint8_t *bytes, unsigned size, unsigned sum_at)
{
    uint8_t sum = 0;

    bytes[sum_at] = 0;
    for (unsigned i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    bytes[sum_at] = (uint8_t)-sum;
}

static void fix_table(unsigned at)
{
    uint32_t length;

    memcpy(&length, memory + at + 4, sizeof length);
    if (length <= MEMORY_SIZE - at)
        fix_sum(memory + at, length, 9);
}

static void make_table(unsigned at, const char *signature, unsigned length)
{
    memset(memory + at, 0, length);
    memcpy(memory + at, signature, 4);
    put(memory + at + 4, length, 4);
    fix_table(at);
}

static void fix_rsdp(void)
{
    fix_sum(rsdp, 20, 8);
    fix_sum(rsdp, 36, 32);
}

/* Appends an entry to the MADT. */
static void add_entry(const void *entry, unsigned size)
{
    memcpy(memory + MADT + madt_size, entry, size);
    madt_size += size;
    put(memory + MADT + 4, madt_size, 4);
    fix_table(MADT);
}

static void add_lapic(uint8_t id, uint32_t flags)
{
    uint8_t entry[8] = {0, sizeof entry, 1, id};

    put(entry + 4, flags, 4);
    add_entry(entry, sizeof entry);
}

static void add_x2apic(uint32_t id, uint32_t flags)
{
    uint8_t entry[16] = {9, sizeof entry};

    put(entry + 4, id, 4);
    put(entry + 8, flags, 4);
    add_entry(entry, sizeof entry);
}

static int setup(void **state)
{
    (void)state;
    base = 0;
    memset(memory, 0, sizeof memory);
    memset(rsdp, 0, sizeof rsdp);
    memcpy(rsdp, "RSD PTR ", 8);
    rsdp[15] = 2;
    put(rsdp + 16, RSDT, 4);
    put(rsdp + 20, sizeof rsdp, 4);
    put(rsdp + 24, XSDT, 8);
    fix_rsdp();
    make_table(RSDT, "RSDT", 36 + 2 * 4);
    put(memory + RSDT + 36, MADT, 4);
    put(memory + RSDT + 40, FADT, 4);
    fix_table(RSDT);
    make_table(XSDT, "XSDT", 36 + 2 * 8);
    put(memory + XSDT + 36, MADT, 8);
    put(memory + XSDT + 44, FADT, 8);
    fix_table(XSDT);
    madt_size = 44;
    make_table(MADT, "APIC", madt_size);
    put(memory + MADT + 36, 0xfee00000, 4);
    fix_table(MADT);
    make_table(FADT, "FACP", 276);
    put(memory + FADT + 64, 0xb004, 4);
    fix_table(FADT);
    return 0;
}

static void test_processors(void **state)
{
    (void)state;
    add_lapic(0, 1);
    add_lapic(2, 0);
    add_x2apic(0x12345, 1);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpus, 3);
    assert_int_equal(info.cpu[0].apic_id, 0);
    assert_true(info.cpu[0].enabled);
    assert_int_equal(info.cpu[0].entry, MADT + 44);
    assert_int_equal(info.cpu[0].entry_size, 8);
    assert_int_equal(info.cpu[1].apic_id, 2);
    assert_false(info.cpu[1].enabled);
    assert_int_equal(info.cpu[1].entry, MADT + 52);
    assert_int_equal(info.cpu[2].apic_id, 0x12345);
    assert_int_equal(info.cpu[2].entry_size, 16);
    assert_int_equal(info.lapic, 0xfee00000);
    assert_int_equal(info.madt, MADT);
}

static void test_same_processor_twice(void **state)
{
    (void)state;
    add_lapic(5, 1);
    add_x2apic(5, 1);
    add_lapic(0xff, 0); /* "no processor" */
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpus, 1);
}

static void test_lapic_address_override(void **state)
{
    uint8_t entry[12] = {5, sizeof entry};

    (void)state;
    put(entry + 4, 0x1fee00000, 8);
    add_entry(entry, sizeof entry);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.lapic, 0x1fee00000);
}

static void test_version_1_uses_rsdt(void **state)
{
    (void)state;
    rsdp[15] = 0;
    fix_rsdp();
    put(memory + XSDT, 0, 4);
    add_lapic(7, 1);
    assert_int_equal(parse_size(20), 0);
    assert_int_equal(info.cpus, 1);
    assert_int_equal(info.pm1a_control, 0xb004);
}

static void test_ports(void **state)
{
    (void)state;
    put(memory + FADT + 68, 0xb008, 4);
    memory[FADT + 172] = 1; /* extended PM1a: I/O */
    put(memory + FADT + 176, 0x604, 8);
    memory[FADT + 184] = 0; /* extended PM1b: memory, of no use */
    put(memory + FADT + 188, 0xfed00000, 8);
    fix_table(FADT);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.pm1a_control, 0x604);
    assert_int_equal(info.pm1b_control, 0xb008);
    assert_false(info.reset.valid);
}

static void test_port_beyond_the_port_space(void **state)
{
    (void)state;
    put(memory + FADT + 64, 0x10000, 4);
    fix_table(FADT);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.pm1a_control, 0);
}

static void test_reset_register(void **state)
{
    (void)state;
    put(memory + FADT + 112, BIT(10), 4);
    memory[FADT + 116] = 1;
    put(memory + FADT + 120, 0xcf9, 8);
    memory[FADT + 128] = 6;
    fix_table(FADT);
    assert_int_equal(parse(), 0);
    assert_true(info.reset.valid && info.reset.is_io);
    assert_int_equal(info.reset.address, 0xcf9);
    assert_int_equal(info.reset_value, 6);
    put(memory + FADT + 120, 0x10cf9, 8);
    fix_table(FADT);
    assert_int_equal(parse(), 0);
    assert_false(info.reset.valid);
}

/* All tables above 4 GiB, as a firmware of much memory may put them: only the pointers of 64 bits lead there. */
static void test_tables_above_4_gib(void **state)
{
    (void)state;
    add_lapic(3, 1);
    base = 37 * GIB;
    put(rsdp + 24, base + XSDT, 8);
    fix_rsdp();
    put(memory + XSDT + 36, base + MADT, 8);
    put(memory + XSDT + 44, base + FADT, 8);
    fix_table(XSDT);
    make_table(DSDT, "DSDT", 64);
    put(memory + FADT + 140, base + DSDT, 8);
    fix_table(FADT);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpus, 1);
    assert_int_equal(info.cpu[0].entry, base + MADT + 44);
    assert_int_equal(info.madt, base + MADT);
    assert_int_equal(info.pm1a_control, 0xb004);
    assert_int_equal(info.code_tables, 1);
    assert_int_equal(info.code[0], base + DSDT);
}

static void test_short_fadt(void **state)
{
    (void)state;
    make_table(FADT, "FACP", 68); /* ends after PM1a */
    put(memory + FADT + 64, 0xb004, 4);
    put(memory + FADT + 68, 0xffffffff, 4);
    fix_table(FADT);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.pm1a_control, 0xb004);
    assert_int_equal(info.pm1b_control, 0);
}

static void test_bad_root_pointer(void **state)
{
    (void)state;
    for (uint64_t size = 0; size < 20; size++)
        assert_int_equal(parse_size(size), -1);
    rsdp[0] = 'X';
    fix_rsdp();
    assert_int_equal(parse(), -1);
    rsdp[0] = 'R';
    fix_rsdp();
    rsdp[33]++; /* only the sum over all 36 bytes notices */
    assert_int_equal(parse(), -1);
    rsdp[33]--;
    rsdp[9]++;
    assert_int_equal(parse(), -1);
    assert_string_equal(acpi_error(-1), "the ACPI root pointer is damaged");
}

static void test_bad_root_table(void **state)
{
    (void)state;
    memory[XSDT + 20]++;
    assert_int_equal(parse(), -2);
    memory[XSDT + 20]--;
    put(rsdp + 24, MEMORY_SIZE - 8, 8);
    fix_rsdp();
    assert_int_equal(parse(), -2);
    put(rsdp + 24, UINT64_MAX - 3, 8);
    fix_rsdp();
    assert_int_equal(parse(), -2);
}

static void test_damaged_tables_are_left_out(void **state)
{
    (void)state;
    add_lapic(1, 1);
    memory[MADT + 20]++;
    assert_int_equal(parse(), 0);
    assert_int_equal(info.madt, 0);
    assert_int_equal(info.cpus, 0);
    assert_int_equal(info.fadt, FADT);
}

static void test_table_lengths(void **state)
{
    static const uint32_t lengths[] = {0, 1, 35, MEMORY_SIZE, 1u << 20, (1u << 20) + 1, UINT32_MAX};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        put(memory + MADT + 4, lengths[i], 4);
        assert_int_equal(parse(), 0);
        assert_int_equal(info.madt, 0);
    }
}

static void test_bad_madt_entries(void **state)
{
    uint8_t zero[2] = {0, 0}, one[2] = {0, 1}, cut[8] = {0, 4, 0, 3}, beyond[8] = {0, 200, 0, 3};

    (void)state;
    add_lapic(1, 1);
    unsigned good = madt_size;
    add_entry(zero, sizeof zero); /* must not loop for ever */
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpus, 1);
    madt_size = good;
    add_entry(one, sizeof one);
    assert_int_equal(parse(), 0);
    madt_size = good;
    add_entry(beyond, sizeof beyond);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpus, 1);
    madt_size = good;
    add_entry(cut, 4); /* too short for its type: skipped */
    add_lapic(2, 1);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpus, 2);
}

static void test_too_many_processors(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < ACPI_MAX_CPUS; id++)
        add_x2apic(1000 + id, 1);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpus, ACPI_MAX_CPUS);
    add_x2apic(5000, 1);
    assert_int_equal(parse(), -3);
}

static void test_random_damage(void **state)
{
    (void)state;
    host_random_seed(2);
    for (unsigned round = 0; round < 20000; round++) {
        setup(state);
        add_lapic(1, 1);
        add_x2apic(2, 1);
        for (unsigned i = 0; i < 4; i++) {
            static const unsigned tables[] = {RSDT, XSDT, MADT, FADT};
            unsigned table = tables[host_random() % 4];
            memory[table + host_random() % 64] = (uint8_t)host_random();
            if (host_random() % 2)
                put(memory + table + 4, 36 + host_random() % 300, 4);
            fix_table(table); /* mostly: a wrong sum hides all else */
        }
        assert_between(-parse(), 0, 3);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

/* \_S1_, _S3_ and \_S5_, and what only looks like _S3_. */
static void test_hides_sleep(void **state)
{
    static const uint8_t code[] = "\x08_S1_\x12\x06\x04\x01\x08_S3_\x12\x06\x04\x05\x08\\_S2_\x12\x06"
                                  "\x08_S5_\x12\x06\x04\x07X_S3_\x12\x08_S3_\x0b\x08_S3";
    static const uint8_t wanted[] = "\x08_S1_\x12\x06\x04\x01\x08XS3_\x12\x06\x04\x05\x08\\XS2_\x12\x06"
                                    "\x08_S5_\x12\x06\x04\x07X_S3_\x12\x08_S3_\x0b\x08_S3";
    uint8_t table[36 + sizeof code] = "DSDT", sum = 0;

    (void)state;
    table[4] = sizeof table;
    memcpy(table + 36, code, sizeof code);
    for (unsigned i = 0; i < sizeof table; i++)
        sum = (uint8_t)(sum + table[i]);
    table[9] = (uint8_t)-sum;
    assert_int_equal(acpi_hide_sleep(table, sizeof table - 1), 0); /* longer than what can be read */
    assert_int_equal(acpi_hide_sleep(table, sizeof table), 2);
    assert_int_equal(sizeof wanted, sizeof code);
    assert_memory_equal(table + 36, wanted, sizeof wanted);
    sum = 0;
    for (unsigned i = 0; i < sizeof table; i++)
        sum = (uint8_t)(sum + table[i]);
    assert_int_equal(sum, 0);
    assert_int_equal(acpi_hide_sleep(table, sizeof table), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_processors),
        TEST(test_same_processor_twice),
        TEST(test_lapic_address_override),
        TEST(test_version_1_uses_rsdt),
        TEST(test_ports),
        TEST(test_port_beyond_the_port_space),
        TEST(test_reset_register),
        TEST(test_tables_above_4_gib),
        TEST(test_short_fadt),
        TEST(test_hides_sleep),
        TEST(test_bad_root_pointer),
        TEST(test_bad_root_table),
        TEST(test_damaged_tables_are_left_out),
        TEST(test_table_lengths),
        TEST(test_bad_madt_entries),
        TEST(test_too_many_processors),
        TEST(test_random_damage),
    };
    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
