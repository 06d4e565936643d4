/* The story of a traced MSR bitmap, told by a small L1 with one L2. Every number shown is a counter of Nestor's, a
 * difference of TSC readings, or a count of exits that this L1 saw; the run fails if one of them is not what the story
 * says. */
#include "guests/lib/check.h"
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"
#include "guests/lib/vm.h"

#define MSR IA32_LSTAR
#define READS 1000     /* RDMSRs of L2 in one go */
#define READS_SLOW 100 /* the same when each of them exits */
#define ENTRIES 100
#define BURST 16

/* The figures measured from one row to the next. */
struct measure {
    uint64_t reads;
    uint64_t exits;
    uint64_t ticks;
    uint64_t merges, saved, faults, nestor_exits;
};

static struct vm vm;
static uint64_t l2_wanted;
static volatile uint64_t l2_reads;
static uint64_t l2_ticks;
static uint64_t entries;
static bool counted;

/* L2: reads the MSR, counts that and takes the time of it. */
static void l2_read_msr(void)
{
    uint64_t start = cpu_rdtsc();

    for (uint64_t i = 0; i < l2_wanted; i++) {
        (void)cpu_rdmsr(MSR);
        l2_reads++;
    }
    l2_ticks = cpu_rdtsc() - start;
}

static struct measure read_counters(void)
{
    if (!counted)
        return (struct measure){0};
    return (struct measure){
        .merges = counter_read(COUNTER_BITMAP_MERGES),
        .saved = counter_read(COUNTER_BITMAP_MERGES_SAVED),
        .faults = counter_read(COUNTER_WATCH_FAULTS),
        .nestor_exits = (uint64_t)counter_read(COUNTER_L2_MSR_EXITS_L0) + counter_read(COUNTER_L2_MSR_EXITS_L1),
    };
}

/* The growth of the counters; exits and ticks are the caller's. */
static void measure_end(struct measure *m)
{
    struct measure now = read_counters();

    m->merges = now.merges - m->merges;
    m->saved = now.saved - m->saved;
    m->faults = now.faults - m->faults;
    m->nestor_exits = now.nestor_exits - m->nestor_exits;
}

/* L1 handles an intercepted RDMSR as a hypervisor would: gives a value and goes on behind the instruction. */
static void handle_rdmsr(void)
{
    uint64_t value = cpu_rdmsr((uint32_t)vm.regs[RCX]);

    vm.regs[RAX] = (uint32_t)value;
    vm.regs[RDX] = value >> 32;
    vm_skip(&vm);
}

static uint16_t enter_l2(void)
{
    entries++;
    return vm_run(&vm);
}

/* L2 reads the MSR so many times; the exits that L1 sees for it are counted. */
static struct measure run_l2(uint64_t reads)
{
    struct measure m = read_counters();

    l2_wanted = reads;
    l2_reads = 0;
    vm_set_code(&vm, l2_read_msr);
    while (enter_l2() == EXIT_RDMSR) {
        m.exits++;
        handle_rdmsr();
    }
    REQUIRE_EQ(vm.exit.reason, EXIT_VMCALL);
    REQUIRE_EQ(vm.regs[RAX], L2_DONE);
    m.reads = l2_reads;
    m.ticks = l2_ticks;
    measure_end(&m);
    return m;
}

static void heading(const char *text)
{
    print("\n%s\n", text);
}

static void row(const char *label, uint64_t value)
{
    print("    %-58s %8lu\n", label, value);
}

/* A number that the story needs to be this one. */
static void row_must(const char *label, uint64_t value, uint64_t must)
{
    print("    %-58s %8lu  %s\n", label, value, value == must ? "ok" : "WRONG");
    if (value != must)
        check_report("the story wants %lu here", must);
}

/* A number that only Nestor can tell. */
static void row_counter(const char *label, uint64_t value, uint64_t must)
{
    if (counted)
        row_must(label, value, must);
    else
        print("    %-58s %8s\n", label, "n/a");
}

static void row_ticks(const struct measure *m)
{
    row("TSC ticks per RDMSR and turn of L2's loop", m->reads ? m->ticks / m->reads : 0);
}

static void step_pass(void)
{
    struct measure m;

    heading("1. L1's bitmap lets L2 read IA32_LSTAR. L1 enters L2, and L2 reads it in a loop.");
    m = run_l2(READS);
    row_must("RDMSR executed by L2", m.reads, READS);
    row_must("exits to L1 for them", m.exits, 0);
    row_counter("exits to Nestor for them", m.nestor_exits, 0);
    row_counter("merges: L1's bitmap OR Nestor's", m.merges, 1);
    row_ticks(&m);
}

static void step_quiet(void)
{
    struct measure m = read_counters();
    uint64_t first = entries;

    heading("2. L1 enters L2 again and again and leaves the bitmap page alone.");
    for (unsigned i = 0; i < ENTRIES; i++)
        (void)run_l2(1);
    measure_end(&m);
    row_must("entries into L2", entries - first, ENTRIES);
    row_counter("merges", m.merges, 0);
    row_counter("merges saved, since the merged page is still fresh", m.saved, ENTRIES);
    row_counter("write faults on the page", m.faults, 0);
}

static void step_store(void)
{
    struct measure m = read_counters();
    uint64_t stores;

    heading("3. L1 sets the MSR's bit by a plain store. The page is write-protected, so Nestor learns of it.");
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    measure_end(&m);
    row_counter("write faults for the first store", m.faults, 1);
    m = read_counters();
    for (stores = 0; stores < BURST; stores++)
        ((volatile uint8_t *)vm.msr_bitmap)[stores * 8] = 0;
    measure_end(&m);
    row("further stores to the page", stores);
    row_counter("write faults for them: the page is writable again", m.faults, 0);
}

static void step_intercept(void)
{
    struct measure m;

    heading("4. The next entry merges once more, and the same RDMSR of L2 now exits to L1.");
    m = run_l2(READS_SLOW);
    row_must("RDMSR executed by L2", m.reads, READS_SLOW);
    row_counter("merges", m.merges, 1);
    row_must("exits to L1 for them", m.exits, READS_SLOW);
    row_counter("exits to Nestor for them", m.nestor_exits, READS_SLOW);
    row_ticks(&m);
}

static void step_clear(void)
{
    struct measure m = read_counters();

    heading("5. L1 clears the bit: one write fault, one merge, no exits.");
    msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
    measure_end(&m);
    row_counter("write faults", m.faults, 1);
    m = run_l2(READS);
    row_must("RDMSR executed by L2", m.reads, READS);
    row_counter("merges", m.merges, 1);
    row_must("exits to L1 for them", m.exits, 0);
    row_ticks(&m);
}

static void step_pointer(void)
{
    uint8_t *other = page_alloc();
    uint64_t own = (uint64_t)vm.msr_bitmap;
    struct measure m;

    heading("6. L1 points its VMCS to another bitmap page, in which the bit is set, and back again.");
    msr_bit_set(other, MSR, MSR_READ);
    vmx_set(MSR_BITMAP, (uint64_t)other);
    m = run_l2(READS_SLOW);
    row_must("exits to L1 with the other page", m.exits, READS_SLOW);
    row_counter("merges", m.merges, 1);
    vmx_set(MSR_BITMAP, own);
    m = run_l2(READS);
    row_must("exits to L1 with the first page", m.exits, 0);
    row_counter("write faults", m.faults, 0);
}

static void step_without(void)
{
    struct measure m;

    heading("7. For comparison: L1 uses no bitmap at all, so that every access exits.");
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    m = run_l2(READS_SLOW);
    row_must("exits to L1", m.exits, READS_SLOW);
    row_ticks(&m);
}

static void tell_story(void)
{
    vm_start(&vm, l2_read_msr, 0);
    step_pass();
    step_quiet();
    step_store();
    step_intercept();
    step_clear();
    step_pointer();
    step_without();
    vmx_stop();
}

uint8_t guest_main(const char *args)
{
    bool held;

    (void)args;
    counted = counters_present();
    vm_default_ept = vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    print("The MSR bitmap of an L2: merged once, traced, merged again only when it changed\n");
    print("===============================================================================\n");
    print("L0 is %s. L1 is this program. L2 is a loop that it runs.\n",
          counted ? "Nestor" : "the bare CPU: what only Nestor counts is not available (n/a)");
    held = check_run(tell_story);
    print("\n%s\n", held ? "The story holds." : "The story does NOT hold.");
    return held ? 0 : 1;
}
