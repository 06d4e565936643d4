#include "guests/diff/transcript.h"

#include "guests/lib/console.h"

#define HASH_START 0xcbf29ce484222325ull
#define HASH_PRIME 0x100000001b3ull

static uint64_t hash;
static bool verbose, in_line;
static unsigned block, line;

static void add(uint64_t value)
{
    hash = (hash ^ value) * HASH_PRIME;
    hash ^= hash >> 29;
}

void tr_begin(unsigned number, bool text)
{
    block = number;
    verbose = text;
    hash = HASH_START;
    line = 0;
    in_line = false;
}

void tr_line(const char *what)
{
    add(line);
    if (verbose)
        print("%s@%u.%u %s", in_line ? "\n" : "", block, line, what);
    in_line = true;
    line++;
}

void tr(const char *name, uint64_t value)
{
    add(value);
    if (verbose)
        print(" %s=%lx", name, value);
}

void tr_list(const char *name, const uint64_t *values, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add(values[i]);
        if (verbose)
            print(" %s%u=%lx", name, i, values[i]);
    }
}

void tr_note(const char *name, uint64_t value)
{
    if (verbose)
        print(" (%s=%lx)", name, value);
}

void tr_note_bytes(const uint8_t *bytes, unsigned count)
{
    if (!verbose)
        return;
    print(" (code=");
    for (unsigned i = 0; i < count; i++)
        print("%02x", bytes[i]);
    print(")");
}

bool tr_verbose(void)
{
    return verbose;
}

uint64_t tr_end(void)
{
    if (verbose && in_line)
        print("\n");
    in_line = false;
    return hash;
}
