/* An L1 with a bug, for docs/DEBUG.md: its L2 adds up two pages of numbers, and the sum is wrong, because EPT12 leads
 * one of them elsewhere. With the word `right` it does not. */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/start.h"
#include "guests/lib/vm.h"

#define NUMBERS (2 * PAGE_SIZE / sizeof(uint64_t))

static uint64_t numbers[NUMBERS] __attribute__((aligned(PAGE_SIZE)));
static volatile uint64_t sum;
static struct vm vm;
static bool right;

/* L2. */
static __attribute__((noinline)) uint64_t add_up(const uint64_t *number, uint64_t count)
{
    uint64_t total = 0;

    for (uint64_t i = 0; i < count; i++)
        total += number[i];
    return total;
}

static void l2_main(void)
{
    (void)cpu_cpuid(0, 0); /* an exit to L1 */
    sum = add_up(numbers, NUMBERS);
}

/* The bug: the second page of the numbers is another one for L2. */
static void lose_a_page(void)
{
    uint64_t gpa2 = (uint64_t)&numbers[NUMBERS / 2];

    *paging_entry(vm.ept, gpa2, PAGE_SIZE) = (uint64_t)page_alloc() | EPT_RWX | EPT_WB;
}

static void run_l2(void)
{
    vm_start(&vm, l2_main, VM_EPT);
    if (!right)
        lose_a_page();
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    EXPECT_DONE(&vm);
    vmx_stop();
}

/* The first word is the image's own name. */
uint8_t guest_main(const char *args)
{
    uint64_t wanted = NUMBERS * (NUMBERS + 1) / 2;

    while (*args && *args != ' ')
        args++;
    right = string_equal(args, " right");
    for (uint64_t i = 0; i < NUMBERS; i++)
        numbers[i] = i + 1;
    if (!check_run(run_l2))
        return 1;
    print("pages: L2's sum is %lu, and should be %lu\n", sum, wanted);
    return sum != wanted;
}
