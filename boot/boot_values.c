/* The values that the assembly of boot/ knows by name. Not linked: see kernel/asm_value.h. */
#include "boot/in_place.h"
#include "kernel/asm_value.h"
#include "kernel/desc.h"
#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/version.h"
#include "kernel/x86_bits.h"

static void registers(void)
{
    SAME(IA32_EFER);
    SAME(IA32_FS_BASE);
    SAME(IA32_GS_BASE);
    SAME(EFER_NXE);
    VALUE(EFER_BITS, EFER_LME | EFER_NXE);
    VALUE(CR0_BITS, CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
    VALUE(CR4_BITS, CR4_PAE);
    VALUE(CR0_PG_BIT, __builtin_ctzll(CR0_PG));
    SAME(CR4_CET);
    SAME(CR4_LA57);
    VALUE(CODE64, SELECTOR_CODE);
    VALUE(DATA64, SELECTOR_DATA);
}

/* Of the first tables: entries of a PML4 and of a PDPT. */
static void layout(void)
{
    SAME(IMAGE_LOAD_BASE);
    VALUE(DIRECT_MAP_SLOT, DIRECT_MAP_BASE >> 39 & 511);
    VALUE(IMAGE_PML4_SLOT, IMAGE_LINK_BASE >> 39 & 511);
    VALUE(IMAGE_PDPT_SLOT, IMAGE_LINK_BASE >> 30 & 511);
}

/* Of efi/header.asm. */
static void version(void)
{
    LINE("%%define VERSION '" NESTOR_VERSION "'");
}

static void in_place(void)
{
    VALUE(REFUSED, IN_PLACE_REFUSED);
    MEMBER(S_RSP, struct in_place_processor, state.rsp);
    MEMBER(S_RIP, struct in_place_processor, state.rip);
    MEMBER(S_CR0, struct in_place_processor, state.cr0);
    MEMBER(S_CR3, struct in_place_processor, state.cr3);
    MEMBER(S_CR4, struct in_place_processor, state.cr4);
    MEMBER(S_EFER, struct in_place_processor, state.efer);
    MEMBER(S_GDTR, struct in_place_processor, state.gdtr);
    MEMBER(S_IDTR, struct in_place_processor, state.idtr);
    MEMBER(S_FS_BASE, struct in_place_processor, state.fs_base);
    MEMBER(S_GS_BASE, struct in_place_processor, state.gs_base);
    MEMBER(S_CS, struct in_place_processor, state.cs);
    MEMBER(S_SS, struct in_place_processor, state.ss);
    MEMBER(S_DS, struct in_place_processor, state.ds);
    MEMBER(S_ES, struct in_place_processor, state.es);
    MEMBER(S_FS, struct in_place_processor, state.fs);
    MEMBER(S_GS, struct in_place_processor, state.gs);
    MEMBER(S_LDTR, struct in_place_processor, state.ldtr);
    MEMBER(S_TR, struct in_place_processor, state.tr);
    MEMBER(P_TABLES, struct in_place_processor, tables);
    MEMBER(P_STACK, struct in_place_processor, stack);
    MEMBER(P_CPU, struct in_place_processor, cpu);
    MEMBER(P_MAIN, struct in_place_processor, main);
}

__attribute__((used)) static void values(void)
{
    registers();
    layout();
    in_place();
    version();
}
