/* Tables of L1's EPT with many leaves, of which L2 touches a few and then others: each keeps its page and its
 * rights. */
#include "guests/lib/paging.h"

#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB /* L2-physical addresses from here on are no RAM: free to map things at */
#define ENTRIES 512u
#define LARGE 160u /* leaves of 2 MiB */
#define READ_ONLY_EACH 37u

static volatile uint64_t *l2_place;
static volatile uint64_t l2_value;

static void l2_read(void)
{
    l2_value = *l2_place;
}

static void l2_write(void)
{
    l2_place[1] = l2_value;
}

/* The page behind leaf i: one after the other, with a piece the other way round and some of one page. */
static unsigned page_of(unsigned i)
{
    if (i >= 200 && i < 260)
        return 459 - i;
    return i >= 400 && i < 420 ? 7 : i;
}

static bool is_read_only(unsigned i)
{
    return i % READ_ONLY_EACH == 0;
}

static void run(struct vm *vm, void (*code)(void), uint64_t address)
{
    vm_set_code(vm, code);
    l2_place = (volatile uint64_t *)address;
}

static void check_leaf(struct vm *vm, uint64_t address, bool read_only, uint64_t *page)
{
    run(vm, l2_read, address);
    EXPECT_DONE(vm);
    CHECK_EQ(l2_value, page[0]);
    page[1] = 0;
    l2_value = address;
    run(vm, l2_write, address);
    if (!read_only) {
        EXPECT_DONE(vm);
        CHECK_EQ(page[1], address);
        return;
    }
    EXPECT_EXIT(vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(vm->exit.gpa, address + sizeof(*page));
    CHECK_EQ(vm->exit.qualification & EPT_QUAL_ALLOWED_WRITE, 0);
    CHECK_EQ(page[1], 0);
}

/* Mapped before L2 runs, and once more behind an INVEPT with other rights. */
static void small_leaves(void)
{
    struct vm vm;
    uint64_t *pages = page_alloc_run(ENTRIES, LARGE_2M), *table;
    const struct inv_descriptor all = {0};

    vm_start(&vm, l2_read, VM_EPT);
    table = paging_entry(vm.ept, WINDOW, PAGE_SIZE);
    for (unsigned i = 0; i < ENTRIES; i++)
        pages[i * ENTRIES] = i + 1;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < ENTRIES; i++)
            table[i] = (uint64_t)&pages[page_of(i) * ENTRIES] | EPT_WB | EPT_RWX;
        for (unsigned i = round; i < ENTRIES; i++)
            if (is_read_only(i - round))
                table[i] &= ~EPT_W;
        REQUIRE_EQ(vmx_invept(INVEPT_ALL, &all), 0);
        /* The first of them in an order that lets more be taken each time. */
        for (unsigned n = 0; n < ENTRIES + 4; n += n < 4 ? 1 : 5) {
            static const unsigned first[] = {140, 180, 20, 410};
            unsigned i = n < 4 ? first[n] : n - 4;
            check_leaf(&vm, WINDOW + i * PAGE_SIZE, i >= round && is_read_only(i - round),
                       &pages[page_of(i) * ENTRIES]);
        }
        check_leaf(&vm, WINDOW + (READ_ONLY_EACH + round) * PAGE_SIZE, true,
                   &pages[(READ_ONLY_EACH + round) * ENTRIES]);
    }
}

static void large_leaves(void)
{
    struct vm vm;
    uint64_t *pieces[2] = {page_alloc_run(ENTRIES, LARGE_2M), page_alloc_run(ENTRIES, LARGE_2M)};

    vm_start(&vm, l2_read, VM_EPT);
    for (unsigned i = 0; i < LARGE; i++)
        *paging_entry(vm.ept, WINDOW + i * LARGE_2M, LARGE_2M) =
            (uint64_t)pieces[i / 3 % 2] | EPT_WB | PAGING_LARGE | (is_read_only(i) ? EPT_R | EPT_X : EPT_RWX);
    pieces[0][0] = 11;
    pieces[1][0] = 22;
    for (unsigned n = 0; n < LARGE + 3; n++) {
        static const unsigned first[] = {40, 70, 150};
        unsigned i = n < 3 ? first[n] : n - 3;
        check_leaf(&vm, WINDOW + i * LARGE_2M, is_read_only(i), pieces[i / 3 % 2]);
    }
}

const struct scenario ept_row_scenarios[] = {
    {"ept-rows-of-leaves", small_leaves, without_ept},
    {"ept-rows-of-large-leaves", large_leaves, without_ept},
    {0},
};
