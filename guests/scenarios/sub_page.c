/* Sub-page write permissions: stores to 128 bytes of a page that is not writable as a whole. */
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/shadow.h"

#define WINDOW GIB
#define SUB_PAGE 128u
#define VALID BIT(0)
#define QUAL_MISS BIT(11)
#define PERMITS(n) BIT(2 * (n))
#define PAGES 3
#define VECTOR_TEST 0x50

struct sub_paged {
    struct vm vm;
    uint64_t *sppt;
    uint64_t *page[PAGES]; /* at WINDOW */
};

static volatile uint64_t *volatile l2_place;

static void l2_store(void)
{
    *l2_place = 0x2222;
}

static void l2_load(void)
{
    l2_value = *l2_place;
}

/* The same instruction goes on from one sub-page to the next. */
static void l2_fill(void)
{
    uint64_t count = 2 * SUB_PAGE / 8;
    volatile uint64_t *to = l2_place;

    asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0x3333) : "memory");
}

static void invept(void)
{
    struct inv_descriptor descriptor = {.low = vmx_get(EPT_POINTER)};

    REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &descriptor), 0);
}

/* The entry of SPPT for an address; level 1 is the vector. */
static uint64_t *sppt_at(uint64_t *sppt, uint64_t address, unsigned level)
{
    uint64_t *table = sppt;

    for (unsigned at = 4; at > level; at--) {
        uint64_t *entry = &table[address >> (12 + 9 * (at - 1)) & 511];
        if (!*entry)
            *entry = (uint64_t)page_alloc() | VALID;
        table = (uint64_t *)(*entry & PAGING_ADDRESS);
    }
    return &table[address >> (12 + 9 * (level - 1)) & 511];
}

/* The same for a page of the window. */
static uint64_t *sppt_entry(uint64_t *sppt, unsigned page, unsigned level)
{
    return sppt_at(sppt, WINDOW + page * PAGE_SIZE, level);
}

static uint64_t *entry_of(struct sub_paged *s, unsigned page)
{
    return paging_entry(s->vm.ept, WINDOW + page * PAGE_SIZE, PAGE_SIZE);
}

static void give_pages(struct sub_paged *s)
{
    s->sppt = page_alloc();
    for (unsigned i = 0; i < PAGES; i++) {
        s->page[i] = page_alloc();
        *entry_of(s, i) = (uint64_t)s->page[i] | EPT_R | EPT_SUB_PAGE | EPT_WB;
        *sppt_entry(s->sppt, i, 1) = 0;
    }
    vmx_set(SPPTP, (uint64_t)s->sppt);
    vm_secondary_set((uint32_t)PROC2_SPP);
}

static void start(struct sub_paged *s)
{
    vm_start(&s->vm, l2_store, VM_EPT);
    give_pages(s);
}

static void run(struct sub_paged *s, void (*code)(void), uint64_t address)
{
    vm_set_code(&s->vm, code);
    l2_place = (volatile uint64_t *)address;
}

static void done(struct sub_paged *s, void (*code)(void), uint64_t address)
{
    run(s, code, address);
    EXPECT_DONE(&s->vm);
}

static void expect_refused(struct sub_paged *s, uint64_t address)
{
    EXPECT_EXIT(&s->vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(s->vm.exit.qualification,
             EPT_QUAL_WRITE | EPT_QUAL_ALLOWED_READ | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | vmx_ept_advanced());
    CHECK_EQ(s->vm.exit.gpa, address);
    CHECK_EQ(s->vm.exit.gla, address);
}

static void expect_event(struct sub_paged *s, uint64_t qualification, uint64_t address)
{
    EXPECT_EXIT(&s->vm, EXIT_SPP);
    CHECK_EQ(s->vm.exit.qualification, qualification);
    CHECK_EQ(s->vm.exit.gpa, address);
    CHECK_EQ(s->vm.exit.gla, address);
    CHECK_EQ(s->vm.exit.idt_info & INTR_VALID, 0);
}

static void stores(void)
{
    struct sub_paged s;

    start(&s);
    *sppt_entry(s.sppt, 0, 1) = PERMITS(1) | PERMITS(31);
    *sppt_entry(s.sppt, 1, 1) = PERMITS(0);
    done(&s, l2_load, WINDOW);
    done(&s, l2_store, WINDOW + SUB_PAGE);
    done(&s, l2_store, WINDOW + 2 * SUB_PAGE - 8);
    done(&s, l2_store, WINDOW + 31 * SUB_PAGE);
    done(&s, l2_store, WINDOW + PAGE_SIZE + 8);
    CHECK_EQ(s.page[0][SUB_PAGE / 8], 0x2222);
    CHECK_EQ(s.page[0][2 * SUB_PAGE / 8 - 1], 0x2222);
    CHECK_EQ(s.page[0][31 * SUB_PAGE / 8], 0x2222);
    CHECK_EQ(s.page[1][1], 0x2222);
    for (unsigned i = 0; i < 3; i++) {
        static const uint64_t places[] = {WINDOW + SUB_PAGE - 8, WINDOW + 2 * SUB_PAGE, WINDOW + PAGE_SIZE + SUB_PAGE};
        run(&s, l2_store, places[i]);
        expect_refused(&s, places[i]);
        expect_refused(&s, places[i]);
    }
    CHECK_EQ(s.page[0][2 * SUB_PAGE / 8], 0);
    *sppt_entry(s.sppt, 1, 1) |= PERMITS(1);
    invept();
    EXPECT_DONE(&s.vm);
    CHECK_EQ(s.page[1][SUB_PAGE / 8], 0x2222);
}

/* Permissions that L1 takes back. */
static void taken_away(void)
{
    struct sub_paged s;

    start(&s);
    *sppt_entry(s.sppt, 0, 1) = PERMITS(0) | PERMITS(1);
    done(&s, l2_fill, WINDOW);
    CHECK_EQ(s.page[0][2 * SUB_PAGE / 8 - 1], 0x3333);
    *sppt_entry(s.sppt, 0, 1) = PERMITS(0);
    invept();
    done(&s, l2_store, WINDOW);
    run(&s, l2_fill, WINDOW);
    expect_refused(&s, WINDOW + SUB_PAGE);
    CHECK_EQ(s.vm.regs[RCX], SUB_PAGE / 8);
    *entry_of(&s, 0) &= ~EPT_SUB_PAGE;
    invept();
    run(&s, l2_store, WINDOW);
    expect_refused(&s, WINDOW);
    *entry_of(&s, 0) |= EPT_W;
    EXPECT_DONE(&s.vm);
    CHECK_EQ(s.page[0][0], 0x2222);
}

/* An entry that is not valid, at each level, and L1 that mends it. */
static void misses(void)
{
    struct sub_paged s;

    start(&s);
    *sppt_entry(s.sppt, 0, 1) = PERMITS(3);
    for (unsigned level = 4; level > 1; level--) {
        *sppt_entry(s.sppt, 0, level) ^= VALID;
        invept();
        run(&s, l2_store, WINDOW + 3 * SUB_PAGE + 16);
        expect_event(&s, QUAL_MISS, WINDOW + 3 * SUB_PAGE + 16);
        *sppt_entry(s.sppt, 0, level) ^= VALID;
        EXPECT_DONE(&s.vm);
        CHECK_EQ(s.page[0][3 * SUB_PAGE / 8 + 2], 0x2222);
        s.page[0][3 * SUB_PAGE / 8 + 2] = 0;
    }
    done(&s, l2_load, WINDOW + PAGE_SIZE);
}

static void misconfigured(void)
{
    struct sub_paged s;
    uint64_t *vector;

    start(&s);
    vector = sppt_entry(s.sppt, 0, 1);
    for (unsigned level = 4; level > 1; level--)
        for (unsigned i = 0; i < 4; i++) {
            static const uint64_t wrong[] = {BIT(1), BIT(11), BIT(51), BIT(63)};
            *sppt_entry(s.sppt, 0, level) ^= wrong[i];
            *vector = PERMITS(0);
            invept();
            run(&s, l2_store, WINDOW);
            expect_event(&s, 0, WINDOW);
            *sppt_entry(s.sppt, 0, level) ^= wrong[i];
            EXPECT_DONE(&s.vm);
        }
    for (unsigned bit = 1; bit < 64; bit += 2) {
        *vector = PERMITS(0) | BIT(bit);
        invept();
        run(&s, l2_store, WINDOW);
        expect_event(&s, 0, WINDOW);
    }
}

/* Stores that the tables have no say in. */
static void not_eligible(void)
{
    struct sub_paged s;
    uint64_t *large;

    start(&s);
    *sppt_entry(s.sppt, 0, 1) = *sppt_entry(s.sppt, 1, 1) = *sppt_entry(s.sppt, 2, 1) = 0x5555555555555555;
    *entry_of(&s, 0) ^= EPT_SUB_PAGE;
    *entry_of(&s, 1) ^= EPT_R | EPT_X;
    run(&s, l2_store, WINDOW);
    expect_refused(&s, WINDOW);
    if (vmx_ept_vpid_cap() & EPT_CAP_EXEC_ONLY) {
        run(&s, l2_store, WINDOW + PAGE_SIZE);
        EXPECT_EXIT(&s.vm, EXIT_EPT_VIOLATION);
        CHECK_EQ(s.vm.exit.qualification & (EPT_RWX * EPT_QUAL_ALLOWED_READ), EPT_QUAL_ALLOWED_EXEC);
    }
    done(&s, l2_store, WINDOW + 2 * PAGE_SIZE);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_SPP);
    run(&s, l2_store, WINDOW + 2 * PAGE_SIZE);
    expect_refused(&s, WINDOW + 2 * PAGE_SIZE);
    vm_secondary_set((uint32_t)PROC2_SPP);
    EXPECT_DONE(&s.vm);
    large = paging_entry(s.vm.ept, 2 * GIB, LARGE_2M);
    *large = (*large & ~EPT_RWX) | EPT_R | EPT_SUB_PAGE;
    invept();
    run(&s, l2_store, 2 * GIB);
    expect_refused(&s, 2 * GIB);
}

/* Where a table above forbids all stores, and where the page is writable in spite of the bit. */
static void table_and_page(void)
{
    struct sub_paged s;
    uint64_t *table;

    start(&s);
    *sppt_entry(s.sppt, 0, 1) = PERMITS(0);
    table = paging_entry(s.vm.ept, WINDOW, LARGE_2M);
    *table ^= EPT_W;
    *entry_of(&s, 0) |= EPT_W;
    invept();
    done(&s, l2_store, WINDOW);
    run(&s, l2_store, WINDOW + SUB_PAGE);
    expect_refused(&s, WINDOW + SUB_PAGE);
    *table ^= EPT_W;
    invept();
    EXPECT_DONE(&s.vm);
    CHECK_EQ(s.page[0][SUB_PAGE / 8], 0x2222);
}

/* A store that the permissions let through makes the page dirty, and is logged. */
static void dirty_flags(void)
{
    struct sub_paged s;
    uint64_t *log = NULL;

    start(&s);
    for (uint64_t address = 0; address < 4 * GIB; address += LARGE_2M)
        *paging_entry(s.vm.ept, address, LARGE_2M) |= EPT_ACCESSED | EPT_DIRTY;
    *sppt_entry(s.sppt, 0, 1) = PERMITS(0);
    vmx_set(EPT_POINTER, ept_pointer(s.vm.ept, true));
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_PML)) {
        log = page_alloc();
        vmx_set(PML_ADDRESS, (uint64_t)log);
        vmx_set(PML_INDEX, 511);
        vm_secondary_set((uint32_t)PROC2_PML);
    }
    run(&s, l2_store, WINDOW + SUB_PAGE);
    expect_refused(&s, WINDOW + SUB_PAGE);
    done(&s, l2_load, WINDOW);
    CHECK_EQ(*entry_of(&s, 0) & EPT_DIRTY, 0);
    done(&s, l2_store, WINDOW);
    CHECK_EQ(*entry_of(&s, 0) & EPT_DIRTY, EPT_DIRTY);
    if (log) {
        CHECK_EQ(vmx_get(PML_INDEX), 510);
        CHECK_EQ(ALIGN_DOWN(log[511], PAGE_SIZE), WINDOW);
    }
    *entry_of(&s, 0) ^= EPT_DIRTY;
    invept();
    done(&s, l2_store, WINDOW + 8);
    CHECK_EQ(*entry_of(&s, 0) & EPT_DIRTY, EPT_DIRTY);
}

/* Two L2s of the same EPT with tables of their own, turn by turn. */
static void two_tables(void)
{
    struct sub_paged s[2];

    start(&s[0]);
    vm_create(&s[1].vm, l2_store, VM_EPT);
    s[1].vm.ept = s[0].vm.ept;
    vmx_set(EPT_POINTER, ept_pointer(s[0].vm.ept, false));
    give_pages(&s[1]);
    *sppt_entry(s[0].sppt, 0, 1) = PERMITS(0);
    *sppt_entry(s[1].sppt, 0, 1) = PERMITS(1);
    for (unsigned i = 0; i < 6; i++) {
        unsigned own = i & 1;
        vm_load(&s[own].vm);
        done(&s[own], l2_store, WINDOW + own * SUB_PAGE);
        run(&s[own], l2_store, WINDOW + !own * SUB_PAGE);
        expect_refused(&s[own], WINDOW + !own * SUB_PAGE);
    }
}

static void l2_store_and_rdmsr(void)
{
    *(volatile uint64_t *)(WINDOW + ALIGN_DOWN(IA32_SYSENTER_EIP / 8, 8)) = UINT64_MAX;
    asm volatile("rdmsr" : : "c"(IA32_SYSENTER_EIP) : "rax", "rdx", "memory");
}

/* The page is L1's MSR bitmap, which an L0 watches: the permitted store counts, at the next entry at the latest. */
static void in_a_bitmap(void)
{
    struct sub_paged s;
    uint64_t *bits;

    start(&s);
    bits = (uint64_t *)s.vm.msr_bitmap + IA32_SYSENTER_EIP / 64;
    *entry_of(&s, 0) = (uint64_t)s.vm.msr_bitmap | EPT_R | EPT_SUB_PAGE | EPT_WB;
    *sppt_entry(s.sppt, 0, 1) = PERMITS(IA32_SYSENTER_EIP / 8 / SUB_PAGE);
    for (unsigned i = 0; i < 3; i++) {
        *bits = 0;
        run(&s, l2_store_and_rdmsr, WINDOW);
        if (vm_run(&s.vm) == EXIT_RDMSR)
            vm_skip(&s.vm);
        CHECK_EQ(*bits, UINT64_MAX);
        vm_set_code(&s.vm, l2_store_and_rdmsr);
        EXPECT_EXIT_SKIP(&s.vm, EXIT_RDMSR);
        EXPECT_DONE(&s.vm);
        run(&s, l2_store, WINDOW + (IA32_SYSENTER_EIP / 8 / SUB_PAGE + 1) * SUB_PAGE);
        expect_refused(&s, WINDOW + (IA32_SYSENTER_EIP / 8 / SUB_PAGE + 1) * SUB_PAGE);
    }
}

static void l2_nothing(void)
{
}

static void inject(uint32_t info)
{
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(ENTRY_INTERRUPTION_INFO, info);
}

/* The stack of an event's delivery has sub-page permissions: it goes on after L1's exit, and after none. */
static void during_delivery(void)
{
    const uint32_t event = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
    struct sub_paged s;
    uint64_t stack, *entry;

    start(&s);
    trap_count[VECTOR_TEST] = 0;
    vm_set_code(&s.vm, l2_nothing);
    stack = vmx_get(GUEST_RSP) - 8;
    entry = paging_entry(s.vm.ept, stack, PAGE_SIZE);
    *entry = (*entry & ~EPT_W) | EPT_SUB_PAGE;
    *sppt_at(s.sppt, stack, 1) = 0x5555555555555555;
    *sppt_at(s.sppt, stack, 2) ^= VALID;
    invept();
    inject(event);
    EXPECT_EXIT(&s.vm, EXIT_SPP);
    CHECK_EQ(s.vm.exit.qualification, QUAL_MISS);
    CHECK_EQ(s.vm.exit.idt_info, event);
    CHECK_EQ(ALIGN_DOWN(s.vm.exit.gpa, PAGE_SIZE), ALIGN_DOWN(stack, PAGE_SIZE));
    *sppt_at(s.sppt, stack, 2) ^= VALID;
    for (unsigned i = 1; i < 4; i++) {
        vm_set_code(&s.vm, l2_nothing);
        inject(event);
        EXPECT_DONE(&s.vm);
        CHECK_EQ(trap_count[VECTOR_TEST], i);
        invept();
    }
}

static void l2_vmread_memory(void)
{
    asm volatile("vmread %0, (%1)" : : "r"((uint64_t)GUEST_RSP), "r"(l2_place) : "cc", "memory");
}

/* A store that an L0 may do in L2's place. */
static void of_vmread(void)
{
    struct shadowed s;
    struct sub_paged p;
    uint64_t places[] = {WINDOW + SUB_PAGE, WINDOW + SUB_PAGE - 8};

    shadow_start(&s);
    p.vm = s.vm;
    give_pages(&p);
    s.vm = p.vm;
    *sppt_entry(p.sppt, 0, 1) = PERMITS(1);
    shadow_done(&s, l2_vmwrite, GUEST_RSP, 0x7777);
    l2_place = (uint64_t *)places[0];
    shadow_done(&s, l2_vmread_memory, GUEST_RSP, 0);
    CHECK_EQ(p.page[0][SUB_PAGE / 8], 0x7777);
    l2_place = (uint64_t *)places[1];
    shadow_run(&s, l2_vmread_memory, GUEST_RSP, 0);
    EXPECT_EXIT(&s.vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(s.vm.exit.gpa, places[1]);
    CHECK_EQ(s.vm.exit.qualification & EPT_RWX, EPT_QUAL_WRITE);
    *sppt_entry(p.sppt, 0, 3) ^= VALID;
    invept();
    EXPECT_EXIT(&s.vm, EXIT_SPP);
    CHECK_EQ(s.vm.exit.qualification, QUAL_MISS);
    CHECK_EQ(s.vm.exit.gpa, places[1]);
    CHECK_EQ(s.vm.exit.gla, places[1]);
    *sppt_entry(p.sppt, 0, 3) ^= VALID;
    *sppt_entry(p.sppt, 0, 1) |= PERMITS(0);
    EXPECT_DONE(&s.vm);
    CHECK_EQ(p.page[0][SUB_PAGE / 8 - 1], 0x7777);
}

static void control_checks(void)
{
    struct sub_paged s;
    uint64_t good;

    start(&s);
    *sppt_entry(s.sppt, 0, 1) = PERMITS(0);
    run(&s, l2_store, WINDOW);
    good = vmx_get(SPPTP);
    vmx_set(SPPTP, good | 8);
    CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(SPPTP, good | BIT(cpu_physical_bits()));
    CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(SPPTP, good);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    CHECK_EQ(vm_enter(&s.vm), VMXERR_ENTRY_CONTROLS);
    vm_secondary_set((uint32_t)PROC2_EPT);
    EXPECT_DONE(&s.vm);
}

static const char *without_sub_pages(void)
{
    if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_SPP))
        return "no sub-page write permissions";
    /* Bochs 2.7, which has no advanced information either. */
    return vmx_ept_vpid_cap() & EPT_CAP_ADVANCED_INFO ? NULL : "this CPU caches what they permit for the whole page";
}

static const char *without_sub_pages_and_shadowing(void)
{
    return without_sub_pages() ? without_sub_pages() : without_shadowing();
}

const struct scenario sub_page_scenarios[] = {
    {"sub-page-stores", stores, without_sub_pages},
    {"sub-page-taken-away", taken_away, without_sub_pages},
    {"sub-page-misses", misses, without_sub_pages},
    {"sub-page-misconfigured", misconfigured, without_sub_pages},
    {"sub-page-not-eligible", not_eligible, without_sub_pages},
    {"sub-page-table-and-page", table_and_page, without_sub_pages},
    {"sub-page-dirty-flags", dirty_flags, without_sub_pages},
    {"sub-page-two-tables", two_tables, without_sub_pages},
    {"sub-page-in-a-bitmap", in_a_bitmap, without_sub_pages},
    {"sub-page-during-delivery", during_delivery, without_sub_pages},
    {"sub-page-of-vmread", of_vmread, without_sub_pages_and_shadowing},
    {"sub-page-control-checks", control_checks, without_sub_pages},
    {0},
};
