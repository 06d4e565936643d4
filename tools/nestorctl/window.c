#define _GNU_SOURCE
#include "tools/nestorctl/window.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/io.h>

#define LOCK_FILE "/tmp/nestorctl.lock"

static uint16_t window_port;

static inline void write_offset(uint32_t offset)
{
    __asm__ volatile("outl %0, %1" : : "a"(offset), "d"(window_port));
}

static inline uint32_t read_word(void)
{
    uint32_t word;
    __asm__ volatile("inl %1, %0" : "=a"(word) : "d"(window_port));
    return word;
}

static bool is_nestors(uint32_t leaf)
{
    unsigned eax, ebx, ecx, edx;
    char name[13] = "";

    __cpuid(leaf, eax, ebx, ecx, edx);
    memcpy(name, &ebx, 4);
    memcpy(name + 4, &ecx, 4);
    memcpy(name + 8, &edx, 4);
    return eax == leaf + INSPECT_LEAF_PORT - INSPECT_LEAF && strcmp(name, INSPECT_SIGNATURE) == 0;
}

uint32_t window_leaf(void)
{
    if (is_nestors(INSPECT_LEAF))
        return INSPECT_LEAF;
    return is_nestors(INSPECT_LEAF + INSPECT_LEAF_STEP) ? INSPECT_LEAF + INSPECT_LEAF_STEP : 0;
}

bool window_find(uint16_t *port, uint32_t *version, uint32_t *processors)
{
    unsigned eax, ebx, ecx, edx, leaf = window_leaf();

    if (!leaf)
        return false;
    __cpuid(leaf + INSPECT_LEAF_PORT - INSPECT_LEAF, eax, ebx, ecx, edx);
    *version = eax;
    *port = (uint16_t)ebx;
    *processors = ecx;
    return true;
}

static int complain(const char *what, const char *todo)
{
    fprintf(stderr, "nestorctl: %s: %s\n", what, todo);
    return -1;
}

/* The offset that a write sets is the processor's: stay on one, and let no other nestorctl in between. */
static int have_it_alone(void)
{
    cpu_set_t self;
    int lock = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (lock < 0 || flock(lock, LOCK_EX) != 0)
        return complain(LOCK_FILE " cannot be locked", strerror(errno));
    CPU_ZERO(&self);
    CPU_SET(sched_getcpu(), &self);
    if (sched_setaffinity(0, sizeof self, &self) != 0)
        return complain("cannot stay on one processor", strerror(errno));
    return 0;
}

bool window_move(int cpu)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0)
        return true;
    complain("cannot go to that processor", strerror(errno));
    return false;
}

int window_open(struct inspect_header *header)
{
    uint32_t version, processors;

    if (!window_find(&window_port, &version, &processors))
        return complain("this machine does not say that it runs under Nestor",
                        "it is bare, or Nestor runs without the option inspect=PORT");
    if (version != INSPECT_VERSION)
        return complain("Nestor's interface is of another version", "use the nestorctl that was built with it");
    if (have_it_alone())
        return -1;
    if (iopl(3) != 0)
        return complain("no access to I/O ports", errno == EPERM
                                                      ? "run it as root; a kernel locked down by Secure Boot forbids it"
                                                      : strerror(errno));
    window_read(INSPECT_OFFSET(INSPECT_HEADER, 0), header, sizeof *header);
    if (header->magic != INSPECT_MAGIC)
        return complain("the port that CPUID names does not answer", "please report it");
    return 0;
}

void window_read(uint32_t offset, void *buffer, size_t size)
{
    uint8_t *to = buffer;

    write_offset(offset);
    for (size_t at = 0; at + 4 <= size; at += 4) {
        uint32_t word = read_word();
        memcpy(to + at, &word, sizeof word);
    }
}

uint64_t window_read64(uint32_t offset)
{
    uint64_t value;

    window_read(offset, &value, sizeof value);
    return value;
}
