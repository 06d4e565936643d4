/* In VMX non-root operation there is no task switch: the attempt exits, and whoever handles the exit must do all of
 * it. The order is that of the processor, because each step may fault and the fault's owner depends on it. Up to the
 * read of the new TSS the old task is untouched and gets the fault (TASK_REFUSED). From load_registers() on the
 * registers are the new task's, and so is each fault (TASK_FAULTED), with the selectors loaded and the descriptors,
 * as far as they were not reached, unusable. SDM 3A 8.3 "Task Switching" */
#include "vmx/task_switch.h"

#include "kernel/string.h"
#include "kernel/x86.h"
#include "vmx/vcpu.h"
#include "vmx/vmx_bits.h"

#define SELECTOR_RPL BITS(1, 0)
#define SELECTOR_TI BIT(2)
#define SELECTOR_INDEX BITS(15, 3)
#define IS_NULL(selector) (((selector) & ~SELECTOR_RPL) == 0)

/* Types of system segments, and the bits of those of code and data. SDM 3A 3.5 "System Descriptor Types" */
#define TYPE_LDT 2u
#define TYPE_TSS 1u
#define TYPE_TSS_BUSY BIT(1)
#define TYPE_TSS_32BIT BIT(3)
#define TYPE_CODE BIT(3)
#define TYPE_CONFORMING BIT(2)
#define TYPE_WRITE_OR_READ BIT(1)
#define TYPE_ACCESSED BIT(0)

#define DESCRIPTOR_SIZE 8u
#define DESCRIPTOR_TYPE_BYTE 5u /* the type is in its low four bits */

#define EFLAGS_DEFINED 0x3f7fd5u
#define ACCESS_V86 0xf3u
#define ACCESS_CODE32 0xc09bu
#define LIMIT_64K 0xffffu

/* SDM 3A 8.2.1 "Task-State Segment (TSS)", 8.6 "16-Bit Task-State Segment (TSS)": from `registers` on lie EIP, EFLAGS,
 * the general registers, the segment selectors and the LDT selector, a `word` each. */
struct tss_format {
    unsigned size, word, registers, segments;
};
static const struct tss_format tss32 = {0x68, 4, 0x20, 6};
static const struct tss_format tss16 = {0x2c, 2, 0x0e, 4};
enum { SLOT_EIP, SLOT_EFLAGS, SLOT_GPR, SLOT_SEGMENTS = SLOT_GPR + 8 };
#define TSS_LINK 0
#define TSS_CR3 0x1c
#define TSS_TRAP 0x64
#define TSS_SIZE_MAX 0x68

/* One switch under way. */
struct switching {
    struct task_state *state;
    const struct task_request *request;
    const struct task_memory *memory;
    struct fault *fault;
    struct segment tss; /* the new one */
    const struct tss_format *format;
    uint8_t image[TSS_SIZE_MAX];
};

/* The fault with the selector in its error code, and EXT as the event has it. */
static bool fail(struct switching *s, unsigned vector, unsigned selector)
{
    *s->fault = (struct fault){
        .vector = (uint8_t)vector,
        .has_error_code = true,
        .error_code = (uint32_t)(selector & ~SELECTOR_RPL) | s->request->external,
    };
    return false;
}

/* Linear addresses have 32 bits here: IA-32e mode has no task switches. */
static bool memory_read(struct switching *s, uint64_t gva, void *buffer, unsigned len)
{
    return s->memory->read(s->memory->context, (uint32_t)gva, buffer, len, s->fault);
}

static bool memory_write(struct switching *s, uint64_t gva, const void *buffer, unsigned len)
{
    return s->memory->write(s->memory->context, (uint32_t)gva, buffer, len, false, s->fault);
}

/* Where a selector's descriptor lies. False: beyond its table; an LDT that is not loaded has limit 0. */
static bool descriptor_find(const struct task_state *state, unsigned selector, uint32_t *gva)
{
    const struct segment *ldt = &state->segment[TASK_LDTR];
    bool local = (selector & SELECTOR_TI) != 0;
    uint32_t offset = selector & SELECTOR_INDEX;

    *gva = (local ? (uint32_t)ldt->base : state->gdt_base) + offset;
    return offset + DESCRIPTOR_SIZE - 1 <= (local ? ldt->limit : state->gdt_limit);
}

/* SDM 3A 3.4.5 "Segment Descriptors" */
static struct segment segment_of(uint64_t descriptor, unsigned selector)
{
    struct segment segment = {
        .selector = (uint16_t)selector,
        .limit = (uint32_t)(GET(descriptor, BITS(15, 0)) | GET(descriptor, BITS(51, 48)) << 16),
        .access_rights = (uint32_t)(GET(descriptor, BITS(55, 40)) & ~BITS(11, 8)),
        .base = GET(descriptor, BITS(39, 16)) | GET(descriptor, BITS(63, 56)) << 24,
    };

    if (segment.access_rights & AR_G)
        segment.limit = segment.limit << 12 | (uint32_t)PAGE_MASK;
    return segment;
}

static unsigned type_of(const struct segment *segment)
{
    return (unsigned)GET(segment->access_rights, AR_TYPE);
}

/* Fields of a TSS have 2 or 4 bytes, the lowest first. */
static uint32_t image_get(const uint8_t *image, unsigned offset, unsigned size)
{
    uint32_t value = 0;

    memcpy(&value, image + offset, size);
    return value;
}

static uint32_t slot_get(const struct switching *s, unsigned slot)
{
    return image_get(s->image, s->format->registers + slot * s->format->word, s->format->word);
}

/* The first rows of SDM 3A table "Exception Conditions Checked During a Task Switch". The CPU made these checks before
 * the exit; memory may have changed since. */
static bool check_new_tss(struct switching *s)
{
    bool iret = s->request->source == TASK_IRET;
    unsigned selector = s->request->selector, invalid = iret ? VECTOR_TS : VECTOR_GP;
    uint64_t descriptor;
    uint32_t gva;

    if ((selector & SELECTOR_TI) || !descriptor_find(s->state, selector, &gva))
        return fail(s, invalid, selector);
    if (!memory_read(s, gva, &descriptor, sizeof descriptor))
        return false;
    s->tss = segment_of(descriptor, selector);
    if ((s->tss.access_rights & AR_S) ||
        (type_of(&s->tss) & ~TYPE_TSS_32BIT) != (TYPE_TSS | (iret ? TYPE_TSS_BUSY : 0)))
        return fail(s, invalid, selector);
    if (!(s->tss.access_rights & AR_P))
        return fail(s, VECTOR_NP, selector);
    s->format = type_of(&s->tss) & TYPE_TSS_32BIT ? &tss32 : &tss16;
    return s->tss.limit >= s->format->size - 1 || fail(s, VECTOR_TS, selector);
}

/* Reads the new TSS, and stores to its link field what is there already: a page fault comes before anything changed. */
static bool probe_new_tss(struct switching *s)
{
    bool linked = s->request->source == TASK_CALL || s->request->source == TASK_GATE;

    return memory_read(s, s->tss.base, s->image, s->format->size) &&
           (!linked || memory_write(s, s->tss.base + TSS_LINK, s->image, sizeof(uint16_t)));
}

/* The upper half of a slot of 4 bytes that gets a selector keeps what memory had: the CPU writes 2 bytes. */
static void slot_put(uint8_t *saved, const struct tss_format *format, unsigned slot, uint32_t value, unsigned size)
{
    memcpy(saved + slot * format->word, &value, size);
}

/* Writes the old task's registers to its TSS: nothing else of the TSS changes. */
static bool save_old_task(struct switching *s)
{
    const struct task_state *state = s->state;
    const struct segment *tss = &state->segment[TASK_TR];
    const struct tss_format *format = type_of(tss) & TYPE_TSS_32BIT ? &tss32 : &tss16;
    unsigned len = (SLOT_SEGMENTS + format->segments - 1) * format->word + (unsigned)sizeof(uint16_t);
    uint32_t nt = s->request->source == TASK_IRET ? (uint32_t)RFLAGS_NT : 0;
    uint8_t saved[TSS_SIZE_MAX];

    if (tss->limit < format->registers + len - 1)
        return fail(s, VECTOR_TS, tss->selector);
    if (!memory_read(s, tss->base + format->registers, saved, len))
        return false;
    slot_put(saved, format, SLOT_EIP, state->eip, format->word);
    slot_put(saved, format, SLOT_EFLAGS, state->eflags & ~nt, format->word);
    for (unsigned i = 0; i < 8; i++)
        slot_put(saved, format, SLOT_GPR + i, state->gpr[i], format->word);
    for (unsigned i = 0; i < format->segments; i++)
        slot_put(saved, format, SLOT_SEGMENTS + i, state->segment[i].selector, sizeof(uint16_t));
    return memory_write(s, tss->base + format->registers, saved, len);
}

/* The busy flag of a TSS is a bit of its descriptor's type. */
static bool set_busy(struct switching *s, unsigned selector, bool busy)
{
    uint32_t gva = s->state->gdt_base + (uint32_t)(selector & SELECTOR_INDEX) + DESCRIPTOR_TYPE_BYTE;
    uint8_t byte;

    if (!memory_read(s, gva, &byte, sizeof byte))
        return false;
    byte = (uint8_t)(busy ? byte | TYPE_TSS_BUSY : byte & ~TYPE_TSS_BUSY);
    return memory_write(s, gva, &byte, sizeof byte);
}

/* CALL, interrupts and exceptions leave the old task busy, to come back to it by the link; JMP and IRET leave it for
 * good. SDM 3A table "Effect of a Task Switch on Busy Flag, NT Flag, Previous Task Link Field, and TS Flag" */
static bool change_busy_and_link(struct switching *s)
{
    enum task_source source = s->request->source;
    uint16_t old = s->state->segment[TASK_TR].selector;
    bool linked = source == TASK_CALL || source == TASK_GATE, done;

    if (source != TASK_IRET && !set_busy(s, s->tss.selector, true))
        return false;
    done = linked ? memory_write(s, s->tss.base + TSS_LINK, &old, sizeof old) : set_busy(s, old, false);
    if (!done && source != TASK_IRET) {
        struct fault fault = *s->fault;
        (void)set_busy(s, s->tss.selector, false);
        *s->fault = fault;
    }
    return done;
}

/* All that loads without a check. Segments stay unusable until their descriptors passed theirs. */
static void load_registers(struct switching *s)
{
    struct task_state *state = s->state;
    bool linked = s->request->source == TASK_CALL || s->request->source == TASK_GATE;

    state->eip = slot_get(s, SLOT_EIP);
    state->eflags = (slot_get(s, SLOT_EFLAGS) & EFLAGS_DEFINED) | (uint32_t)RFLAGS_FIXED1;
    if (linked)
        state->eflags |= (uint32_t)RFLAGS_NT;
    for (unsigned i = 0; i < 8; i++)
        state->gpr[i] = slot_get(s, SLOT_GPR + i);
    for (unsigned i = TASK_ES; i <= TASK_GS; i++) {
        uint32_t selector = i < s->format->segments ? slot_get(s, SLOT_SEGMENTS + i) : 0;
        state->segment[i] = (struct segment){.selector = (uint16_t)selector, .access_rights = AR_UNUSABLE};
    }
    state->segment[TASK_LDTR] = (struct segment){.selector = (uint16_t)slot_get(s, SLOT_SEGMENTS + s->format->segments),
                                                 .access_rights = AR_UNUSABLE};
    state->segment[TASK_TR] = s->tss;
    state->segment[TASK_TR].access_rights |= (uint32_t)TYPE_TSS_BUSY;
}

/* Only a 32-bit TSS has a CR3, and only paging reads it. */
static bool load_cr3(struct switching *s)
{
    uint32_t cr3 = image_get(s->image, TSS_CR3, sizeof cr3);

    if (s->format != &tss32 || !s->state->paging || cr3 == s->state->cr3)
        return true;
    if (!s->memory->load_cr3(s->memory->context, cr3))
        return fail(s, VECTOR_GP, 0);
    s->state->cr3 = cr3;
    return true;
}

/* The LDT comes before the segments, whose descriptors may lie in it. */
static bool load_ldt(struct switching *s)
{
    unsigned selector = s->state->segment[TASK_LDTR].selector;
    struct segment segment;
    uint64_t descriptor;
    uint32_t gva;

    if (IS_NULL(selector))
        return true;
    if ((selector & SELECTOR_TI) || !descriptor_find(s->state, selector, &gva))
        return fail(s, VECTOR_TS, selector);
    if (!memory_read(s, gva, &descriptor, sizeof descriptor))
        return false;
    segment = segment_of(descriptor, selector);
    if ((segment.access_rights & AR_S) || type_of(&segment) != TYPE_LDT || !(segment.access_rights & AR_P))
        return fail(s, VECTOR_TS, selector);
    s->state->segment[TASK_LDTR] = segment;
    return true;
}

/* The rule by which a segment register is loaded: the kind of segment, the privilege; and the fault that a segment of
 * the right kind raises when it is not present. */
struct segment_rule {
    bool (*kind)(unsigned type);
    bool (*privilege)(const struct segment *segment, unsigned rpl, unsigned cpl);
    unsigned absent;
    bool may_be_null;
};

/* Data, and writable. The other two kinds below are code of any sort, and what can be read. */
static bool kind_stack(unsigned type)
{
    return !(type & TYPE_CODE) && (type & TYPE_WRITE_OR_READ);
}

/* A stack is of exactly the new privilege level. */
static bool privilege_stack(const struct segment *segment, unsigned rpl, unsigned cpl)
{
    unsigned dpl = (unsigned)GET(segment->access_rights, AR_DPL);
    return dpl == cpl && dpl == rpl;
}

static bool kind_code(unsigned type)
{
    return (type & TYPE_CODE) != 0;
}

/* Conforming code may be of a more privileged level; plain code is of exactly the selector's. */
static bool privilege_code(const struct segment *segment, unsigned rpl, unsigned cpl)
{
    unsigned dpl = (unsigned)GET(segment->access_rights, AR_DPL);
    (void)cpl; /* it is this selector's RPL */
    return type_of(segment) & TYPE_CONFORMING ? dpl <= rpl : dpl == rpl;
}

static bool kind_data(unsigned type)
{
    return !(type & TYPE_CODE) || (type & TYPE_WRITE_OR_READ);
}

/* Conforming code can be read at any level; other segments only from levels that may use them. */
static bool privilege_data(const struct segment *segment, unsigned rpl, unsigned cpl)
{
    unsigned dpl = (unsigned)GET(segment->access_rights, AR_DPL), type = type_of(segment);
    return ((type & TYPE_CODE) && (type & TYPE_CONFORMING)) || (rpl <= dpl && cpl <= dpl);
}

static const struct segment_rule rule_stack = {kind_stack, privilege_stack, VECTOR_SS, false};
static const struct segment_rule rule_code = {kind_code, privilege_code, VECTOR_NP, false};
static const struct segment_rule rule_data = {kind_data, privilege_data, VECTOR_NP, true};

/* The processor sets the accessed bit in memory when it loads a segment. */
static bool mark_accessed(struct switching *s, uint32_t gva, struct segment *segment)
{
    uint8_t byte;

    if (segment->access_rights & TYPE_ACCESSED)
        return true;
    segment->access_rights |= (uint32_t)TYPE_ACCESSED;
    byte = (uint8_t)segment->access_rights;
    return memory_write(s, gva + DESCRIPTOR_TYPE_BYTE, &byte, sizeof byte);
}

/* Loads one segment by its rule. The order of the checks gives the fault that the CPU raises. */
static bool load_segment(struct switching *s, enum task_segment number, const struct segment_rule *rule)
{
    unsigned selector = s->state->segment[number].selector;
    unsigned cpl = (unsigned)GET(s->state->segment[TASK_CS].selector, SELECTOR_RPL);
    struct segment segment;
    uint64_t descriptor;
    uint32_t gva;

    if (IS_NULL(selector) && rule->may_be_null)
        return true;
    if (IS_NULL(selector) || !descriptor_find(s->state, selector, &gva))
        return fail(s, VECTOR_TS, selector);
    if (!memory_read(s, gva, &descriptor, sizeof descriptor))
        return false;
    segment = segment_of(descriptor, selector);
    if (!(segment.access_rights & AR_S) || !rule->kind(type_of(&segment)))
        return fail(s, VECTOR_TS, selector);
    if (!(segment.access_rights & AR_P))
        return fail(s, rule->absent, selector);
    if (!rule->privilege(&segment, (unsigned)GET(selector, SELECTOR_RPL), cpl))
        return fail(s, VECTOR_TS, selector);
    if (!mark_accessed(s, gva, &segment))
        return false;
    s->state->segment[number] = segment;
    return true;
}

/* SS before CS: when CS is bad, the handler of the fault may find a stack. */
static bool load_segments(struct switching *s)
{
    return load_segment(s, TASK_SS, &rule_stack) && load_segment(s, TASK_CS, &rule_code) &&
           load_segment(s, TASK_DS, &rule_data) && load_segment(s, TASK_ES, &rule_data) &&
           load_segment(s, TASK_FS, &rule_data) && load_segment(s, TASK_GS, &rule_data);
}

/* Virtual-8086 mode takes its segments as they are. SDM 3B 21.2.1 "Enabling Virtual-8086 Mode" */
static void load_v86_segments(struct task_state *state)
{
    for (unsigned i = TASK_ES; i <= TASK_GS; i++) {
        struct segment *segment = &state->segment[i];
        segment->base = (uint64_t)segment->selector << 4;
        segment->limit = LIMIT_64K;
        segment->access_rights = ACCESS_V86;
    }
}

/* On the new task's stack, in the width of its TSS. */
static bool push_error_code(struct switching *s)
{
    struct task_state *state = s->state;
    const struct segment *ss = &state->segment[TASK_SS];
    uint32_t mask = ss->access_rights & AR_DB ? 0xffffffff : LIMIT_64K;
    uint32_t esp = (state->gpr[RSP] - s->format->word) & mask;
    bool user = GET(ss->access_rights, AR_DPL) == 3;
    gva_t gva;

    if (!s->request->has_error_code)
        return true;
    if (!segment_linear(ss, TASK_SS, esp, s->format->word, true, 0, &gva, s->fault))
        return fail(s, VECTOR_SS, 0);
    if (!s->memory->write(s->memory->context, (uint32_t)gva, &s->request->error_code, s->format->word, user, s->fault))
        return false;
    state->gpr[RSP] = (state->gpr[RSP] & ~mask) | esp;
    return true;
}

/* After a fault the new task's state must still be one that a VM entry accepts: CPL is what CS says, a CS that did not
 * load is never executed. A handler that runs in this task gets its stack only if SS is good: "Interrupt 10-Invalid TSS
 * Exception (#TS)" (SDM 3A 6.15) wants a task for it. */
static void fill_unloaded(struct task_state *state)
{
    struct segment *cs = &state->segment[TASK_CS], *ss = &state->segment[TASK_SS];
    uint64_t cpl = GET(cs->selector, SELECTOR_RPL);

    if (ss->access_rights & AR_UNUSABLE)
        ss->access_rights |= (uint32_t)PUT(cpl, AR_DPL);
    if (cs->access_rights & AR_UNUSABLE) {
        cs->limit = 0xffffffff;
        cs->access_rights = (uint32_t)(ACCESS_CODE32 | PUT(cpl, AR_DPL));
    }
}

/* CR3 first, as the descriptor tables are read through the new task's paging; the error code last, on its stack. */
static bool load_new_task(struct switching *s)
{
    bool v86 = (s->state->eflags & RFLAGS_VM) != 0;

    if (v86)
        load_v86_segments(s->state);
    return load_cr3(s) && load_ldt(s) && (v86 || load_segments(s)) && push_error_code(s);
}

enum task_outcome task_switch(struct task_state *state, const struct task_request *request,
                              const struct task_memory *memory, struct fault *fault)
{
    struct switching s = {.state = state, .request = request, .memory = memory, .fault = fault};

    fault->vector = FAULT_NONE;
    /* The new TSS counts as it is after the old one was saved: the two may overlap. */
    if (!check_new_tss(&s) || !probe_new_tss(&s) || !save_old_task(&s) || !change_busy_and_link(&s) ||
        !memory_read(&s, s.tss.base, s.image, s.format->size))
        return TASK_REFUSED;
    load_registers(&s);
    if (!load_new_task(&s)) {
        fill_unloaded(state);
        return TASK_FAULTED;
    }
    return s.format == &tss32 && (s.image[TSS_TRAP] & 1) ? TASK_DEBUG_TRAP : TASK_DONE;
}

/* SDM 3A table "Conditions for Generating a Double Fault" */
static bool is_contributory(unsigned vector)
{
    return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP) || vector == VECTOR_CP;
}

unsigned fault_combine(unsigned first, unsigned second)
{
    bool serious = is_contributory(second) || second == VECTOR_PF;

    if (first == VECTOR_DF && serious)
        return FAULT_NONE;
    if ((first == VECTOR_PF && serious) || (is_contributory(first) && is_contributory(second)))
        return VECTOR_DF;
    return second;
}
