; From the multiboot2 loader (32-bit protected mode, paging off) to kernel_main() in long mode at IMAGE_LINK_BASE.
; The sections .low_* are linked where they are loaded; the final tables of mm/hpt.c leave them out.
%include "boot/multiboot2.inc"
bits 32

MSR_EFER equ 0xc0000080
EFER_BITS equ 1 << 8 | 1 << 11          ; LME, NXE
CR0_BITS equ 0x80010033                 ; PG, WP, NE, ET, MP, PE
CR4_BITS equ 1 << 5                     ; PAE
PTE_TABLE equ 3                         ; present, writable
PTE_LARGE equ 0x83
LARGE_PAGE equ 2 << 20
DIRECT_MAP_SLOT equ 256                 ; of DIRECT_MAP_BASE 0xffff800000000000 in the PML4
IMAGE_PML4_SLOT equ 511                 ; of IMAGE_LINK_BASE 0xffffffff80000000
IMAGE_PDPT_SLOT equ 510
IMAGE_LOAD_BASE equ 0x200000
CODE64 equ 0x08                         ; as in kernel/desc.h
DATA64 equ 0x10

section .multiboot2 progbits alloc noexec nowrite align=8
header:
        dd MULTIBOOT2_HEADER_MAGIC
        dd MULTIBOOT2_I386
        dd header_end - header
        dd -(MULTIBOOT2_HEADER_MAGIC + MULTIBOOT2_I386 + (header_end - header))
        dw TAG_HEADER_ALIGN, 0
        dd 8
        dw TAG_HEADER_END, 0
        dd 8
header_end:

section .low_text progbits alloc exec nowrite align=16
global entry32
extern refuse_no_loader, refuse_missing_feature

entry32:
        cld
        cli
        mov esp, low_stack_top
        mov [boot_magic], eax
        mov [boot_info], ebx
        cmp eax, MULTIBOOT2_BOOT_MAGIC
        jne refuse_no_loader
        call find_missing_feature
        test eax, eax
        jnz refuse_missing_feature
        call build_page_tables
        mov eax, CR4_BITS
        mov cr4, eax
        mov eax, boot_pml4
        mov cr3, eax
        mov ecx, MSR_EFER
        rdmsr
        or eax, EFER_BITS
        wrmsr
        mov eax, CR0_BITS
        mov cr0, eax
        lgdt [boot_gdtr]
        jmp CODE64:entry64

; eax: the name of the first feature without which C code cannot start, or 0.
find_missing_feature:
        call has_cpuid
        jz .no_cpuid
        xor eax, eax
        cpuid
        cmp eax, 1
        jb .no_cpuid
        mov esi, features
.next:  mov eax, [esi]
        test eax, eax
        jz .done
        and eax, 0xffff0000             ; the leaf that tells the last one of its range
        cpuid
        cmp eax, [esi]
        jb .missing
        mov eax, [esi]
        cpuid
        mov ecx, [esi + 4]
        bt edx, ecx
        jnc .missing
        add esi, 12
        jmp .next
.missing:
        mov eax, [esi + 8]
.done:  ret
.no_cpuid:
        mov eax, name_cpuid
        ret

; ZF is clear when EFLAGS.ID can be changed.
has_cpuid:
        pushfd
        pop eax
        mov ecx, eax
        xor eax, 1 << 21
        push eax
        popfd
        pushfd
        pop eax
        push ecx
        popfd
        xor eax, ecx
        test eax, 1 << 21
        ret

; The lower 4 GiB at 0 and at DIRECT_MAP_BASE; the image, 1 GiB from IMAGE_LOAD_BASE on, at IMAGE_LINK_BASE.
build_page_tables:
        mov dword [boot_pml4], boot_pdpt + PTE_TABLE
        mov dword [boot_pml4 + DIRECT_MAP_SLOT * 8], boot_pdpt + PTE_TABLE
        mov dword [boot_pml4 + IMAGE_PML4_SLOT * 8], image_pdpt + PTE_TABLE
        mov dword [image_pdpt + IMAGE_PDPT_SLOT * 8], image_pd + PTE_TABLE
        mov edi, boot_pdpt
        mov eax, boot_pd + PTE_TABLE
        mov edx, 4096
        mov ecx, 4
        call fill_entries
        mov edi, boot_pd
        mov eax, PTE_LARGE
        mov edx, LARGE_PAGE
        mov ecx, 4 * 512
        call fill_entries
        mov edi, image_pd
        mov eax, IMAGE_LOAD_BASE + PTE_LARGE
        mov ecx, 512
; ecx entries at edi, from eax on in steps of edx.
fill_entries:
        mov [edi], eax
        add edi, 8
        add eax, edx
        loop fill_entries
        ret

bits 64
extern kernel_main, percpu_boot_stack_top
entry64:
        mov eax, DATA64
        mov ds, eax
        mov es, eax
        mov ss, eax
        xor eax, eax
        mov fs, eax
        mov gs, eax
        lldt ax
        mov rsp, percpu_boot_stack_top
        xor ebp, ebp
        mov edi, [boot_magic]
        mov esi, [boot_info]
        mov rax, kernel_main
        call rax                        ; does not return
.hang:  hlt
        jmp .hang

section .low_rodata progbits alloc noexec nowrite align=8
boot_gdt:
        dq 0
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00cf93000000ffff           ; DATA64
boot_gdtr:
        dw $ - boot_gdt - 1
        dd boot_gdt
; CPUID leaf, bit of EDX, name. Other needs (VMX first of all) are checked in C, which has better words for them.
features:
        dd 0x80000001, 29, name_long_mode
        dd 1, 5, name_msr
        dd 1, 9, name_apic
        dd 0x80000001, 20, name_nx
        dd 0
name_cpuid: db "the CPUID instruction", 0
name_long_mode: db "long mode (64-bit)", 0
name_msr: db "model-specific registers", 0
name_apic: db "a local APIC", 0
name_nx: db "the no-execute page right (NX)", 0

section .low_bss nobits alloc noexec write align=4096
boot_pml4: resb 4096
boot_pdpt: resb 4096
boot_pd: resb 4 * 4096
image_pdpt: resb 4096
image_pd: resb 4096
low_stack: resb 4096
low_stack_top:
global boot_info, boot_pml4
boot_magic: resd 1
boot_info: resd 1
