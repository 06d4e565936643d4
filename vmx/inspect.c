/* Each area of the space is computed when a word of it is read, so an area costs nothing while nobody looks, and
 * nothing has to be copied or locked. The upper four bits of an offset choose the area, the rest is a byte in it; a
 * read of the port moves the offset on, so one write of it serves a whole area. Other processors count on meanwhile:
 * each word is right, two words together need not fit. */
#include "vmx/inspect.h"

#include "kernel/cmdline.h"
#include "kernel/counters.h"
#include "kernel/format.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "vmx/hooks.h"
#include "vmx/straight.h"

#define AREA BITS(31, 28)
#define BYTE BITS(27, 0)
#define TEXT_BYTES 4096u

_Static_assert(INSPECT_MAGIC == COUNTER_MAGIC_VALUE, "one magic number");
_Static_assert(offsetof(struct log_text, text) == sizeof(struct inspect_log_position), "the ring follows its position");
_Static_assert(sizeof(struct timed_record) == sizeof(struct inspect_record), "one format");

/* The exits of both levels follow the counters. */
#define COUNTERS_BYTES (COUNTER_COUNT * 8u)
#define EXITS_BYTES (2u * EXIT_REASON_COUNT * 8u)
#define COUNTERS_STRIDE (COUNTERS_BYTES + EXITS_BYTES)

static char text[TEXT_BYTES];
static size_t text_used;

/* One line of the text area: what nestorctl shows as Nestor's own data. A full area takes no more. */
void inspect_say(const char *key, const char *fmt, ...)
{
    va_list args;

    if (text_used + 1 >= TEXT_BYTES)
        return;
    text_used += format_text(text + text_used, TEXT_BYTES - text_used, "%s: ", key);
    va_start(args, fmt);
    text_used += format_list(text + text_used, TEXT_BYTES - text_used, fmt, args);
    va_end(args);
    text_used += format_text(text + text_used, TEXT_BYTES - text_used, "\n");
}

void inspect_start(struct vm *vm)
{
    vm->cpuid.inspect_port = (uint16_t)options.inspect;
    vm->cpuid.processors = vm->vcpus;
}

/* The count of records ever, and the ring. */
static uint32_t trace_stride(const struct vm *vm)
{
    return (uint32_t)(8 + vm->vcpu[0]->cpu->timed.records * sizeof(struct timed_record));
}

/* Sizes of all areas, so that a reader of another version finds its way. */
static struct inspect_header header_now(const struct vm *vm)
{
    return (struct inspect_header){
        .magic = INSPECT_MAGIC,
        .version = INSPECT_VERSION,
        .text_bytes = TEXT_BYTES,
        .log_bytes = LOG_RING_SIZE,
        .cpus = vm->vcpus,
        .counters = COUNTER_COUNT,
        .reasons = EXIT_REASON_COUNT,
        .counters_stride = COUNTERS_STRIDE,
        .trace_records = (uint32_t)vm->vcpu[0]->cpu->timed.records,
        .trace_stride = trace_stride(vm),
    };
}

/* The word at `at` of a block of `size` bytes. */
static uint32_t word_of(const void *block, size_t size, size_t at)
{
    uint32_t word = ~0u;
    if (at + sizeof word <= size)
        memcpy(&word, (const uint8_t *)block + at, sizeof word);
    return word;
}

/* Counters, then exits by level and reason, of one processor after the other. Beyond the last: ones. */
static uint32_t counters_word(const struct vm *vm, size_t at)
{
    size_t cpu = at / COUNTERS_STRIDE, byte = at % COUNTERS_STRIDE;
    if (cpu >= vm->vcpus)
        return ~0u;
    const struct vcpu *vcpu = vm->vcpu[cpu];
    if (byte < COUNTERS_BYTES)
        return word_of(vcpu->cpu->counters, COUNTERS_BYTES, byte);
    size_t exits = (byte - COUNTERS_BYTES) / sizeof(uint64_t);
    uint64_t value = straight_exits(vcpu, (unsigned)(exits / EXIT_REASON_COUNT), (unsigned)(exits % EXIT_REASON_COUNT));
    return word_of(&value, sizeof value, byte % sizeof value);
}

/* Each processor's ring has the same size: its number is a division. Beyond the last: ones. */
static uint32_t trace_word(const struct vm *vm, size_t at)
{
    size_t stride = trace_stride(vm), cpu = at / stride, byte = at % stride;
    if (cpu >= vm->vcpus)
        return ~0u;
    const struct timed_ring *ring = &vm->vcpu[cpu]->cpu->timed;
    if (byte < sizeof ring->written)
        return word_of(&ring->written, sizeof ring->written, byte);
    return word_of(ring->record, ring->records * sizeof(struct timed_record), byte - sizeof ring->written);
}

uint32_t inspect_word(const struct vm *vm, uint32_t offset)
{
    size_t at = (size_t)GET(offset, BYTE);
    struct inspect_header header;

    switch ((enum inspect_area)GET(offset, AREA)) {
    case INSPECT_HEADER:
        header = header_now(vm);
        return word_of(&header, sizeof header, at);
    case INSPECT_TEXT:
        return word_of(text, TEXT_BYTES, at);
    case INSPECT_LOG:
        return word_of(&log_ring.log, sizeof log_ring.log, at);
    case INSPECT_PREVIOUS:
        return word_of(&log_previous, sizeof log_previous, at);
    case INSPECT_COUNTERS:
        return counters_word(vm, at);
    case INSPECT_TRACE:
        return trace_word(vm, at);
    case INSPECT_POLICY:
        return word_of(vm->msr_bitmap, PAGE_SIZE, at);
    case INSPECT_VMCS: /* of one processor: inspect_read() */
    case INSPECT_BITMAP:
        break;
    }
    return ~0u;
}

void inspect_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    (void)port, (void)size;
    vcpu->inspect_offset = ALIGN_DOWN(value, 4u);
}

uint32_t inspect_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    (void)port, (void)size;
    uint32_t area = (uint32_t)GET(vcpu->inspect_offset, AREA), word;
    if (area >= INSPECT_VMCS && nested_hooks.inspect)
        word = nested_hooks.inspect(vcpu, area, GET(vcpu->inspect_offset, BYTE));
    else
        word = inspect_word(vcpu->vm, vcpu->inspect_offset);
    /* One write of an offset serves any number of reads. */
    vcpu->inspect_offset += sizeof word;
    return word;
}

/* For who reads Nestor's memory from outside, as tools/nestor-run does when a run ends by a time-out: where the blocks
 * of a processor have what the summary shows, and the last events. tools/nestorlib/where.py names these words; it looks
 * for the symbol, so it is not static. */
extern const uint32_t inspect_layout[];
const uint32_t inspect_layout[] = {
    offsetof(struct cpu, counters),
    COUNTER_COUNT,
    offsetof(struct cpu, trace),
    TRACE_RECORDS,
    offsetof(struct cpu, straight),
    offsetof(struct straight, moves),
    offsetof(struct straight, decided),
    offsetof(struct straight, by_reason),
    offsetof(struct straight, l1_exits),
    offsetof(struct cpu, vcpu),
    offsetof(struct vcpu, in_l2),
    offsetof(struct vcpu, exits),
    EXIT_REASON_COUNT,
};

/* A port that emulators print: Bochs's port_e9_hack, QEMU's isa-debugcon. */
#define DEBUG_CONSOLE 0xe9
#define WORDS_PER_LINE 64u

/* The emulator prints what is written to this port; tools read it from its output. */
static void export_text(const char *line)
{
    while (*line)
        out8(DEBUG_CONSOLE, (uint8_t)*line++);
}

/* Hexadecimal text, 64 words a line: the debug console takes bytes, and tools find the lines by their first word. */
static void export_words(const struct vm *vm, uint32_t offset, uint32_t bytes)
{
    char word[16];
    for (uint32_t at = 0; at < bytes; at += 4) {
        if (at / 4 % WORDS_PER_LINE == 0)
            export_text(at ? "\nnestor-inspect: " : "nestor-inspect: ");
        format_text(word, sizeof word, "%08x", inspect_word(vm, offset + at));
        export_text(word);
    }
    export_text("\n");
}

void inspect_export(const struct vm *vm)
{
    if (!options.trace || (options.on_exit != ON_EXIT_BOCHS && options.on_exit != ON_EXIT_QEMU))
        return;
    for (unsigned i = 0; i < vm->vcpus; i++)
        trace_copy(vm->vcpu[i]->cpu); /* the exit that ended the run, too */
    export_words(vm, INSPECT_OFFSET(INSPECT_HEADER, 0), sizeof(struct inspect_header));
    for (unsigned i = 0; i < vm->vcpus && (i + 1ull) * trace_stride(vm) <= BYTE; i++) {
        const struct timed_ring *ring = &vm->vcpu[i]->cpu->timed;
        uint64_t used = MIN(ring->written, ring->records);
        export_words(vm, INSPECT_OFFSET(INSPECT_TRACE, i * trace_stride(vm)),
                     (uint32_t)(sizeof ring->written + used * sizeof(struct timed_record)));
    }
}
