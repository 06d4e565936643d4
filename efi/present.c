#include "efi/present.h"

#include "kernel/msr.h"
#include "kernel/x86.h"

/* SDM 3C 25.4.1 "Guest Register State": the access rights as LAR gives them, 8 bits lower; unusable */
#define LAR_ACCESS 0xf0ffu
#define ACCESS_UNUSABLE BIT(16)
#define ACCESS_TYPE BITS(4, 0)
#define ACCESS_BUSY_TSS 0xb
/* SDM 3A 3.4.5 "Segment Descriptors" */
#define BASE_23_0 BITS(39, 16)
#define BASE_31_24 BITS(63, 56)
#define SELECTOR_INDEX 0xfff8u
#define SELECTOR_LOCAL BIT(2)

#define READ_SELECTOR(name)                                                                                            \
    ({                                                                                                                 \
        uint16_t selector_;                                                                                            \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(selector_));                                                     \
        selector_;                                                                                                     \
    })

static struct in_place_segment read_segment(uint16_t selector)
{
    struct in_place_segment segment = {.selector = selector, .access = ACCESS_UNUSABLE};
    uint32_t rights, limit;
    bool known;

    __asm__ volatile("lar %2, %0\n\tsetz %1" : "=&r"(rights), "=q"(known) : "r"((uint32_t)selector) : "cc");
    if (!(selector & SELECTOR_INDEX) || !known)
        return segment;
    __asm__ volatile("lsl %1, %0" : "=r"(limit) : "r"((uint32_t)selector) : "cc");
    segment.limit = limit;
    segment.access = rights >> 8 & LAR_ACCESS;
    return segment;
}

/* Of a system segment, whose descriptor has two entries. */
static uint64_t read_base(const struct in_place_state *state, uint16_t selector)
{
    const struct descriptor_pointer *gdtr = (const void *)state->gdtr;
    const uint64_t *entry = (const uint64_t *)(gdtr->base + (selector & SELECTOR_INDEX));

    if (!(selector & SELECTOR_INDEX) || (selector & SELECTOR_LOCAL))
        return 0;
    return GET(entry[0], BASE_23_0) | GET(entry[0], BASE_31_24) << 24 | entry[1] << 32;
}

void present_read(struct in_place_state *state)
{
    state->cr0 = read_cr0();
    state->cr3 = read_cr3();
    state->cr4 = read_cr4();
    state->efer = rdmsr(IA32_EFER);
    __asm__ volatile("sgdt %0" : "=m"(state->gdtr));
    __asm__ volatile("sidt %0" : "=m"(state->idtr));
    state->fs_base = rdmsr(IA32_FS_BASE);
    state->gs_base = rdmsr(IA32_GS_BASE);
    state->cs = READ_SELECTOR(cs);
    state->ss = READ_SELECTOR(ss);
    state->ds = READ_SELECTOR(ds);
    state->es = READ_SELECTOR(es);
    state->fs = READ_SELECTOR(fs);
    state->gs = READ_SELECTOR(gs);
    __asm__ volatile("sldt %0" : "=r"(state->ldtr));
    __asm__ volatile("str %0" : "=r"(state->tr));
    const uint16_t selector[] = {state->es, state->cs, state->ss,   state->ds,
                                 state->fs, state->gs, state->ldtr, state->tr};
    for (unsigned i = 0; i < ARRAY_SIZE(selector); i++)
        state->segment[i] = read_segment(selector[i]);
    /* A firmware without a TSS: TR is nothing, or what Nestor left there when it was refused. */
    if ((state->segment[7].access & ACCESS_TYPE) != ACCESS_BUSY_TSS)
        state->tr = 0;
    state->segment[4].base = state->fs_base;
    state->segment[5].base = state->gs_base;
    state->segment[6].base = read_base(state, state->ldtr);
    state->segment[7].base = read_base(state, state->tr);
}
