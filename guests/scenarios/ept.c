/* Extended page tables of L1: leaf sizes, violations, misconfigurations, changes with and without INVEPT. */
#include "guests/lib/paging.h"

#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB /* L2-physical addresses from here on are no RAM: free to map things at */
#define ACCESS (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH)
#define ALLOWED (EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_WRITE | EPT_QUAL_ALLOWED_EXEC)

static volatile uint64_t *l2_place;
static volatile uint64_t l2_value;

static void l2_read(void)
{
    l2_value = *l2_place;
}

static void l2_write(void)
{
    *l2_place = 0x2222;
}

static void l2_read_write_read(void)
{
    uint64_t first = *l2_place;
    *l2_place = first + 1;
    l2_value = *l2_place;
}

static void l2_call(void)
{
    ((void (*)(void))(uint64_t)l2_place)();
}

/* Every page of a 2 MiB piece. */
static void l2_touch_pages(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 512; i++)
        sum += l2_place[i * (PAGE_SIZE / sizeof(*l2_place))];
    l2_value = sum;
}

static void invept(struct vm *vm, unsigned type)
{
    struct inv_descriptor descriptor = {.low = type == INVEPT_SINGLE ? vmx_get(EPT_POINTER) : 0};

    vm_load(vm);
    REQUIRE_EQ(vmx_invept(type, &descriptor), 0);
}

static void run(struct vm *vm, void (*code)(void), uint64_t address)
{
    vm_set_code(vm, code);
    l2_place = (volatile uint64_t *)address;
}

static void start(struct vm *vm)
{
    vm_start(vm, l2_read, VM_EPT);
}

/* The entry for WINDOW + a page, and the page behind it, mapped with these rights. */
static uint64_t *map_window(struct vm *vm, uint64_t rights, uint64_t **page)
{
    uint64_t *entry = paging_entry(vm->ept, WINDOW, PAGE_SIZE);

    *page = page_alloc();
    *entry = (uint64_t)*page | rights | EPT_WB;
    return entry;
}

static void check_violation(const struct vm *vm, uint64_t gpa, uint64_t access, uint64_t allowed)
{
    CHECK_EQ(vm->exit.qualification & ACCESS, access);
    CHECK_EQ(vm->exit.qualification & ALLOWED, allowed);
    CHECK_EQ(vm->exit.qualification & (EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK), EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK);
    CHECK_EQ(vm->exit.gpa, gpa);
    CHECK_EQ(vm->exit.gla, gpa);
}

static void leaf_4k(void)
{
    uint64_t *page;
    struct vm vm;

    start(&vm);
    map_window(&vm, EPT_RWX, &page);
    page[3] = 0x1111;
    run(&vm, l2_read_write_read, WINDOW + 24);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x1112);
    CHECK_EQ(page[3], 0x1112);
}

static void leaf_2m(void)
{
    uint64_t *piece;
    struct vm vm;

    start(&vm);
    piece = page_alloc_run(512, LARGE_2M);
    for (unsigned i = 0; i < 512; i++)
        piece[i * 512] = i;
    *paging_entry(vm.ept, WINDOW + 4 * MIB, LARGE_2M) = (uint64_t)piece | EPT_RWX | EPT_WB | PAGING_LARGE;
    run(&vm, l2_touch_pages, WINDOW + 4 * MIB);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 511 * 512 / 2);
}

static void leaf_1g(void)
{
    uint64_t *page;
    struct vm vm;

    start(&vm);
    page = page_alloc();
    page[5] = 0x3333;
    *paging_entry(vm.ept, WINDOW, LARGE_1G) = EPT_RWX | EPT_WB | PAGING_LARGE;
    run(&vm, l2_read, WINDOW + (uint64_t)&page[5]);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x3333);
}

static const char *without_1g(void)
{
    return !without_ept() && (vmx_ept_vpid_cap() & EPT_CAP_1G) ? NULL : "no 1 GiB EPT pages";
}

static void violation_not_present(void)
{
    uint64_t *entry, *page;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    *entry = 0;
    run(&vm, l2_read, WINDOW + 0x18);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    check_violation(&vm, WINDOW + 0x18, EPT_QUAL_READ, 0);
    CHECK_EQ(vm.exit.idt_info & INTR_VALID, 0);
    page[3] = 0x4444;
    *entry = (uint64_t)page | EPT_RWX | EPT_WB;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x4444);
}

static void violation_write(void)
{
    uint64_t *entry, *page;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_R | EPT_X, &page);
    run(&vm, l2_read, WINDOW);
    EXPECT_DONE(&vm);
    run(&vm, l2_write, WINDOW + 8);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    check_violation(&vm, WINDOW + 8, EPT_QUAL_WRITE, EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_EXEC);
    CHECK_EQ(page[1], 0);
    /* More rights need no INVEPT. SDM 3C 29.4.3.4 "Guidelines for Use of the INVEPT Instruction" */
    *entry |= EPT_W;
    EXPECT_DONE(&vm);
    CHECK_EQ(page[1], 0x2222);
}

#define CODE_RET 0xc3

static void violation_fetch(void)
{
    uint64_t *entry, *page;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_R | EPT_W, &page);
    page[0] = CODE_RET;
    run(&vm, l2_call, WINDOW);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    check_violation(&vm, WINDOW, EPT_QUAL_FETCH, EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_WRITE);
    *entry |= EPT_X;
    EXPECT_DONE(&vm);
}

static void execute_only(void)
{
    uint64_t *page;
    struct vm vm;

    start(&vm);
    map_window(&vm, EPT_X, &page);
    page[0] = CODE_RET;
    run(&vm, l2_call, WINDOW);
    EXPECT_DONE(&vm);
    run(&vm, l2_read, WINDOW);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    check_violation(&vm, WINDOW, EPT_QUAL_READ, EPT_QUAL_ALLOWED_EXEC);
}

static const char *without_execute_only(void)
{
    return !without_ept() && (vmx_ept_vpid_cap() & EPT_CAP_EXEC_ONLY) ? NULL : "no execute-only EPT pages";
}

/* The rights of all levels are intersected. */
static void rights_of_upper_levels(void)
{
    uint64_t *page;
    struct vm vm;

    start(&vm);
    map_window(&vm, EPT_RWX, &page);
    *paging_entry(vm.ept, WINDOW, LARGE_2M) &= ~EPT_W;
    run(&vm, l2_read, WINDOW);
    EXPECT_DONE(&vm);
    run(&vm, l2_write, WINDOW);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    check_violation(&vm, WINDOW, EPT_QUAL_WRITE, EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_EXEC);
    *paging_entry(vm.ept, WINDOW, LARGE_2M) |= EPT_W;
    EXPECT_DONE(&vm);
}

static void lowered_with_invept(void)
{
    uint64_t *entry, *page;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    for (unsigned type = INVEPT_SINGLE; type <= INVEPT_ALL; type++) {
        run(&vm, l2_write, WINDOW);
        EXPECT_DONE(&vm);
        *entry &= ~EPT_W;
        invept(&vm, type);
        run(&vm, l2_write, WINDOW);
        EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
        check_violation(&vm, WINDOW, EPT_QUAL_WRITE, EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_EXEC);
        *entry |= EPT_W;
        EXPECT_DONE(&vm);
    }
}

static void remapped_with_invept(void)
{
    uint64_t *entry, *page, *other;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    other = page_alloc();
    page[0] = 0x5555;
    other[0] = 0x6666;
    run(&vm, l2_read, WINDOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x5555);
    *entry = (uint64_t)other | EPT_RWX | EPT_WB;
    invept(&vm, INVEPT_SINGLE);
    run(&vm, l2_read, WINDOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x6666);
    *entry = 0;
    invept(&vm, INVEPT_ALL);
    run(&vm, l2_read, WINDOW);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    check_violation(&vm, WINDOW, EPT_QUAL_READ, 0);
}

/* A 2 MiB leaf becomes a table and a leaf again, each time with other contents behind it. */
static void leaf_and_table_toggled(void)
{
    uint64_t *large, *small, *entry, *table;
    struct vm vm;

    start(&vm);
    large = page_alloc_run(512, LARGE_2M);
    small = page_alloc();
    table = page_alloc();
    large[0] = 0x7000;
    small[0] = 0x8000;
    table[0] = (uint64_t)small | EPT_RWX | EPT_WB;
    entry = paging_entry(vm.ept, WINDOW, LARGE_2M);
    for (unsigned i = 0; i < 4; i++) {
        *entry = (uint64_t)large | EPT_RWX | EPT_WB | PAGING_LARGE;
        invept(&vm, INVEPT_SINGLE);
        run(&vm, l2_read_write_read, WINDOW);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, 0x7001 + i);
        *entry = (uint64_t)table | EPT_RWX;
        invept(&vm, INVEPT_SINGLE);
        run(&vm, l2_read_write_read, WINDOW);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, 0x8001 + i);
        run(&vm, l2_read, WINDOW + PAGE_SIZE);
        EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    }
}

static void check_misconfigured(struct vm *vm, uint64_t *entry, uint64_t value, const char *file, int line)
{
    *entry = value;
    invept(vm, INVEPT_ALL);
    run(vm, l2_read, WINDOW + 0x40);
    if (!check_equal(vm_run(vm), EXIT_EPT_MISCONFIG, "exit reason", file, line) ||
        !check_equal(vm->exit.gpa, WINDOW + 0x40, "guest-physical address", file, line))
        check_report("that was entry 0x%lx", value);
}
#define CHECK_MISCONFIGURED(vm, entry, value) check_misconfigured(vm, entry, value, __FILE__, __LINE__)

/* SDM 3C 29.3.3.1 "EPT Misconfigurations" */
static void misconfigurations(void)
{
    uint64_t beyond = 1ull << cpu_physical_bits();
    uint64_t *entry, *large, *page;
    uint64_t good, table;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    good = *entry;
    CHECK_MISCONFIGURED(&vm, entry, (good & ~EPT_RWX) | EPT_W);
    CHECK_MISCONFIGURED(&vm, entry, (good & ~EPT_RWX) | EPT_W | EPT_X);
    CHECK_MISCONFIGURED(&vm, entry, (good & ~EPT_MEMORY_TYPE) | PUT(2, EPT_MEMORY_TYPE));
    CHECK_MISCONFIGURED(&vm, entry, (good & ~EPT_MEMORY_TYPE) | PUT(7, EPT_MEMORY_TYPE));
    if (beyond < BIT(52))
        CHECK_MISCONFIGURED(&vm, entry, good | beyond);
    *entry = good;
    large = paging_entry(vm.ept, WINDOW, LARGE_2M);
    table = *large;
    CHECK_MISCONFIGURED(&vm, large, table | BIT(3));
    CHECK_MISCONFIGURED(&vm, large, WINDOW | BIT(13) | EPT_RWX | EPT_WB | PAGING_LARGE);
    *large = table;
    invept(&vm, INVEPT_ALL);
    EXPECT_DONE(&vm);
}

/* No CPU caches a misconfigured entry: L1 needs no INVEPT when it makes another of it, and each access meets what is
 * there. SDM 3C 29.4.2 "Creating and Using Cached Translation Information" */
static void misconfigured_by_turns(void)
{
    uint64_t *entry, *page, good;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    good = *entry;
    for (unsigned round = 0; round < 3; round++) {
        CHECK_MISCONFIGURED(&vm, entry, (good & ~EPT_RWX) | EPT_W);
        for (unsigned turn = 0; turn < 4; turn++) {
            run(&vm, l2_read, WINDOW + 0x40);
            EXPECT_EXIT(&vm, EXIT_EPT_MISCONFIG);
        }
        *entry = round == 1 ? good & ~EPT_RWX : good;
        page[8] = 0x5150 + round;
        run(&vm, l2_read, WINDOW + 0x40);
        if (round == 1) {
            EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
            continue;
        }
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, 0x5150 + round);
    }
}

/* L1 hangs another table in the place, and then mends the entry in the old one: by whichever of the two a CPU goes, it
 * meets no misconfigured entry any more. */
static void misconfigured_table_moves(void)
{
    uint64_t *entry, *page, *other = page_alloc(), *above, good;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    above = paging_entry(vm.ept, WINDOW, LARGE_2M);
    good = *entry;
    entry[1] = other[0] = other[1] = good;
    page[8] = 0x5150;
    for (unsigned round = 0; round < 3; round++) {
        *above = (uint64_t)entry | EPT_RWX;
        CHECK_MISCONFIGURED(&vm, entry, (good & ~EPT_RWX) | EPT_W);
        run(&vm, l2_read, WINDOW + 0x40);
        EXPECT_EXIT(&vm, EXIT_EPT_MISCONFIG);
        *above = (uint64_t)other | EPT_RWX;
        run(&vm, l2_read, WINDOW + PAGE_SIZE + 0x40);
        EXPECT_DONE(&vm);
        *entry = good;
        run(&vm, l2_read, WINDOW + 0x40);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, 0x5150);
    }
}

/* A write-only or malformed entry is only a violation while it is not present at all. */
static void ignored_bits(void)
{
    uint64_t *entry, *page;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    *entry = 0xfff0000000000ff8 & ~EPT_RWX;
    run(&vm, l2_read, WINDOW);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    check_violation(&vm, WINDOW, EPT_QUAL_READ, 0);
    *entry = (uint64_t)page | EPT_RWX | EPT_WB | BIT(11) | BITS(58, 52);
    EXPECT_DONE(&vm);
}

static void accessed_and_dirty(void)
{
    uint64_t *entry, *page;
    struct vm vm;

    start(&vm);
    entry = map_window(&vm, EPT_RWX, &page);
    run(&vm, l2_read_write_read, WINDOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(*entry & (EPT_ACCESSED | EPT_DIRTY), 0);
    vmx_set(EPT_POINTER, ept_pointer(vm.ept, true));
    invept(&vm, INVEPT_SINGLE);
    run(&vm, l2_read, WINDOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(*entry & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED);
    CHECK_EQ(*paging_entry(vm.ept, WINDOW, LARGE_2M) & EPT_ACCESSED, EPT_ACCESSED);
    CHECK_EQ(*paging_entry(vm.ept, WINDOW, LARGE_1G) & EPT_ACCESSED, EPT_ACCESSED);
    run(&vm, l2_write, WINDOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(*entry & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED | EPT_DIRTY);
    *entry &= ~(EPT_ACCESSED | EPT_DIRTY);
    invept(&vm, INVEPT_SINGLE);
    run(&vm, l2_write, WINDOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(*entry & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED | EPT_DIRTY);
}

static const char *without_accessed_dirty(void)
{
    return !without_ept() && (vmx_ept_vpid_cap() & EPT_CAP_AD) ? NULL : "no EPT accessed and dirty flags";
}

const struct scenario ept_scenarios[] = {
    {"ept-leaf-4k", leaf_4k, without_ept},
    {"ept-leaf-2m", leaf_2m, without_ept},
    {"ept-leaf-1g", leaf_1g, without_1g},
    {"ept-violation-not-present", violation_not_present, without_ept},
    {"ept-violation-write", violation_write, without_ept},
    {"ept-violation-fetch", violation_fetch, without_ept},
    {"ept-execute-only", execute_only, without_execute_only},
    {"ept-rights-of-upper-levels", rights_of_upper_levels, without_ept},
    {"ept-lowered-with-invept", lowered_with_invept, without_ept},
    {"ept-remapped-with-invept", remapped_with_invept, without_ept},
    {"ept-leaf-and-table-toggled", leaf_and_table_toggled, without_ept},
    {"ept-misconfigurations", misconfigurations, without_ept},
    {"ept-misconfigured-by-turns", misconfigured_by_turns, without_ept},
    {"ept-misconfigured-table-moves", misconfigured_table_moves, without_ept},
    {"ept-ignored-bits", ignored_bits, without_ept},
    {"ept-accessed-and-dirty", accessed_and_dirty, without_accessed_dirty},
    {0},
};
