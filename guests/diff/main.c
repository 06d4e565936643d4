/* Runs seeded-random VMX operations and prints a hash of their transcript per block, so that a bare run and a run on
 * Nestor can be compared. Words of the command line: seed=N, ops=N (at least so many), caps=LIST (what both runs have),
 * blocks=A,B,... (these alone, with their text), text=N (the text of one, and no more blocks after it). */
#include "guests/diff/arena.h"
#include "guests/diff/base.h"
#include "guests/diff/insnop.h"
#include "guests/diff/l1_state.h"
#include "guests/diff/l2op.h"
#include "guests/diff/rand.h"
#include "guests/diff/transcript.h"
#include "guests/lib/check.h"
#include "guests/lib/mem.h"
#include "guests/lib/start.h"

#define STATUS_FAILED 1
#define STATUS_USAGE 2
#define OPERATIONS_PER_BLOCK 64

#define BLOCKS_MAX 32

static struct options {
    uint64_t seed, ops;
    unsigned blocks[BLOCKS_MAX], n_blocks;
    unsigned text;
    const char *caps;
} options = {.seed = 1, .ops = 2000, .text = UINT32_MAX};

static uint64_t parse_number(const char **text)
{
    uint64_t value = 0;

    while (**text >= '0' && **text <= '9')
        value = value * 10 + (uint64_t)(*(*text)++ - '0');
    return value;
}

static const char *after(const char *word, const char *name)
{
    while (*name && *word == *name) {
        word++;
        name++;
    }
    return *name ? NULL : word;
}

static void parse_blocks(const char *text)
{
    do {
        options.blocks[options.n_blocks++] = (unsigned)parse_number(&text);
    } while (*text++ == ',' && options.n_blocks < BLOCKS_MAX);
}

static void parse_word(const char *word)
{
    const char *value;

    if ((value = after(word, "seed=")))
        options.seed = parse_number(&value);
    else if ((value = after(word, "ops=")))
        options.ops = parse_number(&value);
    else if ((value = after(word, "blocks=")))
        parse_blocks(value);
    else if ((value = after(word, "text=")))
        options.text = (unsigned)parse_number(&value);
    else if ((value = after(word, "caps=")))
        options.caps = value;
}

static void parse(const char *args)
{
    while (*args) {
        parse_word(args);
        while (*args && *args != ' ')
            args++;
        while (*args == ' ')
            args++;
    }
}

static void prepare(void)
{
    vmx_start();
    l1_state_init();
    image_init();
    arena_init();
    base_init();
    l2op_init();
    insnop_init();
}

static unsigned run_block(unsigned block)
{
    unsigned operations = 0;

    rand_start(options.seed, block);
    tr_begin(block, options.n_blocks || block == options.text);
    l2op_begin();
    insnop_begin();
    while (operations < OPERATIONS_PER_BLOCK)
        operations += rand_chance(2, 3) ? l2op_run() : insnop_run();
    insnop_end();
    l2op_end();
    print("block %u %lx %u\n", block, tr_end(), operations);
    return operations;
}

static void run_all(void)
{
    uint64_t operations = 0;

    prepare();
    for (unsigned i = 0; i < options.n_blocks; i++)
        operations += run_block(options.blocks[i]);
    for (unsigned block = 0; operations < options.ops && !options.n_blocks && block <= options.text; block++)
        operations += run_block(block);
    print("done %lu\n", operations);
}

uint8_t guest_main(const char *args)
{
    parse(args);
    if (!caps_init(options.caps)) {
        print("Bail out! caps= is not a list of %u words\n", CAPS_WORDS);
        return STATUS_USAGE;
    }
    caps_print();
    return check_run(run_all) ? 0 : STATUS_FAILED;
}
