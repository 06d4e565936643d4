/* Runs the mini hypervisor once, or once for each word behind the image's name: a mistake of the list, or "all": each
 * of them in turn. With a mistake, success is that it does not come to its end. */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/start.h"
#include "guests/lib/vmx.h"
#include "guests/mini/mini.h"

#define STATUS_USAGE 2
#define WORD_SIZE 32

static const char *const mistakes[] = {
    "no-vmxe",     "vmxon-revision", "unaligned-vmcs", "no-vmptrld",   "absent-field",
    "must-be-one", "host-selector",  "link-pointer",   "resume-first", "ept-write-only",
};
/* Not of "all": those with which the guest runs all the same, for Nestor's option lint=1, and ends of another kind. */
static const char *const harmless[] = {"no-vmclear",   "read-only-field", "store-to-region",
                                       "junk-pointer", "no-invvpid",      "no-invept"};
static const char *const fatal[] = {"guest-without-idt", "without-idt", "endless-guest"};

static const char *mistake = "";

bool wrong(const char *name)
{
    return string_equal(mistake, name);
}

void spoil_vmcs(uint64_t *ept, uint64_t guest_code)
{
    if (wrong("absent-field"))
        vmx_set(0x2ffe, 0);
    if (wrong("host-selector"))
        vmx_set(HOST_CS_SELECTOR, SEL_CODE64 | 3);
    if (wrong("link-pointer"))
        vmx_set(VMCS_LINK_POINTER, 0x1008);
    if (wrong("ept-write-only"))
        *paging_entry(ept, ALIGN_DOWN(guest_code, LARGE_2M), LARGE_2M) &= ~EPT_R;
    if (wrong("read-only-field"))
        vmx_set(EXIT_QUALIFICATION, 0);
    if (wrong("store-to-region"))
        *(volatile uint32_t *)vmx_current() = vmx_revision();
    if (wrong("junk-pointer"))
        vmx_set(IO_BITMAP_A, 0x1234);
    if (wrong("guest-without-idt"))
        vmx_set(GUEST_IDTR_LIMIT, 0);
    if (wrong("no-invvpid")) {
        vmx_set(PROC2_CONTROLS, PROC2_VPID);
        vmx_set(VPID, 1);
    }
}

/* True when the guest came to its end as it should. */
static bool run(const char *name, bool ends)
{
    uint64_t mark = page_mark();
    bool good;

    mistake = name;
    if (*name)
        print("mini: with the mistake %s\n", name);
    good = check_run(mini_run) == ends;
    vmx_stop();
    page_release(mark);
    return good;
}

/* The words of a list that are meant. False: one went wrong. */
static bool run_list(const char *word, const char *const *list, unsigned count, bool ends, bool *known)
{
    bool all = string_equal(word, "all") && list == mistakes, good = true;

    for (unsigned i = 0; i < count; i++)
        if (all || string_equal(word, list[i])) {
            *known = true;
            good &= run(list[i], ends);
        }
    return good;
}

static uint8_t run_word(const char *word)
{
    bool known = false, good = run_list(word, mistakes, ARRAY_SIZE(mistakes), false, &known);

    good &= run_list(word, harmless, ARRAY_SIZE(harmless), true, &known);
    good &= run_list(word, fatal, ARRAY_SIZE(fatal), false, &known);
    if (known)
        return !good;
    print("mini: no mistake is called %s\n", word);
    return STATUS_USAGE;
}

/* The first word is the image's own name. */
uint8_t guest_main(const char *args)
{
    char word[WORD_SIZE];
    unsigned words = 0;
    uint8_t status = 0;

    while (*args) {
        const char *end = args;
        while (*end && *end != ' ')
            end++;
        string_copy(word, args, MIN(sizeof word, (size_t)(end - args) + 1));
        if (words++)
            status |= run_word(word);
        args = end + (*end == ' ');
    }
    return words > 1 ? status : !run("", true);
}
