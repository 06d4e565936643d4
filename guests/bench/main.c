/* The cost of nested VMX to L1, in TSC ticks: a line `bench: KEY MINIMUM MEDIAN` for each row, per turn with two
 * decimals. tools/nestor-bench runs this and makes the table. Arguments: rows=KEY runs only rows whose keys begin so;
 * rounds=N makes each row so many times, of BATCHES batches each, for a machine where they differ; with count=vmx the
 * lines are `count: KEY N...` instead: what count.c counts; with screen the table is on the screen, too, and stays;
 * as=NAME stands beside L0's name. With cpus=2 the rows are those for two processors, else the others.
 * each=1: `bench: row KEY` before a row, and its line as soon as it ends; behind=KEY runs only rows behind that one. */
#include "guests/bench/table.h"
#include "guests/lib/counters.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"
#include "guests/smp/second.h"

#define MAX_ROWS 128
#define MAX_ROUNDS 32u

struct vm bench_vm[BENCH_VMS];
void (*bench_finish)(void);

static const struct bench_row *const groups[] = {round_trip_rows, kvm_rows,  l1_rows, memory_rows,
                                                 flag_rows,       many_rows, msr_rows};
static const struct bench_row *const groups_of_two[] = {smp_rows};
static const struct bench_row *current;
static uint64_t samples[MAX_ROUNDS * BATCHES];
static unsigned sample_count, rounds = 1;
static bool counting, each;
static uint32_t counts[BENCH_COUNTS];
static struct bench_result results[MAX_ROWS];
static unsigned result_count;
static struct bench_table table = {.results = results};

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
    for (unsigned i = 0; i < BATCHES; i++) {
        uint64_t ticks = current->batch(current);
        samples[sample_count++] = ticks;
    }
}

static void measure(void)
{
    bench_finish = NULL;
    vmx_start();
    if (current->prepare)
        current->prepare(current);
    if (counting)
        count_row(current, counts);
    else
        run_batches();
    if (bench_finish)
        bench_finish();
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

/* True if the key begins with the word, or is it; also if there is none. */
static bool begins_with(const char *key, const char *word, bool whole)
{
    for (; word && *word && *word != ' '; word++)
        if (*word != *key++)
            return false;
    return !whole || !*key;
}

/* By what the arguments rows= and behind= say. */
static bool wanted(const char *args, const char *key)
{
    static bool passed;
    const char *behind = find_argument(args, "behind=", 7);

    if (behind && !passed) {
        passed = begins_with(key, behind, true);
        return false;
    }
    return begins_with(key, find_argument(args, "rows=", 5), false);
}

static bool run_round(void)
{
    uint64_t mark = page_mark();
    bool good = check_run(measure);

    if (!good) {
        print("bench: %s failed\n", current->key);
        memset(bench_vm, 0, sizeof(bench_vm));
        vmx_stop();
    }
    page_release(mark);
    return good;
}

static void sort_samples(void)
{
    for (unsigned i = 1; i < sample_count; i++)
        for (unsigned j = i; j > 0 && samples[j - 1] > samples[j]; j--) {
            uint64_t larger = samples[j - 1];
            samples[j - 1] = samples[j];
            samples[j] = larger;
        }
}

static bool run_row(const struct bench_row *row)
{
    current = row;
    sample_count = 0;
    if (each)
        print("bench: row %s\n", row->key);
    for (unsigned i = 0; i < rounds; i++)
        if (!run_round())
            return false;
    if (result_count < MAX_ROWS) {
        struct bench_result *result = &results[result_count++];
        sort_samples();
        *result = (struct bench_result){.key = row->key,
                                        .least = samples[0] * 100 / row->turns,
                                        .median = samples[sample_count / 2] * 100 / row->turns};
        memcpy(result->counts, counts, sizeof(counts));
        if (each)
            table_print(result, 1, counting);
    }
    return true;
}

void bench_unlock_vmx(void)
{
    if (!(cpu_rdmsr(IA32_FEATURE_CONTROL) & FEATURE_CONTROL_LOCK))
        cpu_wrmsr(IA32_FEATURE_CONTROL, FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
}

/* NULL: there is VMX. */
static const char *find_obstacle(void)
{
    if (!(cpu_cpuid(1, 0).ecx & CPUID1_ECX_VMX))
        return "this CPU shows no VMX (CPUID.1:ECX[5] is 0), and nothing was measured.\nAMD's CPUs have none. On "
               "Intel's switch VT-x on in the firmware's set-up; in a\nvirtual machine, nested virtualization in the "
               "hypervisor below (KVM:\nkvm_intel.nested=1, and the CPU model host).";
    bench_unlock_vmx();
    if (!(cpu_rdmsr(IA32_FEATURE_CONTROL) & FEATURE_CONTROL_VMX_OUTSIDE_SMX))
        return "the firmware has locked VMX off (IA32_FEATURE_CONTROL), and nothing was\nmeasured. Switch it on in the "
               "firmware's set-up, often under CPU or Security:\nIntel Virtualization Technology, VT-x.";
    return NULL;
}

static unsigned number_of(const char *text)
{
    unsigned number = 0;

    for (; text && *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (unsigned)(*text - '0');
    return number;
}

static bool run_groups(const char *args, const struct bench_row *const *list, size_t count)
{
    bool good = true;

    for (unsigned i = 0; i < count; i++)
        for (const struct bench_row *row = list[i]; row->key; row++)
            if (wanted(args, row->key))
                good &= run_row(row);
    return good;
}

static bool run_rows(const char *args)
{
    if (!find_argument(args, "cpus=2", 6))
        return run_groups(args, groups, ARRAY_SIZE(groups));
    second_prepare();
    if (!check_run(second_start)) {
        print("bench: there is no second processor\n");
        return false;
    }
    return run_groups(args, groups_of_two, ARRAY_SIZE(groups_of_two));
}

/* But for each=1 all figures are printed at the end: a UART that empties in the background would disturb them. */
uint8_t guest_main(const char *args)
{
    const char *obstacle = find_obstacle();
    bool good, shown;

    if (obstacle) {
        table_refuse(obstacle);
        return 1;
    }
    rounds = MIN(MAX(number_of(find_argument(args, "rounds=", 7)), 1u), MAX_ROUNDS);
    counting = find_argument(args, "count=vmx", 9);
    if (counting && !counters_vmx_present()) {
        print("bench: this is no Nestor that counts its VMX instructions\n");
        return 1;
    }
    if (find_argument(args, "as=", 3))
        table_name_run(find_argument(args, "as=", 3));
    each = find_argument(args, "each=1", 6);
    good = run_rows(args);
    table_print_machine();
    if (!each)
        table_print(results, result_count, counting);
    table.count = result_count;
    shown = find_argument(args, "screen", 6) && table_show(&table);
    print("bench: end %u\n", result_count);
    if (shown)
        table_turn_pages(&table);
    return good ? 0 : 1;
}
