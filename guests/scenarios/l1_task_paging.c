/* Task switches under paging: CR3, the TSSs' own pages, and tasks at CPL 3 that cannot read them. */
#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/l1_tasks.h"

#define WINDOW 0x70000000u
#define PAGES_4K 1024u
#define PTE_ALL 0x67 /* present, writable, user, accessed, dirty */

static uint32_t word_here __attribute__((aligned(PAGE_SIZE))) = 0x1111;
static uint32_t word_there __attribute__((aligned(PAGE_SIZE))) = 0x2222;

static void use_window(uint32_t *directory, const uint32_t *word)
{
    uint32_t *table = page_alloc();

    table[0] = (address_of(word) & ~0xfffu) | PTE_ALL;
    directory[WINDOW >> 22] = address_of(table) | PTE_ALL;
}

/* The new task has page tables of its own, and its descriptors are read through them. */
static void task_cr3(void)
{
    uint32_t *directory;
    uint32_t main_cr3;

    legacy_reset();
    directory = legacy_tables_32bit();
    use_window(directory, &word_there);
    tasks_make();
    task_window = WINDOW + (address_of(&word_there) & 0xfff);
    use_window(legacy_tables_32bit(), &word_here);
    main_cr3 = legacy_main_tss.cr3 = legacy_control.cr3;
    task_action = ACTION_IRET;
    legacy_run(main_call);
    check_no_trap();
    CHECK_EQ(task_seen.window, word_there);
    CHECK_EQ(task_seen.cr3, address_of(directory));
    CHECK_EQ(task_after.cr3, main_cr3);
    CHECK_EQ(task_after.count, 1);
}

static uint64_t *pae_directory(uint64_t *pointers, uint32_t gva)
{
    return (uint64_t *)(pointers[gva >> 30] & PAGING_ADDRESS);
}

/* The same with the four pointers of PAE paging, which the switch loads. */
static void task_cr3_pae(void)
{
    uint64_t *pointers, *page;

    legacy_reset();
    pointers = legacy_tables_pae();
    page = page_alloc_run(LARGE_2M / PAGE_SIZE, LARGE_2M);
    page[0] = 0x3333;
    pae_directory(pointers, WINDOW)[WINDOW / LARGE_2M % 512] = (uint64_t)page | 0xe7;
    tasks_make();
    task_window = WINDOW;
    (void)legacy_tables_pae();
    legacy_main_tss.cr3 = legacy_control.cr3;
    task_action = ACTION_IRET;
    legacy_run(main_call);
    check_no_trap();
    CHECK_EQ(task_seen.window, 0x3333);
    CHECK_EQ(task_seen.cr3, address_of(pointers));
    CHECK_EQ(task_after.count, 1);
}

/* Splits the page that holds `p` and gives the entry of its 4 KiB page. */
static uint32_t *small_page(uint32_t *directory, const void *p)
{
    uint32_t *entry = &directory[address_of(p) >> 22], *table;

    if (*entry & 0x80) {
        table = page_alloc();
        for (uint32_t i = 0; i < PAGES_4K; i++)
            table[i] = (*entry & 0xffc00000) | i << 12 | PTE_ALL;
        *entry = address_of(table) | PTE_ALL;
    }
    table = (uint32_t *)(uint64_t)(*entry & ~0xfffu);
    return &table[address_of(p) >> 12 & (PAGES_4K - 1)];
}

/* A new TSS that is not there: a page fault of the old task, which nothing of the switch has touched. */
static void task_tss_not_present(void)
{
    struct tss32 *tss;
    uint32_t *directory;

    legacy_reset();
    directory = legacy_tables_32bit();
    tasks_make();
    tss = page_alloc();
    *small_page(directory, tss) = 0;
    task_add_tss(L_TASK, tss, sizeof(*tss), 0x89);
    legacy_run(main_jmp);
    CHECK_EQ(legacy_trap.vector, VECTOR_PF);
    CHECK_EQ(legacy_trap.error, 0);
    CHECK_EQ(legacy_trap.cr2, address_of(tss));
    CHECK_EQ(legacy_trap.eip, address_of(main_jmp_at));
    CHECK_EQ(legacy_trap.tr, L_MAIN_TSS);
    CHECK(task_is_busy(L_MAIN_TSS));
    CHECK(!task_is_busy(L_TASK));
}

/* The processor reads TSS and GDT as a supervisor also when CPL is 3, and across a page border. */
static void task_from_user_mode(void)
{
    uint8_t *pages;
    struct tss32 *handler;
    uint32_t *directory;

    legacy_reset();
    directory = legacy_tables_32bit();
    tasks_make();
    pages = page_alloc_run(2, PAGE_SIZE);
    handler = (struct tss32 *)(pages + PAGE_SIZE - 0x30);
    *handler = handler_tss;
    for (unsigned i = 0; i < 2; i++)
        *small_page(directory, pages + i * PAGE_SIZE) &= ~(uint32_t)PTE_U;
    *small_page(directory, legacy_gdt) &= ~(uint32_t)PTE_U;
    task_add_tss(L_HANDLER, handler, sizeof(*handler), 0x89);
    legacy_gdt[L_GATE / 8] = legacy_gate(GATE_TASK_DPL3, L_HANDLER, 0);
    task_tss.eip = (uint32_t)(uint64_t)task_user_call;
    task_tss.cs = L_USER_CODE;
    task_tss.ss = task_tss.ds = task_tss.es = L_USER_DATA;
    task_far.selector = L_GATE;
    task_back.selector = L_TASK;
    task_action = ACTION_IRET;
    legacy_run(main_jmp_user);
    CHECK_EQ(legacy_trap.vector, L_VECTOR_USER);
    CHECK_EQ(legacy_trap.cs, L_USER_CODE);
    CHECK_EQ(legacy_trap.tr, L_TASK);
    CHECK_EQ(task_seen.count, 1);
    CHECK_EQ(task_seen.tr, L_HANDLER);
    CHECK_EQ(handler->link, L_TASK);
}

const struct scenario l1_task_paging_scenarios[] = {
    {"l1-task-cr3", task_cr3, NULL},
    {"l1-task-cr3-pae", task_cr3_pae, NULL},
    {"l1-task-tss-not-present", task_tss_not_present, NULL},
    {"l1-task-from-user-mode", task_from_user_mode, NULL},
    {NULL, NULL, NULL},
};
