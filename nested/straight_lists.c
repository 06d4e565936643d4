/* The long way does the same in nested/msr_area.c. All is left out here that is not for a plain MSR: policy, VMCS,
 * rules about what no list may name. A list that cannot be done to its end leaves no trace but what it has stored,
 * which the long way stores again. */
#include "nested/straight_lists.h"

#include "kernel/cmdline.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/safe.h"
#include "kernel/x86.h"
#include "vmx/msr_guest.h"
#include "vmx/straight.h"

#define WORDS (sizeof(struct msr_entry) / sizeof(uint64_t))
_Static_assert(WORDS == 2 && offsetof(struct msr_entry, value) == 8, "a word of index and reserved bits, one of value");

#ifdef CHECKED
#define CHECK_LOAD msr_area_check_load
#define CHECK_STORE msr_area_check_store
#else
#define CHECK_LOAD(vcpu, head, value) ((void)0)
#define CHECK_STORE(vcpu, head, value) ((void)0)
#endif

/* L1 may write it meanwhile. */
static inline uint64_t read_word(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static bool is_plain_list(const struct gmem *gmem, gpa_t list, uint64_t count)
{
    if (count > STRAIGHT_LIST_MAX || list - gmem->main_base >= gmem->main_size - PAGE_SIZE)
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (!msr_is_plain(read_word((const uint64_t *)hpa_to_va(list) + WORDS * i)))
            return false;
    return true;
}
_Static_assert(STRAIGHT_LIST_MAX * sizeof(struct msr_entry) <= PAGE_SIZE, "a list is shorter than a page");

bool straight_lists_are_plain(const struct vcpu *vcpu, const struct vmcs12 *v)
{
    const struct gmem *gmem = &vcpu->vm->gmem;
    if (gmem->main_size < PAGE_SIZE)
        return false;
    return (!v->ENTRY_MSR_LOAD_COUNT || is_plain_list(gmem, v->ENTRY_MSR_LOAD_ADDR, v->ENTRY_MSR_LOAD_COUNT)) &&
           (!v->EXIT_MSR_STORE_COUNT || is_plain_list(gmem, v->EXIT_MSR_STORE_ADDR, v->EXIT_MSR_STORE_COUNT)) &&
           (!v->EXIT_MSR_LOAD_COUNT || is_plain_list(gmem, v->EXIT_MSR_LOAD_ADDR, v->EXIT_MSR_LOAD_COUNT));
}

/* The last first: a list may name an MSR twice. */
static NOINLINE void put_back(struct msr_undo *undo)
{
    while (undo->count > 0) {
        undo->count--;
        wrmsr((uint32_t)undo->was[undo->count].index, undo->was[undo->count].value);
    }
}

/* Loads no further than to the first entry that is not plain, or whose value the CPU refuses. */
static ALWAYS_INLINE uint64_t load_plain(struct vcpu *vcpu, const uint64_t *at, uint64_t count)
{
    struct msr_undo *undo = &vcpu->nested->msr_undo;
    uint64_t left = count, changed = 0;
    for (; left > 0; left--, at += WORDS) {
        uint64_t head = read_word(at), value = read_word(at + 1), old;
        enum msr_plainness plain = msr_is_plain(head);
        if (plain == MSR_NOT_PLAIN)
            break;
        old = rdmsr((uint32_t)head);
        if (old != value || (plain == MSR_PLAIN_ACTS)) {
            undo->was[changed].index = head;
            undo->was[changed].value = old;
            if (!wrmsr_safe_inline((uint32_t)head, value))
                break;
            changed++;
        }
        CHECK_LOAD(vcpu, head, value);
    }
    undo->count = changed;
    return left;
}

static inline bool load_list(struct vcpu *vcpu, gpa_t list, uint64_t count)
{
    if (__builtin_expect(load_plain(vcpu, hpa_to_va(list), count) == 0, 1))
        return true;
    if (!MUTANT(HALF))
        put_back(&vcpu->nested->msr_undo);
    return false;
}

static ALWAYS_INLINE uint64_t store_plain(struct vcpu *vcpu, uint64_t *at, uint64_t count)
{
    uint64_t left = count;
    for (; left > 0; left--, at += WORDS) {
        uint64_t head = read_word(at), value;
        if (!msr_is_plain(head))
            break;
        value = rdmsr((uint32_t)head);
        CHECK_STORE(vcpu, head, value);
        __atomic_store_n(at + 1, value, __ATOMIC_RELAXED);
    }
    (void)vcpu;
    return left;
}

/* Pages may get another leaf by that, so the entry looks again. */
static NOINLINE void tell_watchers(struct vcpu *vcpu, gpa_t first, gpa_t last)
{
    if (MUTANT(UNTOLD))
        return;
    gmem_write_end(&vcpu->vm->gmem, first);
    gmem_write_end(&vcpu->vm->gmem, last);
    vcpu->attention = true;
    straight_of(vcpu->cpu)->stop = 1;
}

/* Who watches a page is told when all of the list is stored: L1 runs no earlier. */
static ALWAYS_INLINE bool store_list(struct vcpu *vcpu, gpa_t list, uint64_t count)
{
    gpa_t last = list + count * sizeof(struct msr_entry) - 1;
    bool done = store_plain(vcpu, hpa_to_va(list), count) == 0;
    if (__builtin_expect(gmem_may_be_watched(&vcpu->vm->gmem, list, last), 0))
        tell_watchers(vcpu, list, last);
    return done;
}

/* The plan is made anew when L1 goes on, and does not even try if the list is then as it is now. */
static NOINLINE bool give_up(struct vcpu *vcpu)
{
    struct straight_plan *plan = &vcpu->nested->current->plan;
    plan->made = plan->valid = false;
    straight_of(vcpu->cpu)->quiet = 0;
    return false;
}

bool straight_lists_enter(struct vcpu *vcpu)
{
    const struct vmcs12 *v = vcpu->nested->current->v;
    return load_list(vcpu, v->ENTRY_MSR_LOAD_ADDR, v->ENTRY_MSR_LOAD_COUNT) || give_up(vcpu);
}

void straight_lists_undo(struct nested *nested)
{
    if (!MUTANT(LOADED))
        put_back(&nested->msr_undo);
}

bool straight_lists_exit(struct vcpu *vcpu)
{
    const struct vmcs12 *v = vcpu->nested->current->v;
    if (v->EXIT_MSR_STORE_COUNT && !store_list(vcpu, v->EXIT_MSR_STORE_ADDR, v->EXIT_MSR_STORE_COUNT))
        return give_up(vcpu);
    if (v->EXIT_MSR_LOAD_COUNT && !load_list(vcpu, v->EXIT_MSR_LOAD_ADDR, v->EXIT_MSR_LOAD_COUNT))
        return give_up(vcpu);
    return true;
}
