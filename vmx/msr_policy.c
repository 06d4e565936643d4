/* vmx/msr_policy.def is included once for each list that is made of it: the MSRs that L0 keeps, those that it passes
 * although they act in root operation, and an assertion for each row. A reader of the .def file sees the whole
 * policy; nothing here adds a number to it. */
#include "vmx/msr_policy.h"

#include "kernel/string.h"

enum { ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_BOTH = ACCESS_READ | ACCESS_WRITE };

/* The rows of msr_policy.def, sorted by number. */
static const struct msr_policy_row rows[] = {
#define MSR_POLICY(first, last, access, handler, root, reason)                                                         \
    {first,                                                                                                            \
     last,                                                                                                             \
     (ACCESS_##access & ACCESS_READ) != 0,                                                                             \
     (ACCESS_##access & ACCESS_WRITE) != 0,                                                                            \
     MSR_POLICY_##handler,                                                                                             \
     MSR_ROOT_##root,                                                                                                  \
     reason},
#define MSR_PASSED(first, last, root, reason)
#include "vmx/msr_policy.def"
#undef MSR_POLICY
#undef MSR_PASSED
};

/* MSRs that L0 passes although they act in root operation, with the reason why that is safe. */
static const struct msr_passed_row passed_rows[] = {
#define MSR_POLICY(first, last, access, handler, root, reason)
#define MSR_PASSED(first, last, root, reason) {first, last, MSR_ROOT_##root, reason},
#include "vmx/msr_policy.def"
#undef MSR_POLICY
#undef MSR_PASSED
};

/* A row outside the bitmap's ranges, or across the end of one, would not be kept. */
#define MSR_PASSED(first, last, root, reason)
#define MSR_POLICY(first, last, access, handler, root, reason)                                                         \
    _Static_assert(                                                                                                    \
        (first) <= (last) && (first) / MSR_BITMAP_RANGE == (last) / MSR_BITMAP_RANGE &&                                \
            ((first) < MSR_BITMAP_RANGE || (first) / MSR_BITMAP_RANGE == MSR_BITMAP_HIGH_BASE / MSR_BITMAP_RANGE),     \
        "MSR policy row lies in neither range");
#include "vmx/msr_policy.def"
#undef MSR_POLICY
#undef MSR_PASSED

/* L0's page: a bit for each access that must exit, whoever makes it. */
void msr_policy_build(uint8_t *bitmap)
{
    memset(bitmap, 0, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (uint32_t msr = rows[i].first; msr <= rows[i].last; msr++) {
            if (rows[i].read)
                msr_bitmap_set(bitmap, msr, MSR_READ);
            if (rows[i].write)
                msr_bitmap_set(bitmap, msr, MSR_WRITE);
        }
    }
}

bool msr_policy_watches(uint32_t msr)
{
#define MSR_POLICY(first, last, access, handler, root, reason)
#define MSR_PASSED(first, last, root, reason)
#define MSR_WATCHED(first, last, reason)                                                                               \
    if (msr >= (first) && msr <= (last))                                                                               \
        return true;
#include "vmx/msr_policy.def"
#undef MSR_POLICY
#undef MSR_PASSED
    return false;
}

bool msr_policy_is_plain(uint32_t msr)
{
#define MSR_POLICY(first, last, access, handler, root, reason)
#define MSR_PASSED(first, last, root, reason)
#define MSR_PLAIN(first, last, again, which)                                                                           \
    if (msr >= (first) && msr <= (last))                                                                               \
        return true;
#include "vmx/msr_policy.def"
#undef MSR_POLICY
#undef MSR_PASSED
    return false;
}

void msr_policy_build_l1(uint8_t *bitmap, const uint8_t *l0)
{
    memcpy(bitmap, l0, PAGE_SIZE);
    for (uint32_t msr = 0; msr < MSR_BITMAP_RANGE; msr++) {
        if (msr_policy_watches(msr))
            msr_bitmap_set(bitmap, msr, MSR_WRITE);
        if (msr_policy_watches(MSR_BITMAP_HIGH_BASE + msr))
            msr_bitmap_set(bitmap, MSR_BITMAP_HIGH_BASE + msr, MSR_WRITE);
    }
}

/* The rows are sorted: halves. */
const struct msr_policy_row *msr_policy_find(uint32_t msr, enum msr_access access)
{
    const struct msr_policy_row *low = rows;

    for (unsigned left = ARRAY_SIZE(rows); left > 1; left -= left / 2)
        if (low[left / 2].first <= msr)
            low += left / 2;
    if (msr < low->first || msr > low->last || !(access == MSR_READ ? low->read : low->write))
        return NULL;
    return low;
}

const struct msr_policy_row *msr_policy_rows(unsigned *count)
{
    *count = ARRAY_SIZE(rows);
    return rows;
}

const struct msr_passed_row *msr_passed_rows(unsigned *count)
{
    *count = ARRAY_SIZE(passed_rows);
    return passed_rows;
}
