/* The cost of nested VMX to L1, in TSC ticks: a line `bench: KEY TICKS` for each row, TICKS per turn with two decimals.
 * tools/nestor-bench runs this and makes the table. The argument rows=KEY runs only rows whose
 * keys begin so. With count=vmx the lines are `count: KEY N...` instead: what count.c counts. */
#include "guests/bench/bench.h"

#include "guests/lib/counters.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"

#define MAX_ROWS 128

struct result {
    const char *key;
    uint64_t ticks; /* of 100 turns */
    uint32_t counts[BENCH_COUNTS];
};

struct vm bench_vm[BENCH_VMS];

static const struct bench_row *const groups[] = {round_trip_rows, kvm_rows, l1_rows, memory_rows, msr_rows};
static const struct bench_row *current;
static uint64_t best;
static bool counting;
static uint32_t counts[BENCH_COUNTS];
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

static void run_batches(void)
{
    best = UINT64_MAX;
    for (unsigned i = 0; i < BATCHES; i++) {
        uint64_t ticks = current->batch(current);
        best = MIN(best, ticks);
    }
}

static void measure(void)
{
    vmx_start();
    if (current->prepare)
        current->prepare(current);
    if (counting)
        count_row(current, counts);
    else
        run_batches();
    clear_vms();
    vmx_stop();
}

/* The text behind the name in the arguments, or NULL. */
static const char *find_argument(const char *args, const char *name, size_t length)
{
    for (; *args; args++)
        if (!memcmp(args, name, length))
            return args + length;
    return NULL;
}

/* True if the key begins with what the argument rows= says. */
static bool wanted(const char *args, const char *key)
{
    const char *start = find_argument(args, "rows=", 5);

    for (; start && *start && *start != ' '; start++)
        if (*start != *key++)
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
        struct result *result = &results[result_count++];
        *result = (struct result){.key = row->key, .ticks = best * 100 / row->turns};
        memcpy(result->counts, counts, sizeof(counts));
    }
    page_release(mark);
    return good;
}

static void allow_vmx(void)
{
    if (!(cpu_rdmsr(IA32_FEATURE_CONTROL) & FEATURE_CONTROL_LOCK))
        cpu_wrmsr(IA32_FEATURE_CONTROL, FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
}

static void print_result(const struct result *result)
{
    if (!counting) {
        print("bench: %s %lu.%02lu\n", result->key, result->ticks / 100, result->ticks % 100);
        return;
    }
    print("count: %s", result->key);
    for (unsigned i = 0; i < BENCH_COUNTS; i++)
        print(" %u.%02u", result->counts[i] / 100, result->counts[i] % 100);
    print("\n");
}

/* All figures are printed at the end: a UART that empties in the background would disturb them. */
uint8_t guest_main(const char *args)
{
    bool good = true;

    allow_vmx();
    counting = find_argument(args, "count=vmx", 9);
    if (counting && !counters_vmx_present()) {
        print("bench: this is no Nestor that counts its VMX instructions\n");
        return 1;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(groups); i++)
        for (const struct bench_row *row = groups[i]; row->key; row++)
            if (wanted(args, row->key))
                good &= run_row(row);
    for (unsigned i = 0; i < result_count; i++)
        print_result(&results[i]);
    print("bench: end %u\n", result_count);
    return good ? 0 : 1;
}
