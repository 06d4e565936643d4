#include "guests/diff/l1_state.h"

#include "guests/diff/rand.h"
#include "guests/diff/transcript.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/vmx.h"

#define TSS_BUSY_BYTE (SEL_TSS + 5)
#define TYPE_TSS_AVAILABLE 0x89

static const uint32_t msrs[] = {
    IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_PAT,     IA32_EFER,           IA32_STAR,    IA32_LSTAR,
    IA32_CSTAR,       IA32_FMASK,        IA32_FS_BASE,      IA32_GS_BASE, IA32_KERNEL_GS_BASE, IA32_TSC_AUX,
};
static const char *const msr_names[] = {"sysenter_cs", "sysenter_esp", "sysenter_eip", "pat",   "efer",
                                        "star",        "lstar",        "cstar",        "fmask", "fs_base",
                                        "gs_base",     "kernel_gs",    "tsc_aux"};
static uint64_t values[ARRAY_SIZE(msrs)];
static unsigned n_msrs = ARRAY_SIZE(msrs);
static bool has_tsc_aux;

struct l1_state l1_state;

void l1_state_init(void)
{
    l1_state = (struct l1_state){cpu_read_cr0(), cpu_read_cr3(), cpu_read_cr4(), cpu_rdmsr(IA32_EFER)};
    has_tsc_aux = cpu_cpuid(0x80000001, 0).edx & BIT(27);
    n_msrs = ARRAY_SIZE(msrs) - (has_tsc_aux ? 0 : 1);
    for (unsigned i = 0; i < n_msrs; i++)
        values[i] = cpu_rdmsr(msrs[i]);
}

uint32_t l1_state_msr_pick(void)
{
    return msrs[rand_below(n_msrs)];
}

static void report_descriptors(void)
{
    struct table_register gdtr, idtr;
    uint16_t task, ldtr, cs, ss, ds, es, fs, gs;

    asm volatile("sgdt %0; sidt %1; str %2; sldt %3" : "=m"(gdtr), "=m"(idtr), "=r"(task), "=r"(ldtr));
    asm volatile("mov %%cs, %0; mov %%ss, %1; mov %%ds, %2" : "=r"(cs), "=r"(ss), "=r"(ds));
    asm volatile("mov %%es, %0; mov %%fs, %1; mov %%gs, %2" : "=r"(es), "=r"(fs), "=r"(gs));
    tr("l1_gdtr", gdtr.base);
    tr("l1_gdtr_limit", gdtr.limit);
    tr("l1_idtr", idtr.base);
    tr("l1_idtr_limit", idtr.limit);
    const uint64_t selectors[] = {es, cs, ss, ds, fs, gs, ldtr, task};
    tr_list("l1_sel", selectors, ARRAY_SIZE(selectors));
}

void l1_state_report(void)
{
    tr("l1_cr0", cpu_read_cr0());
    tr("l1_cr3", cpu_read_cr3());
    tr("l1_cr4", cpu_read_cr4());
    tr("l1_dr7", cpu_read_dr7());
    for (unsigned i = 0; i < n_msrs; i++)
        tr(msr_names[i], cpu_rdmsr(msrs[i]));
    report_descriptors();
}

static void restore_tables(void)
{
    struct table_register gdtr = {SEL_OTHER_TSS + 7, desc_gdt_base()};
    struct table_register idtr = {0xfff, desc_idt_base()};

    ((volatile uint8_t *)desc_gdt_base())[TSS_BUSY_BYTE] = TYPE_TSS_AVAILABLE;
    asm volatile("lgdt %0; lidt %1; ltr %w2" : : "m"(gdtr), "m"(idtr), "r"(SEL_TSS));
    asm volatile("mov %0, %%ss; mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs" : : "r"(SEL_DATA) : "memory");
}

void l1_state_restore(void)
{
    restore_tables();
    cpu_write_cr0(l1_state.cr0);
    cpu_write_cr3(l1_state.cr3);
    cpu_write_cr4(l1_state.cr4);
    for (unsigned i = 0; i < n_msrs; i++)
        cpu_wrmsr(msrs[i], values[i]);
}
