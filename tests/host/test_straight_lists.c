/* sources: nested/straight_lists.c mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
/* cflags: -DMUTANTS -include tests/host/fake_msr.h */
/* Lists of MSRs on the straight way: they do what a plain walk does, or nothing but to store what that would store. */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/cmdline.h"
#include "mm/page.h"
#include "nested/straight_lists.h"
#include "vmx/msr_guest.h"

#define MEMORY (2 * MIB)
#define RAM MIB /* the upper half stands for Nestor's memory */
#define LISTS 0x4000u
#define LISTS_SIZE 0x2000u /* where the random ones are, so that some overlap */
#define ENTRY_SIZE sizeof(struct msr_entry)
#define REFUSED BIT(40) /* in a value: WRMSR faults */

bool msr_plain[MSR_PLAIN_COUNT], msr_acting[MSR_ACTING_COUNT];
struct options options;

static const uint32_t plain[] = {0xc0000081, 0xc0000082, 0xc0000103, IA32_SPEC_CTRL}; /* the last acts */
#define ACTING 3
static uint8_t *memory;
static struct ept ept;
static struct memmap map;
static struct vm vm;
static struct vcpu vcpu;
static struct cpu cpu;
static struct nested nested;
static struct vmcs12_slot slot;
static struct vmcs12 vmcs12;
static uint64_t registers[ARRAY_SIZE(plain)];
static unsigned writes;

static uint64_t *register_of(uint32_t index)
{
    for (unsigned i = 0; i < ARRAY_SIZE(plain); i++)
        if (plain[i] == index)
            return &registers[i];
    fail_msg("an access to MSR %x", index);
    return NULL;
}

uint64_t fake_rdmsr(uint32_t index)
{
    return *register_of(index);
}

bool fake_wrmsr(uint32_t index, uint64_t value)
{
    if (value & REFUSED)
        return false;
    *register_of(index) = value;
    writes++;
    return true;
}

static int setup(void **state)
{
    (void)state;
    memory = host_memory(MEMORY);
    page_init(memory + RAM, memory + MEMORY);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, RAM, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, RAM, MEMORY - RAM, REGION_RESERVED), 0);
    memset(&ept, 0, sizeof ept);
    ept.features = (struct ept_features){true, true, 40};
    ept.map = &map;
    assert_int_equal(ept_build(&ept), 0);
    vm.watch = (struct ept_watch){.ept01 = &ept};
    gmem_init(&vm.gmem, &map, &vm.watch);
    for (unsigned i = 0; i < ACTING; i++)
        msr_plain[plain[i] - MSR_PLAIN_FIRST] = true;
    msr_acting[IA32_SPEC_CTRL] = true;
    vcpu = (struct vcpu){.vm = &vm, .cpu = &cpu, .nested = &nested};
    slot.v = &vmcs12;
    nested.current = &slot;
    options.quiet_fault = QUIET_FAULT_NONE;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static struct msr_entry *entry_at(uint8_t *in, gpa_t list, uint64_t i)
{
    return (struct msr_entry *)(in + list + i * ENTRY_SIZE);
}

static struct msr_entry random_entry(void)
{
    struct msr_entry entry = {plain[host_random() % ARRAY_SIZE(plain)], 0, host_random() % 4};
    uint64_t odd = host_random() % 100;

    if (odd == 0)
        entry.index = IA32_PAT;
    else if (odd == 1)
        entry.reserved = 1u << host_random() % 32;
    else if (odd == 2)
        entry.value |= REFUSED;
    return entry;
}

static void random_list(uint64_t *list, uint64_t *count)
{
    *count = host_random() % 4 ? host_random() % 8 : host_random() % (STRAIGHT_LIST_MAX + 1);
    *list = LISTS + host_random() % (LISTS_SIZE / ENTRY_SIZE) * ENTRY_SIZE;
    for (uint64_t i = 0; i < *count; i++)
        *entry_at(memory, *list, i) = random_entry();
}

static bool may_name(const struct msr_entry *entry)
{
    return !entry->reserved && msr_is_plain(entry->index);
}

/* True if the walk comes to its end. */
static bool walk_stored(uint8_t *in)
{
    for (uint64_t i = 0; i < vmcs12.EXIT_MSR_STORE_COUNT; i++) {
        struct msr_entry *entry = entry_at(in, vmcs12.EXIT_MSR_STORE_ADDR, i);
        if (!may_name(entry))
            return false;
        entry->value = *register_of(entry->index);
    }
    return true;
}

static bool walk_loaded(uint8_t *in, gpa_t list, uint64_t count, uint64_t *now)
{
    for (uint64_t i = 0; i < count; i++) {
        const struct msr_entry *entry = entry_at(in, list, i);
        if (!may_name(entry) || (entry->value & REFUSED))
            return false;
        now[register_of(entry->index) - registers] = entry->value;
    }
    return true;
}

/* One exit and the entry behind it, which may fail. True: all is as the walk has it. */
static bool one_turn(uint8_t *walked)
{
    uint64_t was[ARRAY_SIZE(plain)], now[ARRAY_SIZE(plain)];
    bool exits, enters;

    random_list(&vmcs12.EXIT_MSR_STORE_ADDR, &vmcs12.EXIT_MSR_STORE_COUNT);
    random_list(&vmcs12.EXIT_MSR_LOAD_ADDR, &vmcs12.EXIT_MSR_LOAD_COUNT);
    random_list(&vmcs12.ENTRY_MSR_LOAD_ADDR, &vmcs12.ENTRY_MSR_LOAD_COUNT);
    host_random_fill(registers, sizeof registers);
    for (unsigned i = 0; i < ARRAY_SIZE(plain); i++)
        registers[i] %= 4;
    memcpy(was, registers, sizeof was);
    memcpy(now, registers, sizeof now);
    memcpy(walked, memory, RAM);
    exits = walk_stored(walked) && walk_loaded(walked, vmcs12.EXIT_MSR_LOAD_ADDR, vmcs12.EXIT_MSR_LOAD_COUNT, now);
    slot.plan.valid = true;
    if (straight_lists_exit(&vcpu) != exits || slot.plan.valid != exits)
        return false;
    if (memcmp(registers, exits ? now : was, sizeof was) || memcmp(memory, walked, RAM))
        return false;
    memcpy(was, registers, sizeof was);
    memcpy(now, registers, sizeof now);
    enters = walk_loaded(walked, vmcs12.ENTRY_MSR_LOAD_ADDR, vmcs12.ENTRY_MSR_LOAD_COUNT, now);
    if (straight_lists_enter(&vcpu) != enters || memcmp(registers, enters ? now : was, sizeof was))
        return false;
    straight_lists_undo(&nested);
    return !memcmp(registers, was, sizeof was);
}

static unsigned wrong_turns(enum quiet_fault fault)
{
    static uint8_t walked[RAM];
    unsigned wrong = 0;

    options.quiet_fault = fault;
    host_random_seed(7);
    for (unsigned i = 0; i < 2000; i++)
        wrong += !one_turn(walked);
    return wrong;
}

static void test_as_a_walk(void **state)
{
    (void)state;
    assert_int_equal(wrong_turns(QUIET_FAULT_NONE), 0);
    assert_int_not_equal(wrong_turns(QUIET_FAULT_HALF), 0);
    assert_int_not_equal(wrong_turns(QUIET_FAULT_LOADED), 0);
}

static unsigned writes_of(unsigned number, uint64_t value)
{
    vmcs12.ENTRY_MSR_LOAD_ADDR = LISTS;
    vmcs12.ENTRY_MSR_LOAD_COUNT = 2;
    for (unsigned i = 0; i < 2; i++)
        *entry_at(memory, LISTS, i) = (struct msr_entry){plain[number], 0, value};
    writes = 0;
    assert_true(straight_lists_enter(&vcpu));
    assert_int_equal(registers[number], value);
    return writes;
}

/* IA32_SPEC_CTRL is written although it has the value, as the CPU writes it. */
static void test_acting_msr_is_written_again(void **state)
{
    (void)state;
    registers[0] = registers[ACTING] = 1;
    assert_int_equal(writes_of(0, 1), 0);
    assert_int_equal(writes_of(0, 2), 1);
    assert_int_equal(writes_of(ACTING, 1), 2);
    assert_int_equal(writes_of(ACTING, 0), 2);
}

static uint64_t stored_when_stale;

static void became_stale(struct watcher *w)
{
    stored_when_stale = *(uint64_t *)(memory + w->page + 8);
}

/* A list of two entries, the second of which begins the page behind. */
static void store_into(gpa_t page)
{
    vmcs12.EXIT_MSR_STORE_ADDR = page - ENTRY_SIZE;
    vmcs12.EXIT_MSR_STORE_COUNT = 2;
    vmcs12.EXIT_MSR_LOAD_COUNT = 0;
    for (unsigned i = 0; i < 2; i++)
        *entry_at(memory, vmcs12.EXIT_MSR_STORE_ADDR, i) = (struct msr_entry){plain[i], 0, 0};
    registers[0] = 0x123;
    registers[1] = 0x456;
    vcpu.attention = false;
    assert_true(straight_lists_exit(&vcpu));
}

static void test_who_watches_is_told_after_the_store(void **state)
{
    struct watcher watcher = {.stale = became_stale};

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        stored_when_stale = 0;
        assert_int_equal(ept_watch_add(&vm.watch, 0x5000, &watcher), 0);
        store_into(0x8000);
        assert_true(watcher.armed && !vcpu.attention);
        store_into(0x5000);
        assert_int_equal(stored_when_stale, 0x456);
        assert_true(!watcher.armed && vcpu.attention);
    }
    assert_int_equal(ept_watch_add(&vm.watch, 0x5000, &watcher), 0);
    options.quiet_fault = QUIET_FAULT_UNTOLD;
    store_into(0x5000);
    assert_true(watcher.armed);
}

static bool would_try(gpa_t list, uint64_t count)
{
    vmcs12.ENTRY_MSR_LOAD_ADDR = list;
    vmcs12.ENTRY_MSR_LOAD_COUNT = count;
    return straight_lists_are_plain(&vcpu, &vmcs12);
}

static void test_lists_that_are_not_tried(void **state)
{
    (void)state;
    memset(&vmcs12, 0, sizeof vmcs12);
    for (unsigned i = 0; i <= STRAIGHT_LIST_MAX; i++)
        *entry_at(memory, 0x4000, i) = (struct msr_entry){plain[i % ARRAY_SIZE(plain)], 0, 0};
    assert_true(would_try(0x4000, STRAIGHT_LIST_MAX));
    assert_false(would_try(0x4000, STRAIGHT_LIST_MAX + 1));
    assert_false(would_try(0x4000, UINT32_MAX));
    entry_at(memory, 0x4000, 5)->index = IA32_PAT;
    assert_true(would_try(0x4000, 5));
    assert_false(would_try(0x4000, 6));
    for (unsigned i = 0; i < 4; i++)
        *entry_at(memory, RAM - 2 * ENTRY_SIZE, i) = (struct msr_entry){plain[0], 0, 0};
    assert_false(would_try(RAM - 2 * ENTRY_SIZE, 4));
    assert_false(would_try(RAM, 1));
    assert_false(would_try(~0xfull, 1));
    assert_false(would_try(BIT(51), 1));
    assert_true(would_try(BIT(51), 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_as_a_walk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acting_msr_is_written_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_watches_is_told_after_the_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_that_are_not_tried, setup, teardown),
    };
    return cmocka_run_group_tests_name("straight_lists", tests, NULL, NULL);
}
