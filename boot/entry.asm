; From the multiboot2 loader (32-bit protected mode, paging off) to kernel_main() in long mode at IMAGE_LINK_BASE.
; The loader puts the image where it likes, on a border of 2 MiB: until paging is on, ebp holds that address, and
; nothing in the sections .low_* is reached but through it. The final tables of mm/hpt.c leave these sections out.
%include "boot/multiboot2.inc"
bits 32

PTE_TABLE equ 3                         ; present, writable
PTE_LARGE equ 0x83
LARGE_PAGE equ 2 << 20

section .multiboot2 progbits alloc noexec nowrite align=8
header:
        dd MULTIBOOT2_HEADER_MAGIC
        dd MULTIBOOT2_I386
        dd header_end - header
        dd -(MULTIBOOT2_HEADER_MAGIC + MULTIBOOT2_I386 + (header_end - header))
        dw TAG_HEADER_ALIGN, 0
        dd 8
        dw TAG_HEADER_REQUEST, TAG_OPTIONAL
        dd 8 + 7 * 4
        dd TAG_INFO_FRAMEBUFFER, TAG_INFO_EFI64, TAG_INFO_RSDP_OLD, TAG_INFO_RSDP_NEW, TAG_INFO_EFI_MAP
        dd TAG_INFO_LOAD_BASE, TAG_INFO_COMMAND_LINE
        align 8, db 0
        dw TAG_HEADER_CONSOLE, TAG_OPTIONAL
        dd 12
        dd CONSOLE_EGA_TEXT
        align 8, db 0
        dw TAG_HEADER_FRAMEBUFFER, TAG_OPTIONAL
        dd 20
        dd 1024, 768, 32                ; or another; GRUB for BIOS dies of the modes with a palette that it may choose
        align 8, db 0
        dw TAG_HEADER_RELOCATABLE, TAG_OPTIONAL
        dd 24
        dd IMAGE_LOAD_BASE, 0xffffffff, LARGE_PAGE, PLACE_LOWEST
        dw TAG_HEADER_END, 0
        dd 8
header_end:

section .low_text progbits alloc exec nowrite align=16
global entry32
extern refuse_no_loader, refuse_missing_feature

entry32:
        cld
        cli
        mov ebp, IMAGE_LOAD_BASE        ; of a loader that does not know the tag for it
        cmp eax, MULTIBOOT2_BOOT_MAGIC
        jne .found
        lea edi, [ebx + 8]              ; there is no stack yet
.tag:   cmp dword [edi], TAG_INFO_LOAD_BASE
        je .base
        cmp dword [edi], TAG_INFO_END
        je .found
        mov edx, [edi + 4]
        add edx, 7
        and edx, ~7
        jz .found
        add edi, edx
        jmp .tag
.base:  mov ebp, [edi + 8]
.found: lea esp, [AT(low_stack_top)]
        mov [AT(boot_magic)], eax
        mov [AT(boot_info)], ebx
        cmp eax, MULTIBOOT2_BOOT_MAGIC
        jne refuse_no_loader
        call find_missing_feature
        test eax, eax
        jnz refuse_missing_feature
        call build_page_tables
        mov eax, CR4_BITS
        mov cr4, eax
        lea eax, [AT(boot_pml4)]
        mov cr3, eax
        mov ecx, IA32_EFER
        rdmsr
        or eax, EFER_BITS
        wrmsr
        mov eax, CR0_BITS
        mov cr0, eax
        lea eax, [AT(boot_gdt)]
        mov [AT(boot_gdtr) + 2], eax
        lgdt [AT(boot_gdtr)]
        push CODE64
        lea eax, [AT(entry64)]
        push eax
        retf

; eax: the name of the first feature without which C code cannot start, or 0.
find_missing_feature:
        call has_cpuid
        jz .no_cpuid
        xor eax, eax
        cpuid
        cmp eax, 1
        jb .no_cpuid
        lea esi, [AT(features)]
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
        lea eax, [eax + ebp - IMAGE_LOAD_BASE]
.done:  ret
.no_cpuid:
        lea eax, [AT(name_cpuid)]
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

; The lower 4 GiB at 0 and at DIRECT_MAP_BASE; the image, 1 GiB from its load address on, at IMAGE_LINK_BASE.
build_page_tables:
        lea eax, [AT(boot_pdpt) + PTE_TABLE]
        mov [AT(boot_pml4)], eax
        mov [AT(boot_pml4) + DIRECT_MAP_SLOT * 8], eax
        lea eax, [AT(image_pdpt) + PTE_TABLE]
        mov [AT(boot_pml4) + IMAGE_PML4_SLOT * 8], eax
        lea eax, [AT(image_pd) + PTE_TABLE]
        mov [AT(image_pdpt) + IMAGE_PDPT_SLOT * 8], eax
        lea edi, [AT(boot_pdpt)]
        lea eax, [AT(boot_pd) + PTE_TABLE]
        mov edx, 4096
        mov ecx, 4
        call fill_entries
        lea edi, [AT(boot_pd)]
        mov eax, PTE_LARGE
        mov edx, LARGE_PAGE
        mov ecx, 4 * 512
        call fill_entries
        lea edi, [AT(image_pd)]
        lea eax, [ebp + PTE_LARGE]
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
        mov edi, [rel boot_magic]
        mov esi, [rel boot_info]
        mov edx, ebp
        xor ebp, ebp
        mov rax, kernel_main
        call rax                        ; does not return
.hang:  hlt
        jmp .hang

section .low_rodata progbits alloc noexec nowrite align=8
boot_gdt:
        dq 0
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00cf93000000ffff           ; DATA64
boot_gdt_end:
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

section .low_data progbits alloc noexec write align=8
boot_gdtr:
        dw boot_gdt_end - boot_gdt - 1
        dd 0

section .low_bss nobits alloc noexec write align=4096
boot_pml4: resb 4096
boot_pdpt: resb 4096
boot_pd: resb 4 * 4096
image_pdpt: resb 4096
image_pd: resb 4096
low_stack: resb 4096
low_stack_top:
global boot_info, boot_pml4, boot_pdpt, boot_pd, image_pdpt, image_pd ; boot/in_place.asm makes them in 64 bits
boot_magic: resd 1
boot_info: resd 1
