/* Violations and misconfigurations of EPT12, said once of each kind, with the entry that caused them. An L1 that
 * builds its first EPT tables sees exit 49 and an address; which of its entries was wrong, and by which rule of the
 * SDM, only the walk knows. The walk is made again for the message, so that the path without a message keeps nothing
 * for it. */
#include "nested/ept_log.h"

#include "kernel/format.h"
#include "kernel/log.h"
#include "nested/nested.h"

#define WHY_SIZE 160

enum cause {
    WRITE_WITHOUT_READ,
    EXECUTE_ONLY,
    MEMORY_TYPE,
    TABLE_BITS,
    PAGE_SIZE_ABSENT,
    PAGE_OFFSET,
    BEYOND_WIDTH,
    CAUSES
};

uint64_t ept_log_misconfigs; /* by any processor */
uint64_t ept_log_violations; /* the same */

/* The entry at which a walk ended. */
struct place {
    struct ept12_walk walk;
    gpa_t gpa1;
    uint64_t entry;
};

/* The walk once more; it sets no flag in EPT12. */
static struct place find(const struct vcpu *vcpu, gpa_t gpa2, uint64_t access)
{
    const struct ept02s *ept02s = &vcpu->nested->ept02s;
    const struct gmem *gmem = ept02s->shared->gmem;
    uint64_t eptp = vcpu->nested->current->eptp12;
    struct place place = {.walk = ept12_walk(gmem, ept02_rules(ept02s, eptp), eptp, gpa2, access, true)};

    place.gpa1 = place.walk.table + 8 * ept_index(gpa2, place.walk.level);
    (void)gmem_read64(gmem, place.gpa1, &place.entry);
    return place;
}

/* One of the processors finds the bit clear: the message appears once. */
static bool first_time(uint64_t *said, unsigned number)
{
    return !(__atomic_fetch_or(said, BIT(number), __ATOMIC_RELAXED) & BIT(number));
}

/* "Not present" and "not allowed" are different mistakes: in the first the entry is 0 in all three rights, in the
 * second some entry above or this one lacks the right that was asked for. */
static NOINLINE void say_violation(const struct vcpu *vcpu, gpa_t gpa2, uint64_t qualification)
{
    uint64_t access = qualification & EPT_RWX;
    struct place place = find(vcpu, gpa2, access);
    const char *name = access & EPT_X ? "fetch" : access & EPT_W ? "write" : "read";

    if (gpa2 >> 48)
        log_info("nested",
                 "L2's %s of gpa2=%lx at rip=%lx: EPT violation: four levels of EPT translate 48 bits; exit 48", name,
                 gpa2, vcpu->exit.rip);
    else
        log_info("nested",
                 "L2's %s of gpa2=%lx at rip=%lx: EPT violation: the level-%u entry at gpa1=%lx of EPT12 (EPTP %lx) is "
                 "%lx: %s; exit 48, qualification %lx",
                 name, gpa2, vcpu->exit.rip, place.walk.level, place.gpa1, vcpu->nested->current->v->EPT_POINTER,
                 place.entry,
                 place.entry & ept12_rights(vcpu->nested->current->eptp12) ? "the way to it does not allow that"
                                                                           : "not present",
                 qualification);
}

/* Violations are the normal way in which a hypervisor fills its tables: a plain load has seen that the kind was not
 * said before. */
void ept_log_violation_any(const struct vcpu *vcpu, gpa_t gpa2, uint64_t qualification)
{
    if (first_time(&ept_log_violations, (unsigned)(qualification & BITS(5, 0))))
        say_violation(vcpu, gpa2, qualification);
}

/* The first rule of SDM 3C 29.3.3.1 "EPT Misconfigurations" that the entry breaks. */
static enum cause cause_of(const struct ept12_rules *rules, uint64_t entry, unsigned level)
{
    bool leaf = level == 1 || (entry & EPT_LARGE);
    uint64_t type = GET(entry, EPT_MEMTYPE);

    if ((entry & EPT_W) && !(entry & EPT_R))
        return WRITE_WITHOUT_READ;
    if (!(entry & EPT_R) && !rules->exec_only)
        return EXECUTE_ONLY;
    if (entry & BITS(51, 12) & ~(BIT(rules->address_bits) - 1))
        return BEYOND_WIDTH;
    if (level > 1 && leaf && !(level == 2 && rules->pages_2m) && !(level == 3 && rules->pages_1g))
        return PAGE_SIZE_ABSENT;
    if (!leaf)
        return TABLE_BITS;
    return type == 2 || type == 3 || type == 7 ? MEMORY_TYPE : PAGE_OFFSET;
}

/* The text of a cause, with the figures of this entry. */
static void explain(char *why, enum cause cause, const struct ept12_rules *rules, const struct place *place)
{
    uint64_t entry = place->entry, address = entry & BITS(51, 12), type = GET(entry, EPT_MEMTYPE);
    uint64_t below = address & (ept_level_size(place->walk.level) - 1),
             beyond = address & ~(BIT(rules->address_bits) - 1);
    uint64_t of_table = entry & BITS(7, 3);
    unsigned level = place->walk.level;

    switch (cause) {
    case WRITE_WITHOUT_READ:
        format_text(why, WHY_SIZE, "W (bit 1) without R (bit 0)");
        return;
    case EXECUTE_ONLY:
        format_text(why, WHY_SIZE, "X without R (bit 0) needs bit 0 of IA32_VMX_EPT_VPID_CAP");
        return;
    case MEMORY_TYPE:
        format_text(why, WHY_SIZE, "memory type %lu (bits 5:3) is reserved: 0 is UC, 6 is WB", type);
        return;
    case TABLE_BITS:
        format_text(why, WHY_SIZE, "reserved bits %lx (of 7:3) in an entry that leads to a table", of_table);
        return;
    case PAGE_SIZE_ABSENT:
        format_text(why, WHY_SIZE, "bit 7 (large page) at level %u needs bit %u of IA32_VMX_EPT_VPID_CAP", level,
                    level == 2 ? 16u : 17u);
        return;
    case PAGE_OFFSET:
        format_text(why, WHY_SIZE, "reserved bits %lx: a page of that level is aligned to its size", below);
        return;
    default:
        format_text(why, WHY_SIZE, "bits %lx lie beyond the physical-address width of %u bits (CPUID 80000008H)",
                    beyond, rules->address_bits);
    }
}

/* Out of the way of the common case, as it needs a buffer. */
static NOINLINE void say_misconfig(const struct vcpu *vcpu, gpa_t gpa2, const struct place *place, enum cause cause)
{
    char why[WHY_SIZE];

    if (!first_time(&ept_log_misconfigs, cause))
        return;
    explain(why, cause, vcpu->nested->ept02s.rules, place);
    log_info("nested",
             "L2's access to gpa2=%lx at rip=%lx: EPT misconfiguration: the level-%u entry at gpa1=%lx of EPT12 "
             "(EPTP %lx) is %lx: %s; exit 49, SDM 3C 29.3.3.1 \"EPT Misconfigurations\"",
             gpa2, vcpu->exit.rip, place->walk.level, place->gpa1, vcpu->nested->current->v->EPT_POINTER, place->entry,
             why);
}

void ept_log_misconfig_any(const struct vcpu *vcpu, gpa_t gpa2, gpa_t table, unsigned level, uint64_t entry)
{
    enum cause cause = cause_of(vcpu->nested->ept02s.rules, entry, level);
    struct place place = {.walk.level = level, .gpa1 = table + 8 * ept_index(gpa2, level), .entry = entry};

    if (!(ept_log_misconfigs & BIT(cause)))
        say_misconfig(vcpu, gpa2, &place, cause);
}
