/* sources: nested/rules/caps12.c vmx/vmcs_exists.c nested/rules/vmcs12.c vmx/vmcs_table.c */
/* docs/FEATURES.md says of each bit and each CPU model what caps12_compute() makes of it, and leaves out no bit. */
#include "tests/host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nested/rules/caps12.h"
#include "tests/host/cpu_models.h"
#include "vmx/vmx_bits.h"

#define PAGE_PATH "docs/FEATURES.md"
#define COLUMN_SIZE 240
#define MODELS 9

/* In the order of the page's columns. */
static const struct vmx_caps *const columns[MODELS] = {&model_sandy_bridge,    &model_haswell,    &model_cnl,
                                                       &model_skylake_x,       &model_icelake_u,  &model_tigerlake,
                                                       &model_sapphire_rapids, &model_arrow_lake, &model_wildcat_lake};
static const char *const names[MODELS] = {"sandy_bridge", "haswell",         "cnl",        "skylake_x",   "icelake_u",
                                          "tigerlake",    "sapphire_rapids", "arrow_lake", "wildcat_lake"};

enum word { PIN, PROC, PROC2, PROC3, VMFUNC, EXIT, EXIT2, ENTRY, EPT_VPID, MISC, BASIC, WORDS };

static const struct feature {
    const char *name;
    enum word word;
    uint64_t mask;
} features[] = {
#define NAMED(word, name)                                                                                              \
    {                                                                                                                  \
#name, word, name                                                                                              \
    }
#define BIT_OF(word, name, bit)                                                                                        \
    {                                                                                                                  \
        name, word, BIT(bit)                                                                                           \
    }
    NAMED(PIN, PIN_EXTERNAL_INTERRUPT),
    NAMED(PIN, PIN_NMI),
    NAMED(PIN, PIN_VIRTUAL_NMIS),
    NAMED(PIN, PIN_PREEMPTION_TIMER),
    NAMED(PIN, PIN_POSTED_INTERRUPTS),
    NAMED(PROC, PROC_INTERRUPT_WINDOW),
    NAMED(PROC, PROC_TSC_OFFSETTING),
    NAMED(PROC, PROC_HLT),
    NAMED(PROC, PROC_INVLPG),
    NAMED(PROC, PROC_MWAIT),
    NAMED(PROC, PROC_RDPMC),
    NAMED(PROC, PROC_RDTSC),
    NAMED(PROC, PROC_CR3_LOAD),
    NAMED(PROC, PROC_CR3_STORE),
    NAMED(PROC, PROC_TERTIARY),
    NAMED(PROC, PROC_CR8_LOAD),
    NAMED(PROC, PROC_CR8_STORE),
    NAMED(PROC, PROC_TPR_SHADOW),
    NAMED(PROC, PROC_NMI_WINDOW),
    NAMED(PROC, PROC_MOV_DR),
    NAMED(PROC, PROC_UNCOND_IO),
    NAMED(PROC, PROC_USE_IO_BITMAPS),
    NAMED(PROC, PROC_MONITOR_TRAP),
    NAMED(PROC, PROC_USE_MSR_BITMAPS),
    NAMED(PROC, PROC_MONITOR),
    NAMED(PROC, PROC_PAUSE),
    NAMED(PROC, PROC_SECONDARY),
    NAMED(PROC2, PROC2_APIC_ACCESS),
    NAMED(PROC2, PROC2_EPT),
    NAMED(PROC2, PROC2_DESC_TABLE),
    NAMED(PROC2, PROC2_RDTSCP),
    NAMED(PROC2, PROC2_X2APIC),
    NAMED(PROC2, PROC2_VPID),
    NAMED(PROC2, PROC2_WBINVD),
    NAMED(PROC2, PROC2_UNRESTRICTED),
    NAMED(PROC2, PROC2_APIC_REGISTER),
    NAMED(PROC2, PROC2_VIRTUAL_INTERRUPTS),
    NAMED(PROC2, PROC2_PAUSE_LOOP),
    NAMED(PROC2, PROC2_RDRAND),
    NAMED(PROC2, PROC2_INVPCID),
    NAMED(PROC2, PROC2_VMFUNC),
    NAMED(PROC2, PROC2_VMCS_SHADOWING),
    NAMED(PROC2, PROC2_ENCLS),
    NAMED(PROC2, PROC2_RDSEED),
    NAMED(PROC2, PROC2_PML),
    NAMED(PROC2, PROC2_EPT_VE),
    NAMED(PROC2, PROC2_XSAVES),
    NAMED(PROC2, PROC2_SPP),
    NAMED(PROC2, PROC2_TSC_SCALING),
    NAMED(PROC2, PROC2_USER_WAIT),
    NAMED(PROC2, PROC2_MODE_BASED_EXECUTE),
    NAMED(PROC2, PROC2_PCONFIG),
    NAMED(PROC3, PROC3_MSR_LIST),
    NAMED(PROC3, PROC3_SPEC_CTRL),
    BIT_OF(VMFUNC, "VMFUNC bit 0", 0),
    NAMED(EXIT, EXITC_SAVE_DEBUG),
    NAMED(EXIT, EXITC_HOST_64),
    NAMED(EXIT, EXITC_LOAD_PERF_GLOBAL),
    NAMED(EXIT, EXITC_ACK_INTERRUPT),
    NAMED(EXIT, EXITC_SAVE_PAT),
    NAMED(EXIT, EXITC_LOAD_PAT),
    NAMED(EXIT, EXITC_SAVE_EFER),
    NAMED(EXIT, EXITC_LOAD_EFER),
    NAMED(EXIT, EXITC_SAVE_TIMER),
    BIT_OF(EXIT, "EXITC bit 23", 23),
    NAMED(EXIT, EXITC_CLEAR_UINV),
    NAMED(EXIT, EXITC_LOAD_CET),
    NAMED(EXIT, EXITC_LOAD_PKRS),
    NAMED(EXIT, EXITC_SAVE_PERF_GLOBAL),
    NAMED(EXIT, EXITC_SECONDARY),
    NAMED(EXIT2, EXIT2_LOAD_SPEC_CTRL),
    BIT_OF(EXIT2, "EXIT2 bit 3", 3),
    BIT_OF(EXIT2, "EXIT2 bit 24", 24),
    NAMED(ENTRY, ENTRY_LOAD_DEBUG),
    NAMED(ENTRY, ENTRY_GUEST_64),
    NAMED(ENTRY, ENTRY_TO_SMM),
    NAMED(ENTRY, ENTRY_NO_DUAL_MONITOR),
    NAMED(ENTRY, ENTRY_LOAD_PERF_GLOBAL),
    NAMED(ENTRY, ENTRY_LOAD_PAT),
    NAMED(ENTRY, ENTRY_LOAD_EFER),
    BIT_OF(ENTRY, "ENTRY bit 16", 16),
    NAMED(ENTRY, ENTRY_LOAD_UINV),
    NAMED(ENTRY, ENTRY_LOAD_CET),
    NAMED(ENTRY, ENTRY_LOAD_PKRS),
    NAMED(EPT_VPID, EPT_CAP_EXEC_ONLY),
    NAMED(EPT_VPID, EPT_CAP_WALK4),
    NAMED(EPT_VPID, EPT_CAP_WALK5),
    NAMED(EPT_VPID, EPT_CAP_UC),
    NAMED(EPT_VPID, EPT_CAP_WB),
    NAMED(EPT_VPID, EPT_CAP_2M),
    NAMED(EPT_VPID, EPT_CAP_1G),
    NAMED(EPT_VPID, EPT_CAP_INVEPT),
    NAMED(EPT_VPID, EPT_CAP_AD),
    NAMED(EPT_VPID, EPT_CAP_ADVANCED_INFO),
    NAMED(EPT_VPID, EPT_CAP_SUPERVISOR_SHADOW_STACK),
    NAMED(EPT_VPID, EPT_CAP_INVEPT_SINGLE),
    NAMED(EPT_VPID, EPT_CAP_INVEPT_ALL),
    NAMED(EPT_VPID, VPID_CAP_INVVPID),
    NAMED(EPT_VPID, VPID_CAP_ADDRESS),
    NAMED(EPT_VPID, VPID_CAP_SINGLE),
    NAMED(EPT_VPID, VPID_CAP_ALL),
    NAMED(EPT_VPID, VPID_CAP_SINGLE_NONGLOBAL),
    NAMED(MISC, VMX_MISC_STORE_LMA),
    NAMED(MISC, VMX_MISC_ACTIVITY_HLT),
    NAMED(MISC, VMX_MISC_ACTIVITY_SHUTDOWN),
    NAMED(MISC, VMX_MISC_ACTIVITY_WAIT_SIPI),
    NAMED(MISC, VMX_MISC_CR3_TARGETS),
    NAMED(MISC, VMX_MISC_VMWRITE_ANY),
    NAMED(MISC, VMX_MISC_INJECT_LENGTH0),
    NAMED(BASIC, VMX_BASIC_DUAL_MONITOR),
    NAMED(BASIC, VMX_BASIC_INS_OUTS_INFO),
    NAMED(BASIC, VMX_BASIC_TRUE_CONTROLS),
    NAMED(BASIC, VMX_BASIC_NO_ERROR_CODE_CHECK),
#undef NAMED
#undef BIT_OF
};

static uint64_t word_of(const struct vmx_caps *caps, enum word word)
{
    const uint64_t words[WORDS] = {
        [PIN] = caps->pin.may & ~caps->pin.must,
        [PROC] = caps->proc.may & ~caps->proc.must,
        [PROC2] = caps->proc2.may & ~caps->proc2.must,
        [PROC3] = caps->proc3,
        [EXIT2] = caps->exit2,
        [VMFUNC] = caps->vmfunc,
        [EXIT] = caps->exit.may & ~caps->exit.must,
        [ENTRY] = caps->entry.may & ~caps->entry.must,
        [EPT_VPID] = caps->ept_vpid,
        [MISC] = caps->misc,
        [BASIC] = caps->basic,
    };

    return words[word];
}

static const char *cell_for(const struct feature *feature, const struct vmx_caps *cpu)
{
    struct vmx_caps offered;

    caps12_compute(cpu, &offered);
    if (word_of(&offered, feature->word) & feature->mask)
        return "y";
    return word_of(cpu, feature->word) & feature->mask ? "no" : "-";
}

static char *page;

static int setup(void **state)
{
    FILE *file = fopen(PAGE_PATH, "r");
    size_t length;

    (void)state;
    page = calloc(1, 1 << 20);
    assert_non_null(file);
    assert_non_null(page);
    length = fread(page, 1, (1 << 20) - 1, file);
    (void)fclose(file);
    return length ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(page);
    return 0;
}

/* The cells behind a feature's name: "| y | - | ..."; NULL when the page has no such row. */
static const char *row_of(const char *name)
{
    char key[COLUMN_SIZE];
    const char *found;

    (void)snprintf(key, sizeof(key), "| `%s` |", name);
    found = strstr(page, key);
    return found ? found + strlen(key) - 1 : NULL;
}

static void test_rows_say_what_is_offered(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        char wanted[COLUMN_SIZE] = "";
        const char *row = row_of(features[i].name);

        for (unsigned m = 0; m < MODELS; m++)
            (void)snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), "| %s ",
                           cell_for(&features[i], columns[m]));
        if (!row || strncmp(row, wanted, strlen(wanted)) != 0)
            fail_msg(PAGE_PATH ": %s should have %s", features[i].name, wanted);
    }
}

/* Each row with a model's cells is one of ours, under columns that are in our order. */
static void test_no_other_rows(void **state)
{
    char header[COLUMN_SIZE] = "| feature | bit ";
    unsigned rows = 0;

    (void)state;
    for (unsigned m = 0; m < MODELS; m++)
        (void)snprintf(header + strlen(header), sizeof(header) - strlen(header), "| %s ", names[m]);
    for (const char *line = page; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, "| feature | bit ", 16))
            assert_int_equal(strncmp(line, header, strlen(header)), 0);
        const char *bit = *line == '|' ? strstr(line, " | `") : NULL, *end = strchr(line, '\n');
        const char *close = bit ? strchr(bit + 4, '`') : NULL;
        rows += bit && end && bit < end && close &&
                (!strncmp(close, "` | y |", 7) || !strncmp(close, "` | - |", 7) || !strncmp(close, "` | no |", 8));
    }
    assert_int_equal(rows, ARRAY_SIZE(features));
}

/* Each feature of a model, or that Nestor would offer on a CPU with everything, is in the list. */
static void test_no_bit_is_missing(void **state)
{
    /* Numbers, not features: sizes, revisions, rates. */
    static const uint64_t numbers[WORDS] = {
        [MISC] = VMX_MISC_TIMER_RATE | VMX_MISC_MSR_LIST_MAX,
        [BASIC] = VMX_BASIC_REVISION | VMX_BASIC_REGION_SIZE | VMX_BASIC_MEMORY_TYPE,
    };
    struct vmx_caps all = model_skylake_x, offered;

    (void)state;
    all.pin.may = all.proc.may = all.proc2.may = all.exit.may = all.entry.may = UINT32_MAX;
    all.ept_vpid = all.misc = all.vmfunc = all.basic = all.proc3 = all.exit2 = UINT64_MAX;
    caps12_compute(&all, &offered);
    for (enum word word = 0; word < WORDS; word++) {
        uint64_t known = numbers[word], there = word_of(&offered, word);

        for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
            known |= features[i].word == word ? features[i].mask : 0;
        for (unsigned m = 0; m < MODELS; m++)
            there |= word_of(columns[m], word);
        if (there & ~known)
            fail_msg("word %u: bits %llx have no row", word, (unsigned long long)(there & ~known));
    }
}

static bool hidden_somewhere(const struct feature *feature)
{
    for (unsigned m = 0; m < MODELS; m++)
        if (!strcmp(cell_for(feature, columns[m]), "no"))
            return true;
    return false;
}

/* The column behind those of the models says whether KVM offers it. */
static bool kvm_offers(const struct feature *feature)
{
    const char *cell = row_of(feature->name);

    for (unsigned column = 0; cell && column < MODELS; column++)
        cell = strchr(cell + 1, '|');
    assert_non_null(cell);
    return cell[2] == 'y';
}

/* A feature that a CPU has and L1 does not see is named a second time, in the section that gives the reasons: among
 * what KVM offers, or behind it. */
static void test_reasons_are_given(void **state)
{
    const char *reasons = strstr(page, "\n## What the CPU has and L1 does not see\n");
    const char *neither = strstr(page, "\nKVM offers these neither:\n");

    (void)state;
    assert_non_null(reasons);
    assert_non_null(neither);
    assert_true(neither > reasons);
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        char key[COLUMN_SIZE];
        const char *found;

        if (!hidden_somewhere(&features[i]))
            continue;
        (void)snprintf(key, sizeof(key), "`%s`", features[i].name);
        found = strstr(reasons, key);
        if (!found || (found < neither) != kvm_offers(&features[i]))
            fail_msg(PAGE_PATH ": no reason for %s under the heading where it belongs", features[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_say_what_is_offered),
        cmocka_unit_test(test_no_other_rows),
        cmocka_unit_test(test_no_bit_is_missing),
        cmocka_unit_test(test_reasons_are_given),
    };
    return cmocka_run_group_tests_name("features", tests, setup, teardown);
}
