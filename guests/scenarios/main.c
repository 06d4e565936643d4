/* Runs the scenarios that the command line names and reports them as TAP. A word is "all", a scenario, or a theme; with
 * a minus in front it takes away; "ept=0" and "ept=1" choose what L2s run on unless a scenario insists; "steps=N" is
 * for those that take random steps; "features=1" gives each L2 all that the CPU has (guests/lib/features.c). */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/features.h"
#include "guests/lib/irq.h"
#include "guests/lib/mem.h"
#include "guests/lib/multiboot.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"
#include "guests/scenarios/scenario.h"

#define STATUS_FAILED 1
#define STATUS_USAGE 2
#define WORDS_MAX 32
#define WORD_SIZE 40

static const struct scenario *const themes[] = {
#define THEME(name) name##_scenarios,
#include "guests/scenarios/themes.def"
#undef THEME
#ifdef ENLIGHTENED
    evmcs_scenarios,
#endif
};

static char words[WORDS_MAX][WORD_SIZE];
static unsigned n_words;

unsigned scenario_steps;

const char *without_ept(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_EPT) ? NULL : "no EPT";
}

const char *without_counters(void)
{
    return counters_present() ? NULL : "on bare";
}

const char *without_carveout(void)
{
    return multiboot_find_carveout() ? NULL : "on bare";
}

const char *without_unrestricted(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_UNRESTRICTED) ? NULL : "no unrestricted guest";
}

static bool is_steps(const char *word)
{
    const char name[] = "steps=";

    if (memcmp(word, name, sizeof name - 1))
        return false;
    scenario_steps = 0;
    for (word += sizeof name - 1; *word >= '0' && *word <= '9'; word++)
        scenario_steps = 10 * scenario_steps + (unsigned)(*word - '0');
    return true;
}

static void add_word(const char *start, const char *end)
{
    size_t length = (size_t)(end - start);
    char *word = words[n_words];

    if (!length || length >= WORD_SIZE || n_words == WORDS_MAX)
        return;
    memcpy(word, start, length);
    word[length] = 0;
    if (string_equal(word, "ept=0"))
        vm_default_ept = false;
    else if (string_equal(word, "features=1"))
        vm_also = features_on;
    else if (!string_equal(word, "ept=1") && !is_steps(word))
        n_words++;
}

/* The first word is the image's own name. */
static void split_words(const char *args)
{
    for (bool first = true; *args; first = false) {
        const char *end = args;
        while (*end && *end != ' ')
            end++;
        if (!first)
            add_word(args, end);
        args = *end ? end + 1 : end;
    }
}

static bool word_matches(const char *word, const char *name)
{
    size_t i = 0;

    while (word[i] && word[i] == name[i])
        i++;
    return string_equal(word, "all") || (!word[i] && (!name[i] || name[i] == '-'));
}

static bool is_selected(const char *name)
{
    bool selected = !n_words;

    for (unsigned i = 0; i < n_words; i++) {
        if (word_matches(words[i], name))
            selected = true;
        if (words[i][0] == '-' && word_matches(words[i] + 1, name))
            return false;
    }
    return selected;
}

static bool word_selects_any(const char *word)
{
    word += *word == '-';
    for (unsigned t = 0; t < ARRAY_SIZE(themes); t++)
        for (const struct scenario *s = themes[t]; s->name; s++)
            if (word_matches(word, s->name))
                return true;
    return false;
}

static unsigned count_selected(void)
{
    unsigned n = 0;

    for (unsigned t = 0; t < ARRAY_SIZE(themes); t++)
        for (const struct scenario *s = themes[t]; s->name; s++)
            n += is_selected(s->name);
    return n;
}

/* True unless it failed. The line before it names what hangs or kills the machine, if something does. */
static bool run_one(const struct scenario *scenario, unsigned number)
{
    const char *reason = scenario->unavailable ? scenario->unavailable() : NULL;
    uint64_t cr0 = cpu_read_cr0();
    uint64_t mark = page_mark();
    bool passed;

    if (reason) {
        print("ok %u - %s # SKIP %s\n", number, scenario->name, reason);
        return true;
    }
    print("# run %s\n", scenario->name);
    passed = check_run(scenario->run);
    vmx_stop();
    cpu_write_cr0(cr0);
    cpu_write_cr8(0);
    irq_timer_stop();
    trap_hook = NULL;
    trap_debug_counted = false;
    page_release(mark);
    if (passed && check_skipped())
        print("ok %u - %s # SKIP %s\n", number, scenario->name, check_skipped());
    else
        print("%s %u - %s\n", passed ? "ok" : "not ok", number, scenario->name);
    return passed;
}

static unsigned run_selected(void)
{
    unsigned number = 0;
    unsigned failed = 0;

    for (unsigned t = 0; t < ARRAY_SIZE(themes); t++)
        for (const struct scenario *s = themes[t]; s->name; s++)
            if (is_selected(s->name))
                failed += !run_one(s, ++number);
    return failed;
}

uint8_t guest_main(const char *args)
{
    unsigned failed;

    if (!(cpu_cpuid(1, 0).ecx & CPUID1_ECX_VMX)) {
        print("Bail out! this CPU has no VMX\n");
        return STATUS_USAGE;
    }
    vm_default_ept = !without_ept();
    split_words(args);
    for (unsigned i = 0; i < n_words; i++)
        if (!word_selects_any(words[i])) {
            print("Bail out! no scenario or theme is called %s\n", words[i]);
            return STATUS_USAGE;
        }
    print("1..%u\n", count_selected());
    if (vm_also)
        features_print();
    failed = run_selected();
    print("# %u failed\n", failed);
    return failed ? STATUS_FAILED : 0;
}
