/* sources: nested/rules/check.c nested/rules/check_rows.c nested/rules/check_controls.c nested/rules/check_host.c
   nested/rules/check_guest.c nested/rules/check_segments.c nested/rules/check_state.c nested/rules/check_scope.c
   nested/rules/caps12.c vmx/vmcs_exists.c nested/rules/vmcs12.c vmx/vmcs_table.c */
#include "tests/fuzz/fuzz.h"

#include "tests/host/check_world.h"

#define ROUNDS 6 /* of MAX_EDITS edits each */

static bool is_canonical(uint64_t address)
{
    uint64_t upper = address >> 47;

    return upper == 0 || upper == 0x1ffff;
}

/* A field of vmcs12 set, or some of its bits switched; what does not fit its width is dropped, as VMWRITE does. */
static struct edit edit_take(struct fuzz_input *in)
{
    unsigned index = fuzz_take_8(in) % FIELD_COUNT;
    uint8_t how = fuzz_take_8(in);
    uint64_t bits = how & 4 ? BIT(fuzz_take_8(in) % 64) : how & 8 ? fuzz_take_64(in) : fuzz_take_8(in);

    return (struct edit){
        .how = how % 4, /* EDIT_NONE, too */
        .offset = offsetof(struct world, v.field) + 8 * index,
        .bits = bits & vmcs12_width_mask(index),
    };
}

/* Nestor's own safety rests on these, whatever the rows say. */
static void accepted_check(const struct vmcs12 *v, const struct vmx_caps *caps)
{
    FUZZ_CHECK(caps_accepts(caps->pin, v->PIN_CONTROLS));
    FUZZ_CHECK(caps_accepts(caps->proc, v->PROC_CONTROLS));
    FUZZ_CHECK(!(v->PROC_CONTROLS & PROC_SECONDARY) || caps_accepts(caps->proc2, v->PROC2_CONTROLS));
    FUZZ_CHECK(caps_accepts(caps->exit, v->EXIT_CONTROLS));
    FUZZ_CHECK(caps_accepts(caps->entry, v->ENTRY_CONTROLS));
    FUZZ_CHECK((v->HOST_CR0 & caps->cr0_fixed0) == caps->cr0_fixed0);
    FUZZ_CHECK((v->HOST_CR4 & caps->cr4_fixed0) == caps->cr4_fixed0 && !(v->HOST_CR4 & ~caps->cr4_fixed1));
    FUZZ_CHECK(!(v->GUEST_CR4 & ~caps->cr4_fixed1));
    FUZZ_CHECK(v->HOST_CR3 >> caps->address_bits == 0);
    FUZZ_CHECK(is_canonical(v->HOST_RIP) && is_canonical(v->HOST_FS_BASE) && is_canonical(v->HOST_GS_BASE));
    FUZZ_CHECK(is_canonical(v->HOST_TR_BASE) && is_canonical(v->HOST_GDTR_BASE) && is_canonical(v->HOST_IDTR_BASE));
    FUZZ_CHECK(is_canonical(v->HOST_SYSENTER_ESP) && is_canonical(v->HOST_SYSENTER_EIP));
    FUZZ_CHECK(v->HOST_CS_SELECTOR != 0 && v->HOST_TR_SELECTOR != 0);
    FUZZ_CHECK(v->GUEST_ACTIVITY_STATE <= ACTIVITY_WAIT_SIPI);
    if (v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS)
        FUZZ_CHECK(IS_ALIGNED(v->MSR_BITMAP, PAGE_SIZE) && v->MSR_BITMAP >> caps->address_bits == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    static struct world world;
    struct check_context context;
    struct check_result result;

    world_make(&world, fuzz_take_8(&in) % GOOD_COUNT);
    caps12_compute(models[fuzz_take_8(&in) % ARRAY_SIZE(models)], &world.caps);
    for (unsigned round = 0; round < ROUNDS && in.size; round++) {
        struct edit edits[MAX_EDITS];

        for (unsigned i = 0; i < MAX_EDITS; i++)
            edits[i] = edit_take(&in);
        world_edit(&world, edits);
    }
    context = world_context(&world);
    result = check_entry(&world.v, &context);
    if (result.kind == CHECK_OK)
        accepted_check(&world.v, &world.caps);
    else
        FUZZ_CHECK(result.rule && result.citation);
    return 0;
}
