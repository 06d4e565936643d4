/* sources: nested/ept02/ept12_walk.c */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "nested/ept02/ept12_walk.h"
#include "vmx/vmx_bits.h"

/* All of L1's memory shows the fuzzer's bytes again and again, so that any address leads to entries. */
static uint8_t memory[4096];
static size_t memory_size;

bool gmem_read64_anywhere(const struct gmem *gmem, gpa_t gpa, uint64_t *value)
{
    (void)gmem;
    FUZZ_CHECK(IS_ALIGNED(gpa, 8));
    for (unsigned i = 0; i < 8; i++)
        ((uint8_t *)value)[i] = memory[(gpa + i) % memory_size];
    return true;
}

bool gmem_set_flags64(const struct gmem *gmem, gpa_t gpa, uint64_t old, uint64_t value)
{
    uint64_t now;

    FUZZ_CHECK(IS_ALIGNED(gpa, 8));
    (void)gmem_read64(gmem, gpa, &now);
    if (now != old)
        return false;
    for (unsigned i = 0; i < 8; i++)
        memory[(gpa + i) % memory_size] = (uint8_t)(value >> 8 * i);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct gmem gmem = {0};
    struct fuzz_input in = {data, size};
    uint8_t offered = fuzz_take_8(&in);
    const struct vmx_caps caps = {
        .ept_vpid =
            (offered & 1 ? EPT_CAP_EXEC_ONLY : 0) | (offered & 2 ? EPT_CAP_2M : 0) | (offered & 4 ? EPT_CAP_1G : 0),
        .address_bits = 32 + fuzz_take_8(&in) % 17,
    };
    uint64_t eptp12 = fuzz_take_64(&in) & ~(uint64_t)EPTP_AD, gpa2 = fuzz_take_64(&in);
    const struct ept12_rules rules = ept12_rules_from(&caps, eptp12);
    uint64_t access = fuzz_take_8(&in) * 0x81 & ept12_rights(eptp12); /* bit 3 is EPT_XU */
    struct ept12_walk walk, other;

    memory_size = MIN(in.size, sizeof memory);
    if (memory_size == 0)
        return 0;
    memcpy(memory, in.data, memory_size);

    walk = ept12_walk(&gmem, &rules, eptp12, gpa2, access, false);
    FUZZ_CHECK(memcmp(memory, in.data, memory_size) == 0); /* without EPTP_AD nothing is written */
    FUZZ_CHECK(walk.kind <= EPT12_WALK_MISCONFIG);
    FUZZ_CHECK((walk.permissions & ~ept12_rights(eptp12)) == 0);
    FUZZ_CHECK(walk.level >= 1 && walk.level <= 4);
    if (walk.kind == EPT12_WALK_OK) {
        FUZZ_CHECK(walk.level <= 3 && gpa2 >> 48 == 0);
        FUZZ_CHECK((walk.level < 2 || rules.pages_2m || rules.pages_1g) && (walk.level < 3 || rules.pages_1g));
        FUZZ_CHECK((access & ~walk.permissions) == 0);
        FUZZ_CHECK(!(walk.permissions & EPT_W) || (walk.permissions & EPT_R));
        FUZZ_CHECK((walk.gpa1 & PAGE_MASK) == (gpa2 & PAGE_MASK) && walk.gpa1 >> rules.address_bits == 0);
        FUZZ_CHECK(walk.memtype <= 6 && walk.memtype != 2 && walk.memtype != 3);
        /* Less access is granted as well, and leads to the same place. */
        other = ept12_walk(&gmem, &rules, eptp12, gpa2, access & (access - 1), false);
        FUZZ_CHECK(other.kind == EPT12_WALK_OK && other.gpa1 == walk.gpa1);
    }
    /* Setting flags may change what a table that maps itself says; it must end. */
    other = ept12_walk(&gmem, &rules, eptp12 | EPTP_AD, gpa2, access, false);
    FUZZ_CHECK(walk.kind == EPT12_WALK_OK || other.kind == walk.kind);
    return 0;
}
