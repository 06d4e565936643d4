; From a multiboot1 loader (32-bit protected mode, paging off) to guest_main() in long mode, with the lower 4 GiB mapped
; one to one in 2 MiB pages that user mode may touch too.
%include "guests/lib/long_mode.inc"
bits 32
default abs

MULTIBOOT_MAGIC equ 0x1badb002
MULTIBOOT_FLAGS equ 7                   ; modules on page boundaries, memory information, a screen wanted
PTE_TABLE equ 7                         ; present, writable, user
PTE_LARGE equ 0x87

section .multiboot progbits alloc noexec nowrite align=4
        dd MULTIBOOT_MAGIC
        dd MULTIBOOT_FLAGS
        dd -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
        times 5 dd 0                    ; addresses, which are in the ELF header
        dd 1, 80, 25, 0                 ; VGA's text; by UEFI GRUB gives pixels then, and without the wish nothing

section .text
global entry32
extern guest_start

entry32:
        cld
        cli
        mov esp, boot_stack_top
        mov [multiboot_magic], eax
        mov [multiboot_info], ebx
        call build_page_tables
        PAGING_ON
        lgdt [boot_gdtr]
        jmp CODE64:entry64

; Four page directories in a row cover 4 GiB: 2048 entries of 2 MiB.
build_page_tables:
        mov dword [boot_pml4], boot_pdpt + PTE_TABLE
        mov eax, boot_pd + PTE_TABLE
        xor ecx, ecx
.pdpt:  mov [boot_pdpt + ecx * 8], eax
        add eax, 4096
        inc ecx
        cmp ecx, 4
        jb .pdpt
        mov eax, PTE_LARGE
        xor ecx, ecx
.pd:    mov [boot_pd + ecx * 8], eax
        add eax, 2 << 20
        inc ecx
        cmp ecx, 2048
        jb .pd
        ret

bits 64
entry64:
        mov ax, DATA64
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        mov rsp, boot_stack_top
        xor ebp, ebp
        mov edi, [multiboot_magic]
        mov esi, [multiboot_info]
        call guest_start
.hang:  hlt
        jmp .hang

section .data
align 8
boot_gdt:
        dq 0
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00cf93000000ffff           ; DATA64
boot_gdtr:
        dw $ - boot_gdt - 1
        dd boot_gdt

section .bss
alignb 4096
global boot_pml4
boot_pml4: resb 4096
boot_pdpt: resb 4096
boot_pd:   resb 4 * 4096
boot_stack: resb 65536
boot_stack_top:
multiboot_magic: resd 1
multiboot_info: resd 1
