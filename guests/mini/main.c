/* Runs the mini hypervisor once, or once for each word behind the image's name: a mistake of the list, or "all": each
 * of them in turn. With a mistake, success is that it does not come to its end. */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"
#include "guests/lib/vmx.h"
#include "guests/mini/mini.h"

#define STATUS_USAGE 2
#define WORD_SIZE 32

static const char *const mistakes[] = {
    "no-vmxe",     "vmxon-revision", "unaligned-vmcs", "no-vmptrld",   "absent-field",
    "must-be-one", "host-selector",  "link-pointer",   "resume-first", "ept-write-only",
};

static const char *mistake = "";

bool wrong(const char *name)
{
    return string_equal(mistake, name);
}

/* True when it went as it should. */
static bool run(const char *name)
{
    uint64_t mark = page_mark();
    bool good;

    mistake = name;
    if (*name)
        print("mini: with the mistake %s\n", name);
    good = check_run(mini_run) == !*name;
    vmx_stop();
    page_release(mark);
    return good;
}

static uint8_t run_word(const char *word)
{
    bool all = string_equal(word, "all"), known = false, good = true;

    for (unsigned i = 0; i < ARRAY_SIZE(mistakes); i++)
        if (all || string_equal(word, mistakes[i])) {
            known = true;
            good &= run(mistakes[i]);
        }
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
    return words > 1 ? status : !run("");
}
