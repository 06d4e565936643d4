/* sources: vmx/gva.c */
#include "tests/host/gva_fixture.h"

static void test_rights_of_all_levels_count(void **state)
{
    (void)state;
    mode_4level();
    for (unsigned level = 1; level <= 4; level++) {
        map(gva_64, 4, 1, 0x1234000, W | U);
        entry_set(gva_64, level, entry_get(gva_64, level) & ~W);
        expect_gpa(gva_64, GVA_READ | GVA_USER, 0x1234abc);
        expect_fault(gva_64, GVA_WRITE | GVA_USER, PF_PRESENT | PF_WRITE | PF_USER);
        expect_fault(gva_64, GVA_WRITE, PF_PRESENT | PF_WRITE);
        map(gva_64, 4, 1, 0x1234000, W | U);
        entry_set(gva_64, level, entry_get(gva_64, level) & ~U);
        expect_fault(gva_64, GVA_READ | GVA_USER, PF_PRESENT | PF_USER);
        expect_gpa(gva_64, GVA_WRITE, 0x1234abc);
        map(gva_64, 4, 1, 0x1234000, W | U);
        entry_set(gva_64, level, entry_get(gva_64, level) | NX);
        expect_gpa(gva_64, GVA_READ | GVA_USER, 0x1234abc);
        expect_fault(gva_64, GVA_FETCH | GVA_USER, PF_PRESENT | PF_FETCH | PF_USER);
        expect_fault(gva_64, GVA_FETCH, PF_PRESENT | PF_FETCH);
    }
}

static bool reference_allows(uint32_t access, bool user_page, bool writable, bool nx)
{
    bool smap = f.state.cr4 & CR4_SMAP, smep = f.state.cr4 & CR4_SMEP, wp = f.state.cr0 & CR0_WP;
    bool ac = f.state.rflags & RFLAGS_AC, implicit = access & GVA_IMPLICIT;

    if ((access & GVA_USER) && !implicit) {
        if (!user_page)
            return false;
        return access & GVA_FETCH ? !nx : access & GVA_WRITE ? writable : true;
    }
    if (access & GVA_FETCH)
        return !nx && !(user_page && smep);
    if (user_page && smap && (implicit || !ac))
        return false;
    return access & GVA_WRITE ? writable || !wp : true;
}

static void test_all_rights_combinations(void **state)
{
    static const uint32_t kinds[] = {GVA_READ, GVA_WRITE, GVA_FETCH};

    (void)state;
    mode_4level();
    for (unsigned bits = 0; bits < 3 * BIT(9); bits++) {
        bool user_page = bits & 1, writable = bits & 2, nx = bits & 4;
        uint32_t access = kinds[bits >> 9] | (bits & 8 ? GVA_USER : 0) | (bits & 16 ? GVA_IMPLICIT : 0);
        uint32_t code;

        f.state.cr0 = CR0_PE | CR0_PG | (bits & 32 ? CR0_WP : 0);
        f.state.cr4 = CR4_PAE | (bits & 64 ? CR4_SMEP : 0) | (bits & 128 ? CR4_SMAP : 0);
        f.state.rflags = RFLAGS_FIXED1 | (bits & 256 ? RFLAGS_AC : 0);
        map(gva_64, 4, 1, 0x1234000, (user_page ? U : 0) | (writable ? W : 0) | (nx ? NX : 0));
        code = PF_PRESENT | (access & (GVA_WRITE | GVA_FETCH)) | (access & GVA_IMPLICIT ? 0 : access & GVA_USER);
        if (reference_allows(access, user_page, writable, nx))
            expect_gpa(gva_64, access, 0x1234abc);
        else
            expect_fault(gva_64, access, code);
    }
}

static void test_fetch_bit_of_error_code(void **state)
{
    (void)state;
    mode_32bit();
    expect_fault(0x1000, GVA_FETCH, 0);
    f.state.efer = EFER_NXE; /* without PAE it counts for nothing */
    expect_fault(0x1000, GVA_FETCH, 0);
    f.state.cr4 |= CR4_SMEP;
    expect_fault(0x1000, GVA_FETCH, PF_FETCH);
    mode_pae();
    expect_fault(0x1000, GVA_FETCH, PF_FETCH);
    f.state.efer = 0;
    expect_fault(0x1000, GVA_FETCH, 0);
}

static void test_protection_keys(void **state)
{
    (void)state;
    mode_4level();
    for (unsigned key = 0; key < 16; key++) {
        f.state.cr0 |= CR0_WP;
        f.state.cr4 |= CR4_PKE;
        map(gva_64, 4, 1, 0x1234000, W | U);
        entry_set(gva_64, 1, entry_get(gva_64, 1) | (uint64_t)key << 59);
        f.state.pkru = ~(3u << 2 * key);
        expect_gpa(gva_64, GVA_WRITE | GVA_USER, 0x1234abc);
        f.state.pkru = 1u << 2 * key; /* no access */
        expect_fault(gva_64, GVA_READ | GVA_USER, PF_PRESENT | PF_USER | PF_KEY);
        expect_fault(gva_64, GVA_READ, PF_PRESENT | PF_KEY);
        expect_gpa(gva_64, GVA_FETCH | GVA_USER, 0x1234abc);
        f.state.pkru = 2u << 2 * key; /* no writing */
        expect_gpa(gva_64, GVA_READ | GVA_USER, 0x1234abc);
        expect_fault(gva_64, GVA_WRITE | GVA_USER, PF_PRESENT | PF_WRITE | PF_USER | PF_KEY);
        expect_fault(gva_64, GVA_WRITE, PF_PRESENT | PF_WRITE | PF_KEY);
        f.state.cr0 &= ~CR0_WP;
        expect_gpa(gva_64, GVA_WRITE, 0x1234abc);
        expect_fault(gva_64, GVA_WRITE | GVA_USER, PF_PRESENT | PF_WRITE | PF_USER | PF_KEY);
        f.state.pkru = ~0u;
        entry_set(gva_64, 1, entry_get(gva_64, 1) & ~U); /* keys are for user pages */
        expect_gpa(gva_64, GVA_READ, 0x1234abc);
        f.state.cr4 &= ~CR4_PKE;
        entry_set(gva_64, 1, entry_get(gva_64, 1) | U);
        expect_gpa(gva_64, GVA_READ | GVA_USER, 0x1234abc);
    }
}

/* IA32_PKRS judges supervisor pages, and PKRU no longer does anything there. */
static void test_supervisor_protection_keys(void **state)
{
    (void)state;
    mode_4level();
    for (unsigned key = 0; key < 16; key++) {
        f.state.cr0 |= CR0_WP;
        f.state.cr4 |= CR4_PKS | CR4_PKE;
        f.state.pkru = ~0u;
        map(gva_64, 4, 1, 0x1234000, W);
        entry_set(gva_64, 1, entry_get(gva_64, 1) | (uint64_t)key << 59);
        f.state.pkrs = ~(3u << 2 * key);
        expect_gpa(gva_64, GVA_WRITE, 0x1234abc);
        f.state.pkrs = 1u << 2 * key; /* no access */
        expect_fault(gva_64, GVA_READ, PF_PRESENT | PF_KEY);
        expect_gpa(gva_64, GVA_FETCH, 0x1234abc);
        expect_fault(gva_64, GVA_READ | GVA_USER, PF_PRESENT | PF_USER);
        f.state.pkrs = 2u << 2 * key; /* no writing */
        expect_gpa(gva_64, GVA_READ, 0x1234abc);
        expect_fault(gva_64, GVA_WRITE, PF_PRESENT | PF_WRITE | PF_KEY);
        f.state.cr0 &= ~CR0_WP;
        expect_gpa(gva_64, GVA_WRITE, 0x1234abc);
        f.state.pkrs = ~0u;
        f.state.cr4 &= ~CR4_PKS;
        expect_gpa(gva_64, GVA_READ, 0x1234abc);
    }
}

/* By bit 63 alone, with #GP and not #PF: no table is looked at. */
static void test_separation_of_linear_addresses(void **state)
{
    static const struct {
        bool supervisors;
        uint32_t access;
        bool smap, ac, forbidden;
    } rows[] = {
        {true, GVA_READ | GVA_USER, false, false, true},
        {true, GVA_FETCH | GVA_USER, false, false, true},
        {false, GVA_READ | GVA_USER, true, false, false},
        {true, GVA_READ, true, false, false},
        {true, GVA_FETCH, true, false, false},
        {false, GVA_FETCH, false, false, true},
        {false, GVA_FETCH, true, true, true},
        {false, GVA_READ, false, false, false},
        {false, GVA_READ, true, false, true},
        {false, GVA_WRITE, true, true, false},
        {false, GVA_READ | GVA_IMPLICIT, true, true, true},
        {true, GVA_READ | GVA_USER | GVA_IMPLICIT, true, true, false},
    };
    const gva_t high = 0xffff800000000abc;

    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0x1234000, W | U);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct gva_memory memory = {memory_read, NULL, &f};
        struct fault fault;
        gpa_t gpa;
        gva_t gva = rows[i].supervisors ? high : 0x7abc;
        f.state.cr4 = (f.state.cr4 & ~CR4_SMAP) | CR4_LASS | (rows[i].smap ? CR4_SMAP : 0);
        f.state.rflags = rows[i].ac ? RFLAGS_AC : 0;
        bool done = gva_walk(&f.state, &memory, gva, rows[i].access, &gpa, &fault);
        bool forbidden = !done && fault.vector == VECTOR_GP;
        if (forbidden != rows[i].forbidden)
            fail_msg("row %u", i);
        if (forbidden)
            assert_int_equal(fault.error_code, 0);
        f.state.cr4 &= ~CR4_LASS;
        done = gva_walk(&f.state, &memory, gva, rows[i].access, &gpa, &fault);
        assert_true(done || fault.vector == VECTOR_PF);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rights_of_all_levels_count), TEST(test_all_rights_combinations),
        TEST(test_fetch_bit_of_error_code),    TEST(test_protection_keys),
        TEST(test_supervisor_protection_keys), TEST(test_separation_of_linear_addresses),
    };
    return cmocka_run_group_tests_name("gva_rights", tests, NULL, NULL);
}
