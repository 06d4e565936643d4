/* What nested VMX costs L1, in TSC ticks: a line `bench: KEY TICKS` for each row, TICKS per turn with two decimals.
 * tools/nestor-bench runs this and makes the table. The argument rows=KEY runs only rows whose
 * keys begin so. */
#include "guests/bench/bench.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"

#define MAX_ROWS 128

struct result {
    const char *key;
    uint64_t ticks; /* of 100 turns */
};

struct vm bench_vm[BENCH_VMS];

static const struct bench_row *const groups[] = {round_trip_rows, l1_rows, memory_rows, msr_rows};
static const struct bench_row *current;
static uint64_t best;
static struct result results[MAX_ROWS];
static unsigned result_count;

void l2_vmcall(void)
{
    asm volatile("1: vmcall; jmp 1b");
}

void bench_create(struct vm *vm, void (*code)(void))
{
    vm_create(vm, code, VM_EPT);
    REQUIRE_EQ(vm_enter(vm), 0);
}

extern uint8_t vm_exit_point[];

uint64_t bench_done(uint64_t start, uint64_t left)
{
    uint64_t ticks = cpu_rdtsc() - start;

    vmx_set(HOST_RIP, (uint64_t)vm_exit_point);
    REQUIRE_EQ(left, 0);
    return ticks;
}

static void clear_vms(void)
{
    for (unsigned i = 0; i < BENCH_VMS; i++)
        if (bench_vm[i].vmcs)
            vm_clear(&bench_vm[i]);
    memset(bench_vm, 0, sizeof(bench_vm));
}

static void measure(void)
{
    vmx_start();
    if (current->prepare)
        current->prepare(current);
    best = UINT64_MAX;
    for (unsigned i = 0; i < BATCHES; i++) {
        uint64_t ticks = current->batch(current);
        best = MIN(best, ticks);
    }
    clear_vms();
    vmx_stop();
}

/* Whether the key begins with what the argument rows= says. */
static bool wanted(const char *args, const char *key)
{
    static const char name[] = "rows=";

    while (*args && memcmp(args, name, sizeof(name) - 1))
        args++;
    if (!*args)
        return true;
    for (args += sizeof(name) - 1; *args && *args != ' '; args++)
        if (*args != *key++)
            return false;
    return true;
}

static bool run_row(const struct bench_row *row)
{
    uint64_t mark = page_mark();
    bool good;

    current = row;
    good = check_run(measure);
    if (!good) {
        print("bench: %s failed\n", row->key);
        memset(bench_vm, 0, sizeof(bench_vm));
        vmx_stop();
    } else if (result_count < MAX_ROWS) {
        results[result_count++] = (struct result){row->key, best * 100 / row->turns};
    }
    page_release(mark);
    return good;
}

static void allow_vmx(void)
{
    if (!(cpu_rdmsr(IA32_FEATURE_CONTROL) & FEATURE_CONTROL_LOCK))
        cpu_wrmsr(IA32_FEATURE_CONTROL, FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
}

/* All figures are printed at the end: a UART that empties in the background would disturb them. */
uint8_t guest_main(const char *args)
{
    bool good = true;

    allow_vmx();
    for (unsigned i = 0; i < ARRAY_SIZE(groups); i++)
        for (const struct bench_row *row = groups[i]; row->key; row++)
            if (wanted(args, row->key))
                good &= run_row(row);
    for (unsigned i = 0; i < result_count; i++)
        print("bench: %s %lu.%02lu\n", results[i].key, results[i].ticks / 100, results[i].ticks % 100);
    print("bench: end %u\n", result_count);
    return good ? 0 : 1;
}
